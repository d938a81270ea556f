"""One upload by Tencent's own SDK for Python, as its users call it: parts of 1 MiB, five threads."""

import logging
import tempfile
import time
import uuid
from typing import Any, Final

from qcloud_cos import CosConfig, CosS3Client

from tests.bench.doors import MIB, random_bytes

BUCKET: Final = "bench-1250000000"
REGION: Final = "ap-guangzhou"
_OWN_KEY: Final = {"tmp_secret_id": "AKIDbench", "tmp_secret_key": "bench-bench-bench", "session_token": None}


def upload_with_sdk(port: int, key: dict[str, Any] | None, size: int) -> dict[str, Any]:
    """Upload a file of *size* bytes through the COS server at *port*, signed with *key*, an answer of ``/v1/keys``."""
    logging.getLogger("qcloud_cos").setLevel(logging.ERROR)
    key = key or _OWN_KEY
    config = CosConfig(
        Region=REGION,
        SecretId=key["tmp_secret_id"],
        SecretKey=key["tmp_secret_key"],
        Token=key["session_token"],
        Scheme="http",
        IP="127.0.0.1",
        Port=port,
    )
    client = CosS3Client(config, retry=0)
    with tempfile.NamedTemporaryFile(prefix="bench-") as file:
        for _ in range(size // MIB):
            file.write(random_bytes(MIB))
        file.flush()
        started = time.perf_counter()
        client.upload_file(Bucket=BUCKET, Key=f"bench/sdk-{uuid.uuid4().hex}", LocalFilePath=file.name, PartSize=1)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": size, "count": size // MIB}

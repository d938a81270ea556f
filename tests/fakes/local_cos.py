"""A local COS on a real socket, for any test that needs a COS."""

import asyncio
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from gateway.cos.signing import Credentials
from gateway.dev.cos_server import server_config
from gateway.dev.local_cos import LocalCos, LocalCosConfig, create_local_cos
from gateway.domain.objects import Bucket

BUCKET: Final = Bucket("files-1250000000", "ap-guangzhou")
OTHER_BUCKET: Final = Bucket("other-1250000000", "ap-beijing")
KEY: Final = Credentials("AKIDlocalcos0000000000000000000000", "localcossecret000000000000000000")


@dataclass(frozen=True, slots=True)
class RunningCos:
    """A local COS that answers at ``url``; ``app`` is in this process, in a thread of its own."""

    app: LocalCos
    port: int
    data: Path
    buckets: tuple[Bucket, ...]
    key: Credentials

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def path(self, bucket: Bucket, key: str) -> Path:
        """The object's file."""
        found = self.app.objects.find(bucket.name, key)
        if found is None:
            raise FileNotFoundError(key)
        return self.app.objects.path(bucket.name, found)

    def read(self, bucket: Bucket, key: str) -> bytes:
        """The object's bytes, from its file.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return self.path(bucket, key).read_bytes()

    def headers(self, bucket: Bucket, key: str) -> dict[str, str]:
        """The headers that the object was stored with, ACL and grants too, under lower-case names."""
        found = self.app.objects.find(bucket.name, key)
        if found is None:
            raise FileNotFoundError(key)
        return dict(found.headers)

    def keys(self, bucket: Bucket) -> list[str]:
        """The keys of the bucket's objects."""
        return [found.key for found in self.app.objects.all(bucket.name)]

    def fault(self, action: str, **rule: Any) -> None:
        """Make the next call that *rule* meets fail; the fields are those of ``gateway.dev.cos_faults.Fault``."""
        self._control("POST", "faults", {"action": action, **rule})

    def clear_faults(self) -> None:
        """Forget every fault and attempt, and let go of what a fault holds."""
        self._control("DELETE", "faults")

    def journal(self, operation: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """The requests so far, oldest first: those of *operation* whose fields are as given."""
        return _chosen(self._control("GET", "journal?version=-1")["entries"], operation, fields)

    def clear_journal(self) -> None:
        self._control("DELETE", "journal")

    async def until(self, came: Callable[[list[dict[str, Any]]], bool], seconds: float = 10.0) -> list[dict[str, Any]]:
        """Wait until *came* is true of the journal, which has an entry by then, and return it.

        Raises:
            TimeoutError: it was not, for *seconds*.
        """
        version, deadline = -1, time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            path = f"journal?version={version}&seconds={min(left, 1.0)}"
            read = await asyncio.to_thread(self._control, "GET", path)
            version, entries = read["version"], read["entries"]
            if entries and came(entries):
                return list(entries)
        raise TimeoutError(f"not seen in the local COS's journal within {seconds} s")

    def _control(self, method: str, path: str, document: object = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.url}/.local-cos/{path}", body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def open_uploads(self, bucket: Bucket) -> list[str]:
        """The keys of the bucket's open multipart uploads: fragments, if a test ends with any."""
        return [upload.key for upload in self.app.uploads.all(bucket.name)]


def _chosen(entries: list[dict[str, Any]], operation: str | None, fields: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {**fields, "operation": operation} if operation else fields
    return [entry for entry in entries if all(entry[name] == value for name, value in wanted.items())]


@contextmanager
def running_local_cos(
    data: Path,
    *,
    buckets: tuple[Bucket, ...] = (BUCKET, OTHER_BUCKET),
    keys: tuple[Credentials, ...] = (KEY,),
    default_bucket: Bucket | None = BUCKET,
    clock: Callable[[], float] = time.time,
    port: int = 0,
    faults: bool = True,
) -> Iterator[RunningCos]:
    """Start a local COS on 127.0.0.1, its files under *data*; stop it at the end. Port 0 is any free one."""
    app = create_local_cos(LocalCosConfig(data, buckets, keys, default_bucket, clock, faults))
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    server = uvicorn.Server(server_config(app, loop="uvloop", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), name="local-cos", daemon=True)
    thread.start()
    # The listener is open: early connections wait in its backlog until the server takes them.
    running = RunningCos(app, listener.getsockname()[1], data, buckets, keys[0])
    try:
        yield running
    finally:
        if faults:
            running.clear_faults()
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
        assert not thread.is_alive(), "the local COS did not stop"

"""Tencent's own SDKs, and plain signed requests, at the gateway's COS door or straight at the local COS."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qcloud_cos import CosConfig, CosS3Client

from tests.fakes.cos_caller import CosCaller, caller_at
from tests.system.processes import Gateway, LocalCos, free_port
from tests.system.stack import Caller, Stack, good, running_stack
from tests.tools import NODE_FOLDER, require_node_package, require_tool

NODE: Final = "cos-nodejs-sdk-v5"
WX: Final = "cos-wx-sdk-v5"
Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Key:
    """What signs, and where: a key of the gateway's door, or the local COS's own."""

    port: int
    secret_id: str
    secret_key: str
    token: str | None
    bucket: str
    region: str
    start_time: int = 0
    expired_time: int = 0

    def caller(self) -> CosCaller:
        """Sends single requests, signed with this key."""
        return caller_at(self.port, self.bucket, self.region, self.secret_id, self.secret_key, self.token)

    def python_sdk(self, **options: Any) -> Any:
        """Tencent's client for Python; by default it names the bucket in its Host."""
        config = CosConfig(
            Region=self.region,
            SecretId=self.secret_id,
            SecretKey=self.secret_key,
            Token=self.token,
            Scheme="http",
            **(options or {"IP": "127.0.0.1", "Port": self.port}),
        )
        return CosS3Client(config, retry=0)

    def js_sdk(
        self, folder: Path, sdk: str, calls: Iterable[Call], *, together: bool = False, **options: Any
    ) -> list[dict[str, Any]]:
        """What each of *calls* to one of Tencent's clients for JavaScript came to, in a process of their own."""
        require_node_package(sdk)
        given: dict[str, Any] = {"ProgressInterval": 1, **options}
        if sdk == NODE:
            given |= {"Ip": f"127.0.0.1:{self.port}", "Protocol": "http:", "ConfCwd": str(folder)}
        else:
            given |= {"Domain": f"http://127.0.0.1:{self.port}"}
        document: dict[str, Any] = {"sdk": sdk, "options": given, "together": together}
        if self.token is None:
            given |= {"SecretId": self.secret_id, "SecretKey": self.secret_key}
        else:
            document["key"] = {
                "TmpSecretId": self.secret_id,
                "TmpSecretKey": self.secret_key,
                "SecurityToken": self.token,
                "StartTime": self.start_time,
                "ExpiredTime": self.expired_time,
            }
        document["calls"] = [self._listed(*call) for call in calls]
        ran = subprocess.run(
            [require_tool("node"), "cos_sdk.js"],
            cwd=NODE_FOLDER,
            input=json.dumps(document),
            capture_output=True,
            text=True,
            timeout=55,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        results: list[dict[str, Any]] = json.loads(ran.stdout[ran.stdout.index("[{") :])
        return results

    def _listed(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        own = {name: params[name] for name in ("pauseAt",) if name in params}
        sent = {name: value for name, value in params.items() if name not in own}
        return {"method": method, "params": {"Bucket": self.bucket, "Region": self.region, **sent}, **own}


@dataclass(frozen=True, slots=True)
class Door:
    """A stack whose gateway has a COS door."""

    stack: Stack
    port: int

    @property
    def cos(self) -> LocalCos:
        """What stands behind it."""
        return self.stack.cos

    def key(self, caller: Caller, **asked: Any) -> Key:
        """A key that *caller* asks for."""
        return self.issued(good(caller.call("POST", "/v1/keys", json=asked)))

    def issued(self, document: dict[str, Any]) -> Key:
        """The key in an answer of ``POST /v1/keys``."""
        return Key(
            self.port,
            document["tmp_secret_id"],
            document["tmp_secret_key"],
            document["session_token"],
            document["bucket"],
            document["region"],
            document["start_time"],
            document["expired_time"],
        )

    def straight(self) -> Key:
        """The local COS's own key, at the local COS."""
        cos = self.cos
        return Key(cos.port, cos.SECRET_ID, cos.SECRET_KEY, None, cos.BUCKET, cos.REGION)

    def another(self, **settings: str) -> "tuple[Gateway, Door]":
        """One more gateway with a door, before the same COS and Redis."""
        port = free_port()
        gateway = self.stack.start_gateway(cos_listen=f"127.0.0.1:{port}", **settings)
        return gateway, Door(self.stack, port)


@contextmanager
def running_door(folder: Path, **settings: str) -> Iterator[Door]:
    """Start everything, its files in *folder*; end it with the block."""
    port = free_port()
    with running_stack(folder, gateways=1, cos_listen=f"127.0.0.1:{port}", **settings) as stack:
        yield Door(stack, port)

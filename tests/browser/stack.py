"""The whole stack as a user runs it, from outside: `dev` in a process of its own, before a local COS that can fail."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt

from gateway.dev.child import die_with_parent
from tests.fakes.local_cos import BUCKET, RunningCos, running_local_cos

_SECRET: Final = "a secret of the browser tests, and of nothing else"
_READY: Final = re.compile(r"http://[^\s#]+")
_START_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """A gateway at ``url`` that keeps its objects in ``cos``."""

    url: str
    cos: RunningCos

    def token(self, subject: str, *, seconds: int = 600, **policy: Any) -> str:
        """A bearer token for *subject*, good for *seconds*, with the claims of *policy*."""
        now = int(time.time())
        claims = {"sub": subject, "aud": "upload-gateway", "iat": now, "exp": now + seconds, **policy}
        return jwt.encode(claims, _SECRET, algorithm="HS256")

    def tasks(self, token: str) -> list[dict[str, Any]]:
        """What ``GET /v1/tasks`` lists, newest first."""
        tasks: list[dict[str, Any]] = self._ask(token, "v1/tasks")["tasks"]
        return tasks

    def create_batch(self, token: str, *files: dict[str, Any]) -> dict[str, Any]:
        """A batch of *files*, each as ``POST /v1/batches`` takes it, whose bytes nobody sends yet."""
        return self._ask(token, "v1/batches", {"files": files})

    def finish(self, token: str, task: dict[str, Any], data: bytes) -> None:
        """Send every part of *task*, whose file is *data*, and complete it, as another client would."""
        size = task["part_size"]
        for number, start in enumerate(range(0, len(data), size), 1):
            self._send(token, "PUT", f"v1/tasks/{task['id']}/parts/{number}", data[start : start + size])
        self._send(token, "POST", f"v1/tasks/{task['id']}/complete", b"")

    def _ask(self, token: str, path: str, json_body: dict[str, Any] | None = None) -> dict[str, Any]:
        if json_body is None:
            return self._send(token, "GET", path, None)
        return self._send(token, "POST", path, json.dumps(json_body).encode())

    def _send(self, token: str, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data=body, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def stored(self, key: str) -> bytes:
        """The bytes of the object at *key*."""
        return self.cos.read(BUCKET, key)

    def stored_parts(self, key: str) -> list[int]:
        """The numbers of the parts of *key* that COS has acknowledged, in the order they came; twice if sent twice."""
        entries = self.cos.journal("UploadPart", key=key, status=200)
        return [entry["part_number"] for entry in entries]

    def until(self, came: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until *came* is true of COS's journal. In a thread: the browser's own event loop has this one."""
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(self.cos.until(came))).result()


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Start everything with its files in *folder*; end it with the block."""
    with running_local_cos(folder / "cos-data") as cos:
        log = folder / "dev.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "dev"],
                env={**_environment(), **_settings(cos, folder)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=die_with_parent(),
            )
        try:
            yield Stack(_page(process, log), cos)
        finally:
            cos.clear_faults()
            process.terminate()
            process.communicate(timeout=30)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}


def _settings(cos: RunningCos, folder: Path) -> dict[str, str]:
    return {
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_COS_LISTEN": "",
        "GATEWAY_ADMIN_LISTEN": "",
        "GATEWAY_TOKEN_SECRET": _SECRET,
        "GATEWAY_BUCKETS": f"files={BUCKET.name}@{BUCKET.region}",
        "GATEWAY_BUCKET_OPTIONS": "files=*",
        "GATEWAY_COS_ENDPOINT": cos.url,
        "GATEWAY_COS_SECRET_ID": cos.key.secret_id,
        "GATEWAY_COS_SECRET_KEY": cos.key.secret_key,
        "GATEWAY_DATA_DIR": str(folder / "data"),
    }


def _page(process: subprocess.Popen[str], log: Path) -> str:
    """The page's address, which `dev` prints once everything is ready; the test's own time limit is the deadline."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := _READY.search(line):
            return found[0]
    raise RuntimeError(f"dev ended with code {process.wait(_START_SECONDS)}: {log.read_text()}")

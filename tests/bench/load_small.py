"""Small uploads over keep-alive connections, from a client that costs little: one protocol, requests made ahead."""

import asyncio
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import uvloop

from tests.bench.doors import KIB, Door, random_bytes, whole_upload

_FILE_BYTES: Final = 16 * KIB
_KEY_MARK: Final = b"0000000000"


class SmallUploads(asyncio.Protocol):
    """One connection that sends the next request when the answer to the last one is whole."""

    def __init__(self, next_request: Callable[[], bytes | None], success: bytes, ended: asyncio.Future[None]) -> None:
        self._next_request = next_request
        self._success = success
        self._ended = ended
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send_next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not is_whole(self._answer):
            return
        if not self._answer.startswith(self._success):
            self._end(ConnectionError(f"the upload was answered {self._answer[:600]!r}"))
            return
        self._answer = b""
        self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the server closed the connection"))

    def _send_next(self) -> None:
        request = self._next_request()
        if request is None:
            self._end(None)
        else:
            self._transport.write(request)

    def _end(self, failure: Exception | None) -> None:
        if self._ended.done():
            return
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)
        self._transport.close()


def is_whole(answer: bytes | bytearray) -> bool:
    """Whether *answer* holds a response's head and all of its body."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
        if name == b"transfer-encoding":
            return body.endswith(b"0\r\n\r\n")
    return True


def send_small(door: Door, port: int, token: str, *, connections: int, seconds: float) -> dict[str, Any]:
    """Upload 16 KiB files one after another on each connection; all were answered with success when it returns.

    Raises:
        ConnectionError: an upload was refused or its connection lost.
    """
    return uvloop.run(_send_small(door, port, token, connections, seconds))


async def _send_small(door: Door, port: int, token: str, connections: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    upload = whole_upload(door, f"bench/small-{uuid.uuid4().hex}-{_KEY_MARK.decode()}", _FILE_BYTES, token)
    lines = [f"{upload.method} {upload.target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in upload.headers.items())]).encode() + b"\r\n\r\n"
    # Every request has a key of its own; the mark stands in the form or, for a PUT, in the head.
    opening, mark, rest = (head + upload.before).partition(_KEY_MARK)
    rest += random_bytes(_FILE_BYTES) + upload.after
    started = time.perf_counter()
    sent = 0

    def next_request() -> bytes | None:
        nonlocal sent
        if time.perf_counter() - started >= seconds:
            return None
        sent += 1
        return opening + (b"%010d" % sent if mark else b"") + rest

    success = f"HTTP/1.1 {upload.success_status}".encode()
    endings = [loop.create_future() for _ in range(connections)]
    for ended in endings:
        await loop.create_connection(partial(SmallUploads, next_request, success, ended), "127.0.0.1", port)
    await asyncio.gather(*endings)
    return {"seconds": time.perf_counter() - started, "bytes": sent * _FILE_BYTES, "count": sent}

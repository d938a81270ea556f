"""Many websockets that watch tasks whose parts come in, while somebody asks for the tasks' states."""

import asyncio
import itertools
import json
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import jwt
import uvloop

from tests.bench.doors import MIB, random_bytes
from tests.bench.load_slow import ask_for_states
from tests.bench.load_small import is_whole

_SENDERS: Final = 8
_PART_COUNT: Final = 10_000
_LAST_STATE_SECONDS: Final = 5.0
_VERSION: Final = re.compile(rb'"version":(\d+)')
_WATCH: Final = (
    "GET /v1/progress HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Protocol: gateway.v1, bearer.{token}\r\n\r\n"
)


class Watcher(asyncio.Protocol):
    """One websocket: counts the messages, and keeps the latest version that it was told."""

    def __init__(self) -> None:
        self.messages = 0
        self.version = 0
        self.opened = asyncio.get_running_loop().create_future()
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._left += data
        if not self.opened.done():
            head, found, rest = self._left.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.opened.set_exception(ConnectionError(f"the websocket was answered {self._left[:600]!r}"))
                return
            self._left = rest
            self.opened.set_result(None)
        while (size := _frame_size(self._left)) is not None and len(self._left) >= sum(size):
            frame, self._left = self._left[: sum(size)], self._left[sum(size) :]
            if frame[0] == 0x81:
                self._hear(frame[size[0] :])

    def _hear(self, text: bytes) -> None:
        self.messages += 1
        self.version = max([self.version, *map(int, _VERSION.findall(text))])


def _frame_size(data: bytes) -> tuple[int, int] | None:
    """The bytes of a server's frame: its head and what follows; None before its length is known."""
    if len(data) < 10:
        return (2, data[1]) if len(data) >= 2 and data[1] < 126 else None
    if data[1] < 126:
        return 2, data[1]
    return (4, int.from_bytes(data[2:4])) if data[1] == 126 else (10, int.from_bytes(data[2:10]))


def watch_tasks(
    port: int, secret: str, *, subjects: int, watchers: int, seconds: float, stage: Callable[[str], None]
) -> dict[str, Any]:
    """One task for each of *subjects*, each watched by *watchers* websockets: its parts come in for *seconds* before
    there are any, and again while they watch. *stage* is called before, between and after.

    Returns the parts a second of both, the latencies of status questions while they watch in milliseconds, the
    messages a second, and how many websockets were not told of the last state.
    """
    return uvloop.run(_Load(port, secret, subjects, watchers, seconds).run(stage))


class _Load:
    def __init__(self, port: int, secret: str, subjects: int, watchers: int, seconds: float) -> None:
        self._port, self._seconds, self._watchers = port, seconds, watchers
        now = int(time.time())
        claims = {"aud": "upload-gateway", "iat": now, "exp": now + 3600}
        self._tokens = [jwt.encode({**claims, "sub": f"watched {n}"}, secret) for n in range(subjects)]
        self._tasks: list[str] = []
        self._numbers = itertools.count(1)

    async def run(self, stage: Callable[[str], None]) -> dict[str, Any]:
        for token in self._tokens:
            told = {"key": f"bench/watch-{uuid.uuid4().hex}", "size": _PART_COUNT * MIB, "part_size": MIB}
            answer = await self._call("POST", "/v1/tasks", token, json.dumps(told).encode())
            self._tasks.append(json.loads(answer)["id"])
        await self._send_parts(1)
        stage("created")
        alone = await self._send_parts(self._seconds)
        stage("alone")
        watchers = [await self._watch(token) for token in self._tokens for _ in range(self._watchers)]
        stage("watched")
        latencies: list[float] = []
        asking = asyncio.create_task(ask_for_states(self._port, self._tokens[0], self._tasks[:1], latencies))
        before = sum(watcher.messages for watcher in watchers)
        watched = await self._send_parts(self._seconds)
        heard = sum(watcher.messages for watcher in watchers) - before
        asking.cancel()
        stage("sent")
        lost = await self._count_lost(watchers)
        latencies.sort()
        return {
            "alone": alone,
            "watched": watched,
            "messages": heard / self._seconds,
            "lost": lost,
            "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
            "max_ms": latencies[-1] * 1000,
        }

    async def _watch(self, token: str) -> Watcher:
        loop = asyncio.get_running_loop()
        transport, watcher = await loop.create_connection(Watcher, "127.0.0.1", self._port)
        transport.write(_WATCH.format(port=self._port, token=token).encode())
        await watcher.opened
        return watcher

    async def _send_parts(self, seconds: float) -> float:
        """Send parts of all tasks in turn over a few connections; how many a second."""
        ends_at, began = time.perf_counter() + seconds, time.perf_counter()
        counts = await asyncio.gather(*(self._send_until(ends_at) for _ in range(_SENDERS)))
        return sum(counts) / (time.perf_counter() - began)

    async def _send_until(self, ends_at: float) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        count = 0
        while time.perf_counter() < ends_at:
            number = next(self._numbers)
            which = number % len(self._tasks)
            path = f"/v1/tasks/{self._tasks[which]}/parts/{number // len(self._tasks) + 1}"
            await _succeed(reader, writer, self._head("PUT", path, self._tokens[which], MIB), random_bytes(MIB))
            count += 1
        writer.close()
        return count

    async def _count_lost(self, watchers: Sequence[Watcher]) -> int:
        versions = []
        for task, token in zip(self._tasks, self._tokens, strict=True):
            versions.append(json.loads(await self._call("GET", f"/v1/tasks/{task}", token, b""))["version"])
        expected = [version for version in versions for _ in range(self._watchers)]
        pairs = list(zip(watchers, expected, strict=True))
        ends_at = time.perf_counter() + _LAST_STATE_SECONDS
        while any(one.version < version for one, version in pairs) and time.perf_counter() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return sum(one.version < version for one, version in pairs)

    async def _call(self, method: str, path: str, token: str, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        answer = await _succeed(reader, writer, self._head(method, path, token, len(body)), body)
        writer.close()
        return answer

    def _head(self, method: str, path: str, token: str, length: int) -> bytes:
        kind = "Content-Type: application/json\r\n" if method == "POST" else ""
        return (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {token}\r\n{kind}"
            f"Content-Length: {length}\r\n\r\n"
        ).encode()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes
) -> tuple[str, bytes]:
    """Send one request; the status and the body of its answer."""
    writer.writelines([head, body])
    answer = bytearray()
    while not is_whole(answer):
        data = await reader.read(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        answer += data
    begin, _, content = bytes(answer).partition(b"\r\n\r\n")
    return begin.split(b" ", 2)[1].decode(), content


async def _succeed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bytes:
    """Send one request; the body of its answer, which must be a success."""
    status, content = await exchange(reader, writer, head, body)
    if not status.startswith("20"):
        raise ConnectionError(f"the request was answered {status} {content[:600]!r}")
    return content

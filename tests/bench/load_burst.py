"""Many clients that send a 4 MiB part at the same moment, while another process asks how the gateway feels."""

import asyncio
import contextlib
import itertools
import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

import uvloop

from tests.bench.doors import KIB, MIB, random_bytes

PART_BYTES: Final = 4 * MIB
_PIECE_BYTES: Final = 256 * KIB
_PATIENCE_SECONDS: Final = 120.0
_SETTLE_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 0.01


@dataclass(slots=True)
class Burst:
    """What became of the clients: answers by status (0: the connection broke), and seconds from the burst on."""

    statuses: Counter[int] = field(default_factory=Counter)
    retry_after_missing: int = 0
    seconds: float = 0.0


class _Client(asyncio.Protocol):
    """Sends the head and half of the part, and the rest when told; waits for the answer."""

    def __init__(self, head: bytes, body: memoryview, first_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self._pieces = [head, *_cut(body[:first_bytes])]
        self._rest = _cut(body[first_bytes:])
        self._answer = b""
        self._may_write = True
        self.half_sent: asyncio.Future[None] = loop.create_future()
        self.answered: asyncio.Future[bytes] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write()

    def send_rest(self) -> None:
        self._pieces, self._rest = self._rest, []
        self._write()

    def _write(self) -> None:
        while self._may_write and self._pieces and not self._transport.is_closing():
            self._transport.write(self._pieces.pop(0))
        if not self._pieces and not self.half_sent.done():
            self.half_sent.set_result(None)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._write()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head) and not self.answered.done():
            self.answered.set_result(head)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for waited in (self.half_sent, self.answered):
            if not waited.done():
                waited.set_exception(ConnectionResetError())
                waited.exception()


def _cut(body: memoryview) -> list[bytes]:
    return [bytes(body[at : at + _PIECE_BYTES]) for at in range(0, len(body), _PIECE_BYTES)]


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def create_tasks(port: int, token: str, count: int) -> list[str]:
    """*count* tasks for one part each, whose uploads are open."""
    made = []
    for number in range(count):
        said = json.dumps({"key": f"burst/{number}.bin", "size": PART_BYTES, "part_size": PART_BYTES}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/tasks", data=said, method="POST")
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            made.append(str(json.load(answer)["id"]))
    return made


def burst(port: int, token: str, tasks: list[str], first_bytes: int, at_burst: Callable[[], None]) -> Burst:
    """Let a client for each of *tasks* send *first_bytes*, call *at_burst*, and let all send the rest at once."""
    return uvloop.run(_burst(port, token, tasks, first_bytes, at_burst))


async def _burst(port: int, token: str, tasks: list[str], first_bytes: int, at_burst: Callable[[], None]) -> Burst:
    loop = asyncio.get_running_loop()
    body = memoryview(random_bytes(PART_BYTES))
    clients = []
    for task in tasks:
        head = (
            f"PUT /v1/tasks/{task}/parts/1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Length: {PART_BYTES}\r\n\r\n"
        ).encode()
        with contextlib.suppress(OSError):
            _, client = await loop.create_connection(partial(_Client, head, body, first_bytes), "127.0.0.1", port)
            clients.append(client)
    await asyncio.wait([client.half_sent for client in clients], timeout=_PATIENCE_SECONDS)
    await asyncio.sleep(_SETTLE_SECONDS if first_bytes else 0)
    at_burst()
    began = time.monotonic()
    for client in clients:
        client.send_rest()
    await asyncio.wait([client.answered for client in clients], timeout=_PATIENCE_SECONDS)
    found = Burst(seconds=time.monotonic() - began)
    if len(clients) < len(tasks):
        found.statuses[0] = len(tasks) - len(clients)
    for client in clients:
        head = b"" if not client.answered.done() or client.answered.exception() else client.answered.result()
        status = int(head.split(b" ", 2)[1]) if head else 0
        found.statuses[status] += 1
        found.retry_after_missing += status >= 429 and b"\r\nretry-after:" not in head.lower()
    return found


async def _ask(port: int, token: str, paths: list[str]) -> None:
    """Ask for one of *paths* after another until stdin ends, then print how long each answer took, in milliseconds."""
    loop = asyncio.get_running_loop()
    over = loop.run_in_executor(None, sys.stdin.read)
    found: dict[str, list[float]] = {path: [] for path in paths}
    reader = writer = None
    for path in itertools.cycle(paths):
        if over.done():
            break
        began = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert reader is not None
            asked = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
            writer.write(asked.encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            await reader.readexactly(_length(head))
        except (TimeoutError, OSError, EOFError):
            writer = None
            await asyncio.sleep(0.1)
            continue
        found[path].append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(_ASK_SECONDS)
    print(json.dumps({path: sorted(times) for path, times in found.items()}), flush=True)


if __name__ == "__main__":
    asyncio.run(_ask(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))

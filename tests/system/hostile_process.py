"""A process that is one hostile tenant of several gateways, in turns, until its time is over.

python -m tests.system.hostile_process    (a ``Hostile`` as JSON on stdin; prints a ``Tally`` as JSON)
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

PATIENCE_SECONDS: Final = 15.0
NICENESS: Final = 5
"""Clients live on other machines: what this one spends on sending should not be taken from the gateways."""
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_REST_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Turns:
    """When hostile tenants are at work: every other *seconds* of the monotonic clock, which all processes share."""

    began: float
    end: float
    seconds: float

    def at_work(self, now: float) -> bool:
        """Whether it is their turn; the first turn is without them."""
        return self.began <= now < self.end and int((now - self.began) / self.seconds) % 2 == 1

    def so_far(self, now: float) -> float:
        """Seconds since this turn began."""
        return (now - self.began) % self.seconds

    def left(self, now: float) -> float:
        """Seconds until this turn ends."""
        return min(self.seconds - self.so_far(now), self.end - now)


@dataclass(frozen=True, slots=True)
class Hostile:
    """What a tenant is told.

    Args:
        role: a name in ``ROLES``.
        per_second: requests in all; 0: as fast as it is answered.
        bodies: the most that one burst has.
    """

    role: str
    ports: list[int]
    bearer: str
    turns: Turns
    per_second: float
    bodies: int
    seed: int


@dataclass
class Tally:
    """What became of it: deeds by kind, and answers by status and code."""

    deeds: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)


class Connection:
    """One connection to a gateway that may be asked several times. It is cut with the block."""

    def __init__(self, tenant: "Tenant", port: int, *, receive_bytes: int = 0) -> None:
        self._tenant = tenant
        self._port = port
        self._receive_bytes = receive_bytes

    async def __aenter__(self) -> "Connection":
        raw = socket.socket()
        raw.setblocking(False)
        if self._receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self._port))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._reader, self._writer = await asyncio.open_connection(sock=raw)
        except BaseException:
            raw.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Raw bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def break_off(self) -> None:
        """Send no more, and wait until the gateway has read what came and hangs up. Raises OSError, TimeoutError."""
        self._writer.write_eof()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reader.read()

    def head(self, method: str, path: str, size: int | None = None, *lines: str) -> bytes:
        """A request's head; *size* is that of its body."""
        told = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self._tenant.told.bearer}"]
        length = [] if size is None else [f"Content-Length: {size}"]
        return "\r\n".join([*told, *length, *lines, "", ""]).encode()

    async def answer(self) -> int:
        """The next answer's status; its document is in ``document``. Raises OSError, EOFError, TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            status, body = int(lines[0].split()[1]), await self._reader.readexactly(length)
        self.document: dict[str, Any] = json.loads(body) if body else {}
        code = self.document["code"] if status >= 400 else ""
        self._tenant.tally.answers[f"{status} {code}".strip()] += 1
        return status

    async def ask(self, method: str, path: str, said: object = None, *lines: str) -> dict[str, Any]:
        """The document of the answer; *said* goes as JSON, bytes as they are. Empty where it was refused."""
        body = said if isinstance(said, bytes) else b"" if said is None else json.dumps(said).encode()
        await self.send(self.head(method, path, len(body), "Content-Type: application/json", *lines) + body)
        return self.document if await self.answer() < 300 else {}


class Tenant:
    """What every hostile tenant has; a role says what ``work`` it does again and again in its turn."""

    def __init__(self, told: Hostile, tally: Tally) -> None:
        self.told = told
        self.tally = tally
        self.chance = random.Random(told.seed)
        self._serial = 0
        self._due = 0.0

    def connect(self, port: int = 0, *, receive_bytes: int = 0) -> Connection:
        """A connection to the gateway at *port*, or to any."""
        return Connection(self, port or self.chance.choice(self.told.ports), receive_bytes=receive_bytes)

    def key(self) -> str:
        """A new one."""
        self._serial += 1
        return f"hostile/{self.told.role}/{self._serial}.bin"

    async def pace(self) -> None:
        """Wait until one more request is due."""
        if self.told.per_second:
            now = time.monotonic()
            self._due = max(self._due, now) + 1 / self.told.per_second
            await asyncio.sleep(self._due - now)

    async def run(self, workers: Mapping[Callable[[], Awaitable[None]], int]) -> None:
        """Let each of *workers* work as often at once as is said, in this tenant's turns, until the end."""
        turns = self.told.turns
        while (now := time.monotonic()) < turns.end:
            counts = workers if turns.at_work(now) else {}
            working = [asyncio.create_task(self._again(work)) for work, count in counts.items() for _ in range(count)]
            await asyncio.sleep(turns.left(now))
            for one in working:
                one.cancel()
            for ended in await asyncio.gather(*working, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError):
                    raise ended

    async def _again(self, work: Callable[[], Awaitable[None]]) -> NoReturn:
        while True:
            try:
                await work()
            except (OSError, EOFError, TimeoutError):
                self.tally.deeds["broken"] += 1
                await asyncio.sleep(_REST_SECONDS)

    @contextlib.contextmanager
    def counted(self, deed: str) -> Iterator[None]:
        """Count *deed* once the block is through."""
        yield
        self.tally.deeds[deed] += 1


async def main() -> None:
    """The process."""
    from tests.system.hostile_burster import burst_and_ask
    from tests.system.hostile_filler import fill

    os.nice(NICENESS)
    told = json.loads(sys.stdin.readline())
    hostile, tally = Hostile(**{**told, "turns": Turns(**told["turns"])}), Tally()
    await {"filler": fill, "burster": burst_and_ask}[hostile.role](Tenant(hostile, tally))
    print(json.dumps(vars(tally)))


if __name__ == "__main__":
    asyncio.run(main())

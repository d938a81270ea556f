"""The tenant who bursts (F1, F2, S8): bodies that hold back half and send it at once, and requests that are dear."""

import asyncio
import json
from collections.abc import Awaitable, Iterable
from contextlib import AsyncExitStack
from typing import Final

from tests.system.hostile_process import Connection, Tenant

PART_BYTES: Final = 4 << 20
PIECE_BYTES: Final = 256 << 10
FEWEST_BODIES: Final = 50
CREATING: Final = 4
"""Connections over which the tasks of a burst are created."""
SOCKETS: Final = 20
DEAR_OF_ONE: Final = 5
"""Then another task: Redis may have forgotten this one."""
SETTLE_SECONDS: Final = 0.5
_PARTS: Final = [{"number": number, "etag": f'"{number:032x}"', "crc64": str(number)} for number in range(1, 10_001)]
DEAR: Final = json.dumps({"parts": _PARTS}).encode()
"""A complete that is as dear as may be."""
UNKNOWN: Final = "A" * 22
UPGRADE: Final = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


async def burst_and_ask(tenant: Tenant) -> None:
    """Do it in turns until the end."""
    burster = _Burster(tenant)
    works = (burster.burst, burster.ask_what_is_dear, burster.name_the_unknown, burster.watch)
    await tenant.run(dict(zip(works, (1, 2, 1, SOCKETS), strict=True)))


class _Burster:
    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._tickets: dict[str, str] = {}
        """Of tasks whose first part is sent again and again, by id: so the disk has it once."""

    async def burst(self) -> None:
        """Half a part on each of many connections to one gateway, then the rest of all at once."""
        count = self._tenant.chance.randint(min(FEWEST_BODIES, self._tenant.told.bodies), self._tenant.told.bodies)
        async with AsyncExitStack() as held:
            while len(self._tickets) < count:
                await _all(self._create(count) for _ in range(CREATING))
            tasks = self._tenant.chance.sample([*self._tickets], count)
            port = self._tenant.chance.choice(self._tenant.told.ports)
            bodies = [await held.enter_async_context(self._tenant.connect(port)) for _ in tasks]
            await _all(self._send_half(*each, bytes(PIECE_BYTES)) for each in zip(bodies, tasks, strict=True))
            await asyncio.sleep(SETTLE_SECONDS)
            with self._tenant.counted("burst"):
                await _all(self._send_rest(*each) for each in zip(bodies, tasks, strict=True))

    async def _create(self, count: int) -> None:
        """Tasks until there are *count*."""
        async with self._tenant.connect() as connection:
            while len(self._tickets) < count:
                told = {"key": self._tenant.key(), "size": PART_BYTES + 1, "part_size": PART_BYTES}
                if task := await connection.ask("POST", "/v1/tasks", told):
                    self._tickets[str(task["id"])] = str(task["ticket"])
                else:
                    await asyncio.sleep(SETTLE_SECONDS)

    async def _send_half(self, body: Connection, task: str, piece: bytes) -> None:
        ticket = f"Upload-Ticket: {self._tickets[task]}"
        await body.send(body.head("PUT", f"/v1/tasks/{task}/parts/1", PART_BYTES, ticket))
        for _ in range(PART_BYTES // 2 // len(piece)):
            await body.send(piece)

    async def _send_rest(self, body: Connection, task: str) -> None:
        await body.send(bytes(PART_BYTES // 2))
        status = await body.answer()
        self._tenant.tally.deeds[f"body {status}"] += 1
        if status in (404, 409):
            del self._tickets[task]

    async def ask_what_is_dear(self) -> None:
        """Complete a task with 10,000 parts that it has not."""
        async with self._tenant.connect() as connection:
            told = {"key": self._tenant.key(), "size": 2 * PART_BYTES}
            task = (await connection.ask("POST", "/v1/tasks", told)).get("id", UNKNOWN)
            for _ in range(DEAR_OF_ONE):
                await self._tenant.pace()
                with self._tenant.counted("dear"):
                    await connection.ask("POST", f"/v1/tasks/{task}/complete", DEAR)

    async def name_the_unknown(self) -> None:
        """Ask for what is not there."""
        async with self._tenant.connect() as connection:
            for path in (f"/v1/tasks/{UNKNOWN}", f"/v1/batches/{UNKNOWN}", f"/v1/tasks/{UNKNOWN}/parts"):
                await self._tenant.pace()
                with self._tenant.counted("unknown"):
                    await connection.ask("GET", path)

    async def watch(self) -> None:
        """A websocket on everything that is theirs, which is never read from."""
        async with self._tenant.connect(receive_bytes=4096) as connection:
            protocol = f"Sec-WebSocket-Protocol: gateway.v1, bearer.{self._tenant.told.bearer}"
            await connection.send(connection.head("GET", "/v1/progress", None, *UPGRADE, protocol))
            await connection.answer()
            with self._tenant.counted("websocket"):
                await asyncio.sleep(2)


async def _all(doing: Iterable[Awaitable[None]]) -> None:
    """Wait for all of *doing*; a connection that broke is nobody's concern."""
    for ended in await asyncio.gather(*doing, return_exceptions=True):
        if isinstance(ended, BaseException) and not isinstance(ended, OSError | EOFError | TimeoutError):
            raise ended

"""The tenant who fills (S5, S6): leaves behind as much as may be, and takes nothing that is answered."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.system.hostile_process import Connection, Tenant

MIB: Final = 1 << 20
WORKERS: Final = 8
UNTAKEN: Final = 10
"""Connections whose answers nobody takes."""
UNTAKEN_REQUESTS: Final = 60
BATCH_FILES: Final = 50
TAILS_MORE: Final = 5
"""They are the largest."""
OPTIONS: Final[dict[str, Any]] = {
    "async_limit": 256,
    "client_ref": "r" * 128,
    "forbid_overwrite": True,
    "upload_add_meta_md5": True,
    "md5": "0" * 32,
    "traffic_limit": 838_860_800,
    "content_type": "application/x-" + "t" * 80,
    "cache_control": "max-age=86400",
    "content_disposition": 'attachment; filename="' + "f" * 200 + '"',
    "content_encoding": "gzip",
    "content_language": "zh-CN",
    "expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    "storage_class": "STANDARD_IA",
    "acl": "private",
    "meta": {f"name-{number}": "v" * 100 for number in range(17)},
    "headers": {"x-cos-tagging": "a=b"},
}


async def fill(tenant: Tenant) -> None:
    """Do it in turns until the end."""
    filler = _Filler(tenant)
    await tenant.run({filler.leave_something: WORKERS, filler.take_no_answer: UNTAKEN})


class _Filler:
    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._kinds: Final[dict[str, Callable[[Connection], Awaitable[None]]]] = {
            "options": self._create,
            "tail": self._break_off,
            "cancel": self._create_and_cancel,
            "file": self._send_file,
            "batch": self._open_batch,
        }

    async def leave_something(self) -> None:
        """One more of each kind, and of tails several, in any order."""
        kinds = [*self._kinds, *["tail"] * TAILS_MORE]
        for kind in self._tenant.chance.sample(kinds, len(kinds)):
            await self._tenant.pace()
            async with self._tenant.connect() as connection:
                with self._tenant.counted(kind):
                    await self._kinds[kind](connection)

    async def _create(self, connection: Connection) -> None:
        """A task with every option, which stays unfinished."""
        serial = self._tenant.key()
        note = f"Idempotency-Key: {serial.ljust(100, 'k')}"
        await connection.ask("POST", "/v1/tasks", {"key": serial, "size": 2 * MIB, **OPTIONS}, note)

    async def _break_off(self, connection: Connection) -> None:
        """A sequential body that leaves the largest tail."""
        told = {"key": self._tenant.key(), "size": 2 * MIB, "part_size": MIB}
        if task := await connection.ask("POST", "/v1/tasks", told):
            head = connection.head("PUT", f"/v1/tasks/{task['id']}/content", 2 * MIB)
            await connection.send(head + bytes(MIB - 1))
            await connection.break_off()

    async def _create_and_cancel(self, connection: Connection) -> None:
        """A task that has ended, which keeps its options for a while."""
        if task := await connection.ask("POST", "/v1/tasks", {"key": self._tenant.key(), "size": 1, **OPTIONS}):
            await connection.ask("POST", f"/v1/tasks/{task['id']}/cancel")

    async def _send_file(self, connection: Connection) -> None:
        """One byte, and its task."""
        await connection.ask("POST", f"/v1/files?key={self._tenant.key()}", b"x")

    async def _open_batch(self, connection: Connection) -> None:
        files = [{"key": self._tenant.key(), "size": 1} for _ in range(BATCH_FILES)]
        await connection.ask("POST", "/v1/batches", {"files": files})

    async def take_no_answer(self) -> None:
        """Ask for the longest lists again and again, read nothing, and stay until the turn is over."""
        async with self._tenant.connect(receive_bytes=4096) as connection:
            head = connection.head("GET", "/v1/tasks?limit=100")
            for _ in range(UNTAKEN_REQUESTS):
                await self._tenant.pace()
                with self._tenant.counted("untaken"):
                    await connection.send(head)
            await asyncio.Event().wait()

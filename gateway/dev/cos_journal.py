"""What the local COS was asked, in order: bounded, and kept only where tests may look."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.dev.cos_calls import Call

_MAX_ENTRIES: Final = 20_000


@dataclass(slots=True)
class JournalEntry:
    """One request as it came and how it went.

    ``status`` is None until the answer begins, and stays so when the connection breaks first; ``received_bytes`` counts
    the body as it comes; ``attempt`` counts requests for the same operation, bucket, key and part from 1; ``fault`` is
    the action that met it. ``ended`` is false while it is under way.
    """

    number: int
    at: float
    operation: str
    bucket: str
    key: str
    upload_id: str
    part_number: int | None
    attempt: int
    query: dict[str, str]
    headers: dict[str, str]
    fault: str | None
    request_id: str
    received_bytes: int = 0
    status: int | None = None
    code: str = ""
    ended: bool = False


class Journal:
    """The latest requests. Used from the server's event loop."""

    def __init__(self) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=_MAX_ENTRIES)
        self._numbers = itertools.count(1)
        self._version = 0
        self._changed = asyncio.Event()

    def begin(self, call: Call, attempt: int, fault: str | None) -> JournalEntry:
        """Write *call* down; its body is counted from here on."""
        entry = JournalEntry(
            next(self._numbers),
            call.now,
            call.operation.value,
            call.bucket.name,
            call.key,
            call.upload_id,
            call.part_number,
            attempt,
            dict(call.query),
            {name: value for name, value in call.headers.items() if name != "authorization"},
            fault,
            call.signoff.request_id,
        )
        call.body = self._counted(entry, call.body)
        self._entries.append(entry)
        self._touch()
        return entry

    def end(self, entry: JournalEntry, status: int | None, code: str) -> None:
        entry.status, entry.code, entry.ended = status, code, True
        self._touch()

    def clear(self) -> None:
        self._entries.clear()
        self._touch()

    async def read(self, seen_version: int, seconds: float) -> dict[str, Any]:
        """The journal, once it is newer than *seen_version* or *seconds* have passed."""
        if self._version <= seen_version and seconds > 0:
            waiting = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({waiting}, timeout=seconds)
            waiting.cancel()
        return {"version": self._version, "entries": [asdict(entry) for entry in self._entries]}

    async def _counted(self, entry: JournalEntry, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in body:
            entry.received_bytes += len(chunk)
            self._touch()
            yield chunk

    def _touch(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

"""An object store that is watched: every call reaches the real one, and stops on the way where a test wants it to."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.domain.objects import (
    Appended,
    Bucket,
    ETag,
    ObjectAddress,
    PartBody,
    PartsPage,
    StoredObject,
    StoredPart,
    UploadId,
    UploadsPage,
)
from gateway.transfer.ports import ObjectStore

_T = TypeVar("_T")


@dataclass
class Gate:
    """Holds calls of one kind until it is opened; ``reached`` is set once a call stands before it."""

    name: str
    number: int | None
    after: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def reached_by(self, count: int) -> None:
        """Return once *count* calls have come to stand before it, since the last time that somebody asked."""
        async with asyncio.timeout(10):
            for _ in range(count):
                await self.arrivals.acquire()

    def open(self) -> None:
        """Let every call through, those that wait and those to come."""
        self.opened.set()

    async def pass_through(self) -> None:
        self.reached.set()
        self.arrivals.release()
        await self.opened.wait()


class WatchedObjects:
    """*objects*, and what was asked of it.

    ``calls`` counts by the port's method names; ``most_parts_in_flight`` is the largest number of ``upload_part`` calls
    that were under way at once. ``uploads_listed_most`` and ``parts_listed_most`` shorten pages, as COS may.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._gates: list[Gate] = []
        self._parts_in_flight = 0
        self.calls: Counter[str] = Counter()
        self.most_parts_in_flight = 0
        self.uploads_listed_most = self.parts_listed_most = 1000

    def hold(self, name: str, number: int | None = None, *, after: bool = False) -> Gate:
        """Hold calls of *name* (for part *number*) before they are made, or *after* that before they answer."""
        gate = Gate(name, number, after)
        self._gates.append(gate)
        return gate

    async def put_object(self, at: ObjectAddress, body: PartBody, headers: Mapping[str, str]) -> StoredObject:
        return await self._call("put_object", None, lambda: self._objects.put_object(at, body, headers))

    async def append_object(
        self, at: ObjectAddress, position: int, body: PartBody, headers: Mapping[str, str]
    ) -> Appended:
        return await self._call("append_object", None, lambda: self._objects.append_object(at, position, body, headers))

    async def head_object(self, at: ObjectAddress) -> StoredObject:
        return await self._call("head_object", None, lambda: self._objects.head_object(at))

    async def initiate(self, at: ObjectAddress, headers: Mapping[str, str]) -> UploadId:
        return await self._call("initiate", None, lambda: self._objects.initiate(at, headers))

    async def upload_part(
        self, at: ObjectAddress, upload_id: UploadId, number: int, body: PartBody, headers: Mapping[str, str]
    ) -> StoredPart:
        self._parts_in_flight += 1
        self.most_parts_in_flight = max(self.most_parts_in_flight, self._parts_in_flight)
        try:
            return await self._call(
                "upload_part", number, lambda: self._objects.upload_part(at, upload_id, number, body, headers)
            )
        finally:
            self._parts_in_flight -= 1

    async def list_parts(
        self, at: ObjectAddress, upload_id: UploadId, *, marker: int = 0, limit: int = 1000
    ) -> PartsPage:
        return await self._call(
            "list_parts",
            None,
            lambda: self._objects.list_parts(at, upload_id, marker=marker, limit=min(limit, self.parts_listed_most)),
        )

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        limit: int = 1000,
    ) -> UploadsPage:
        return await self._call(
            "list_uploads",
            None,
            lambda: self._objects.list_uploads(
                bucket,
                prefix=prefix,
                delimiter=delimiter,
                key_marker=key_marker,
                upload_id_marker=upload_id_marker,
                limit=min(limit, self.uploads_listed_most),
            ),
        )

    async def complete(
        self, at: ObjectAddress, upload_id: UploadId, parts: Sequence[tuple[int, ETag]], headers: Mapping[str, str]
    ) -> StoredObject:
        return await self._call("complete", None, lambda: self._objects.complete(at, upload_id, parts, headers))

    async def abort(self, at: ObjectAddress, upload_id: UploadId) -> None:
        await self._call("abort", None, lambda: self._objects.abort(at, upload_id))

    async def _call(self, name: str, number: int | None, make: Callable[[], Awaitable[_T]]) -> _T:
        self.calls[name] += 1
        await self._pass(name, number, after=False)
        answer = await make()
        await self._pass(name, number, after=True)
        return answer

    async def _pass(self, name: str, number: int | None, *, after: bool) -> None:
        for gate in list(self._gates):
            if (gate.name, gate.after) == (name, after) and gate.number in (None, number):
                await gate.pass_through()

"""A task store and a bus in memory, under the same contract as the ones on Redis (``tests/store`` runs it on both)."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.domain.errors import (
    BodySuperseded,
    IdempotencyConflict,
    InvalidSize,
    OffsetMismatch,
    PartInProgress,
    StateStoreUnavailable,
    TaskMode,
    TaskNotFound,
    UploadLost,
    VersionMismatch,
)
from gateway.domain.objects import Bucket, StoredPart, UploadId
from gateway.domain.policy import ANYWHERE, Policy
from gateway.domain.task import BodyMode, BodyStarted, PartStored, Task, TaskEvent, TaskId, TaskState, UploadOpened
from gateway.store.change_feeds import ControlFeed, OwnerFeed
from gateway.store.task_codec import SPEED_IS_STALE_AFTER_SECONDS
from gateway.store.task_index import member_of, require_cursor
from gateway.transfer.ports import ContentClaim, Idempotency, PartClaim, TaskPage

ENDS_BODIES = {TaskState.PAUSED, TaskState.ERROR, TaskState.CANCELED}


class MemoryProgressBus:
    """The ``ProgressBus`` without Redis: a store given this bus tells it of changes."""

    def __init__(self) -> None:
        self._owners: dict[str, set[OwnerFeed]] = {}
        self._control: set[ControlFeed] = set()

    async def start(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    @asynccontextmanager
    async def watch_owner(self, owner: str, only: TaskId | None = None) -> AsyncIterator[OwnerFeed]:
        """Changes of every task of *owner*, or of one alone."""
        feed = OwnerFeed(only)
        self._owners.setdefault(owner, set()).add(feed)
        try:
            yield feed
        finally:
            self._owners[owner].discard(feed)

    @asynccontextmanager
    async def watch_control(self) -> AsyncIterator[ControlFeed]:
        """Tasks whose bodies in flight may have to end."""
        feed = ControlFeed()
        self._control.add(feed)
        try:
            yield feed
        finally:
            self._control.discard(feed)

    def tell(self, task: Task) -> None:
        """*task* changed."""
        for feed in self._owners.get(task.owner, ()):
            feed.push(f"{task.id} {task.version}")

    def tell_control(self, task: Task) -> None:
        """Bodies of *task* may have to end."""
        for feed in self._control:
            feed.push(task.id)

    def lose(self) -> None:
        """As if the connection had been lost and remade."""
        for feeds in self._owners.values():
            for feed in feeds:
                feed.lose()


@dataclass
class _Kept:
    """What is kept of one task. ``parts`` holds each part with the attempt that brought it."""

    task: Task
    parts: dict[int, tuple[StoredPart, str]] = field(default_factory=dict)
    tail: bytes = b""
    bodies: dict[int, dict[str, bool | str]] = field(default_factory=dict)
    window_at: float = -math.inf
    window_bytes: int = 0

    def open_window(self, now: float) -> None:
        if not 0 <= now - self.window_at <= 10:
            self.window_at, self.window_bytes = now, 0
            self.task = replace(self.task, speed=0.0)

    def measure(self, now: float, size: int) -> float:
        seconds, speed = now - self.window_at, self.task.speed
        self.window_bytes += size
        if seconds >= 1 and math.isfinite(seconds):
            weight = 1 - math.exp(-seconds / 2) if speed > 0 else 1.0
            speed = float(round(speed + weight * (self.window_bytes / seconds - speed)))
        if not 0 <= seconds < 1:
            self.window_at, self.window_bytes = now, 0
        return speed


class MemoryTaskStore:
    """The ``TaskStore`` without Redis. ``down`` makes every call fail; ``lose`` forgets a task as Redis might."""

    def __init__(
        self,
        *,
        ttl_seconds: int = 7 * 24 * 3600,
        clock: Callable[[], float] = time.time,
        bus: MemoryProgressBus | None = None,
    ) -> None:
        self.bus = bus or MemoryProgressBus()
        self.down = False
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._kept: dict[TaskId, _Kept] = {}
        self._first: dict[tuple[str, str], tuple[str, TaskId]] = {}
        self._openers: dict[UploadId, tuple[str, TaskId]] = {}

    async def created_under(self, owner: str, key: str) -> TaskId | None:
        await self.ping()
        first = self._first.get((owner, key))
        return None if first is None else first[1]

    async def create(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        await self.ping()
        if idempotency is not None:
            first = (idempotency.request_digest, task.id)
            digest, task_id = self._first.setdefault((task.owner, idempotency.key), first)
            if digest != idempotency.request_digest:
                raise IdempotencyConflict("The Idempotency-Key was used for another request within the last 24 hours.")
            task = replace(task, id=task_id)
        if task.id not in self._kept:
            self._kept[task.id] = _Kept(task)
            self.bus.tell(task)
        return self._seen(self._kept[task.id])

    async def restore(self, task: Task, parts: Sequence[StoredPart]) -> Task:
        await self.ping()
        if task.id not in self._kept:
            self._kept[task.id] = _Kept(task, {part.number: (part, "restored") for part in parts})
            if task.upload_id is not None:
                self._openers[task.upload_id] = (task.owner, task.id)
            self.bus.tell(task)
        return self._seen(self._kept[task.id])

    async def load(self, task_id: TaskId) -> Task | None:
        await self.ping()
        kept = self._kept.get(task_id)
        return None if kept is None else self._seen(kept)

    async def load_many(self, task_ids: Sequence[TaskId]) -> list[Task | None]:
        return [await self.load(task_id) for task_id in task_ids]

    async def apply(self, task: Task, event: TaskEvent, *, expected_version: int | None = None) -> Task:
        await self.ping()
        if expected_version is not None and task.version != expected_version:
            raise VersionMismatch(version=task.version)
        kept = self._find(task.id)
        if kept.task.version != task.version:
            if expected_version is not None:
                raise VersionMismatch(version=kept.task.version)
            task = self._seen(kept)
        before, after = kept.task, task.after(event, self._clock())
        if isinstance(event, UploadOpened):
            self._openers[event.upload_id] = (task.owner, task.id)
        left_upload = before.upload_id is not None and after.upload_id is None
        if left_upload or after.stored_count < before.stored_count or after.state is TaskState.CANCELED:
            kept.parts, kept.bodies, kept.tail = {}, {}, b""
        elif not after.tail_size:
            kept.tail = b""
        changed = self._commit(kept, replace(after, speed=before.speed))
        if after.writer != before.writer or (after.state is not before.state and after.state in ENDS_BODIES):
            self.bus.tell_control(changed)
        return changed

    async def begin_part(
        self, task_id: TaskId, number: int, attempt: str, owner: str | None = None, inside: Policy = ANYWHERE
    ) -> PartClaim:
        await self.ping()
        kept = self._find(task_id)
        if owner not in (None, kept.task.owner) or not _is_inside(kept.task, inside):
            raise TaskNotFound("No such task.")
        if not kept.bodies:
            kept.open_window(self._clock())
        bodies = kept.bodies.setdefault(number, {})
        if attempt not in bodies:
            contested = bool(bodies)
            for other in bodies:
                bodies[other] = True
            bodies[attempt] = contested
        stored = kept.parts.get(number)
        return PartClaim(self._seen(kept), stored[0] if stored else None, bodies[attempt] is not False)

    async def end_part(self, task_id: TaskId, number: int, attempt: str) -> None:
        await self.ping()
        if task_id in self._kept:
            self._end(self._kept[task_id], number, attempt)

    async def store_part(self, task: Task, part: StoredPart, *, attempt: str, decided: bool = False) -> Task:
        await self.ping()
        kept = self._find(task.id)
        stored = kept.parts.get(part.number)
        if stored is not None and stored[1] == attempt:
            return self._seen(kept)
        self._require_upload(kept, task)
        if kept.task.mode is BodyMode.CONTENT:
            raise TaskMode("The task takes its bytes as content.", mode="content")
        bodies = kept.bodies.setdefault(part.number, {})
        if bodies.get(attempt) is not False and not (decided and bodies.get(attempt) == "asking"):
            bodies[attempt] = "asking"
            raise PartInProgress("Another body for this part overlapped in time.")
        self._end(kept, part.number, attempt)
        for other in kept.bodies.get(part.number, {}):
            kept.bodies[part.number][other] = True
        return self._put(kept, part, attempt, mode=BodyMode.PARTS)

    async def begin_content(self, task_id: TaskId, offset: int, size: int | None) -> ContentClaim:
        await self.ping()
        kept = self._find(task_id)
        before = kept.task
        after = before.after(BodyStarted(BodyMode.CONTENT, size), self._clock())
        if before.mode is BodyMode.PARTS:
            raise TaskMode("The task takes its bytes as parts.", mode="parts")
        if size is not None and before.size not in (None, size):
            raise InvalidSize(f"The task's size is {before.size} bytes.")
        if offset != before.next_offset:
            raise OffsetMismatch(f"Expected byte {before.next_offset}.", next_offset=before.next_offset)
        kept.parts = {n: kept.parts[n] for n in kept.parts if n <= before.contiguous_count}
        kept.open_window(self._clock())
        after = replace(after, writer=before.writer + 1, speed=kept.task.speed)
        changed = self._commit(kept, self._counted(kept, after))
        if before.writer:
            self.bus.tell_control(changed)
        return ContentClaim(changed, kept.tail)

    async def store_content_part(self, task: Task, part: StoredPart) -> Task:
        await self.ping()
        kept = self._find(task.id)
        attempt = f"writer-{task.writer}"
        if kept.parts.get(part.number) == (part, attempt):
            return self._seen(kept)
        self._require_writer(kept, task)
        return self._put(kept, part, attempt)

    async def keep_tail(self, task: Task, tail: bytes) -> Task:
        await self.ping()
        kept = self._find(task.id)
        self._require_writer(kept, task)
        if kept.task.next_offset - kept.task.tail_size != task.next_offset - task.tail_size:
            raise OffsetMismatch(f"Expected byte {kept.task.next_offset}.", next_offset=kept.task.next_offset)
        kept.tail = tail
        return self._commit(kept, self._counted(kept, kept.task.after(PartStored(), self._clock())))

    async def parts(self, task_id: TaskId) -> list[StoredPart]:
        await self.ping()
        kept = self._kept.get(task_id)
        return [kept.parts[number][0] for number in sorted(kept.parts)] if kept else []

    async def forget_parts(self, task: Task, numbers: Sequence[int]) -> Task:
        await self.ping()
        kept = self._find(task.id)
        if kept.task.upload_id != task.upload_id:
            raise UploadLost("The task has another upload now.")
        gone = {number for number in numbers if number in kept.parts}
        if not gone:
            return self._seen(kept)
        for number in gone:
            del kept.parts[number]
        if min(gone) <= kept.task.contiguous_count:
            kept.tail = b""
        return self._commit(kept, self._counted(kept, replace(kept.task, updated_at=self._clock())))

    async def list_tasks(
        self,
        owner: str | None,
        *,
        states: frozenset[TaskState] | None = None,
        batch_id: str | None = None,
        inside: Policy = ANYWHERE,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        await self.ping()
        if cursor is not None:
            require_cursor(cursor)
        seen = [self._seen(kept) for kept in self._kept.values() if _is_inside(kept.task, inside)]
        every = sorted(seen, key=member_of, reverse=True)
        mine = [t for t in every if (owner is None or t.owner == owner) and (cursor is None or member_of(t) < cursor)]
        fits = [
            t for t in mine if (states is None or t.state in states) and (batch_id is None or t.batch_id == batch_id)
        ]
        page = tuple(fits[:limit])
        return TaskPage(page, member_of(page[-1]) if len(page) == limit and page[-1] != mine[-1] else None, len(page))

    async def find_uploads(self, upload_ids: Sequence[UploadId], owner: str | None) -> list[TaskId | None]:
        await self.ping()
        found = [self._openers.get(upload_id) for upload_id in upload_ids]
        return [opener[1] if opener and owner in (None, opener[0]) else None for opener in found]

    async def next_upload(
        self, owner: str, bucket: Bucket, prefix: str, after: str, *, with_it: bool = False
    ) -> str | None:
        await self.ping()
        mine = [kept.task for kept in self._kept.values() if kept.task.owner == owner and not kept.task.is_final]
        keys = [task.at.key for task in mine if task.upload_id is not None and task.at.bucket == bucket]
        return min((k for k in keys if k.startswith(prefix) and (k > after or (with_it and k == after))), default=None)

    async def find_content(self, owner: str, content: str) -> Task | None:
        await self.ping()
        known = [kept.task for kept in self._kept.values() if (kept.task.owner, kept.task.content) == (owner, content)]
        return await self.load(known[-1].id) if known else None

    async def ping(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StateStoreUnavailable("Redis is down in this test.")

    def lose(self, task_id: TaskId) -> None:
        """Forget everything of *task_id*."""
        self._kept.pop(task_id, None)

    def _find(self, task_id: TaskId) -> _Kept:
        if task_id not in self._kept:
            raise TaskNotFound("No such task.")
        return self._kept[task_id]

    def _seen(self, kept: _Kept) -> Task:
        task = replace(kept.task, expires_at=kept.task.updated_at + self._ttl_seconds)
        stale = self._clock() - task.updated_at > SPEED_IS_STALE_AFTER_SECONDS
        return replace(task, speed=0.0) if stale or task.state is not TaskState.UPLOADING else task

    def _commit(self, kept: _Kept, after: Task) -> Task:
        kept.task = replace(after, version=kept.task.version + 1)
        self.bus.tell(kept.task)
        return self._seen(kept)

    def _require_upload(self, kept: _Kept, task: Task) -> None:
        kept.task.require(PartStored)
        if kept.task.upload_id != task.upload_id:
            raise UploadLost("The task has another upload now.")

    def _require_writer(self, kept: _Kept, task: Task) -> None:
        self._require_upload(kept, task)
        if kept.task.writer != task.writer:
            raise BodySuperseded(f"Writer {kept.task.writer} took over.")

    def _put(self, kept: _Kept, part: StoredPart, attempt: str, **changes: Any) -> Task:
        now = self._clock()
        if part.number == kept.task.contiguous_count + 1:
            kept.tail = b""
        kept.parts[part.number] = (part, attempt)
        after = replace(kept.task.after(PartStored(), now), speed=kept.measure(now, part.size), **changes)
        return self._commit(kept, self._counted(kept, after))

    def _counted(self, kept: _Kept, task: Task) -> Task:
        contiguous = 0
        while contiguous + 1 in kept.parts:
            contiguous += 1
        tail = len(kept.tail)
        return replace(
            task,
            stored_count=len(kept.parts),
            contiguous_count=contiguous,
            loaded=sum(part.size for part, _ in kept.parts.values()) + tail,
            next_offset=sum(kept.parts[number][0].size for number in range(1, contiguous + 1)) + tail,
            tail_size=tail,
        )

    @staticmethod
    def _end(kept: _Kept, number: int, attempt: str) -> None:
        bodies = kept.bodies.get(number, {})
        bodies.pop(attempt, None)
        if not bodies:
            kept.bodies.pop(number, None)


def _is_inside(task: Task, policy: Policy) -> bool:
    return policy.covers(task.at.bucket.name, task.at.key)

"""Progress told to many: one watch for each owner, or task, that anybody watches, whose every change is read and
rendered once.

Who joins waits for a look at all there is; those who wait at the same time share one.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.domain.batch import BatchId
from gateway.domain.errors import GatewayError, Overloaded, RateLimited, StateStoreUnavailable
from gateway.domain.policy import Caller
from gateway.domain.task import TaskId
from gateway.transfer.memory_budget import MemoryBudget
from gateway.transfer.ports import ProgressBus, TaskStore
from gateway.transfer.process_memory import WAIT_SECONDS
from gateway.web.progress_audience import Audience, Book
from gateway.web.progress_inbox import Inbox
from gateway.web.progress_pace import Pace
from gateway.web.progress_watch import KNOWN_TASK_BYTES, AddUp, Render, Seen, Watch

MESSAGES_PER_SECOND: Final = 2000
"""What a process tells, roughly: above that the gaps between two messages for one task widen."""
WIDEST_GAP_SECONDS: Final = 2.0

_TASKS_AT_ONCE: Final = 50
_REST: Final = 4
"""A look at everything, or at a batch, is followed by so many times its own duration without another."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When things happen on a socket, in seconds.

    ``gap`` lies between two messages for one task, ``batch_gap`` between two for one batch, which may take reading
    1,000 tasks. ``retry`` is how long a watch waits before it asks a store again that did not answer; ``unsent`` how
    long a message may wait for a slow reader.
    """

    snapshot: float = 15.0
    gap: float = 0.25
    batch_gap: float = 0.5
    retry: float = 2.0
    unsent: float = 30.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where all watches of a process get what they tell.

    ``render`` makes a task's document. Without ``add_up`` nothing is told of batches. ``budget`` is for what is kept.
    """

    tasks: TaskStore
    bus: ProgressBus
    render: Render
    budget: MemoryBudget
    add_up: AddUp | None = None
    timing: Timing = Timing()


class Fanout:
    """Every watch of this process."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._effort = Effort()
        self._watches: dict[tuple[str, TaskId | None], SharedWatch] = {}

    @asynccontextmanager
    async def watching(self, caller: Caller, owner: str, only: TaskId | None) -> AsyncIterator[Inbox]:
        """What *caller* is told of *owner*'s tasks, or of one alone: first a snapshot, which is there already.

        Raises:
            StateStoreUnavailable: it could not be read.
            Overloaded, RateLimited: there was no memory for it.
        """
        name = (owner, only)
        watch = self._watches.get(name)
        if watch is None:
            watch = self._watches[name] = SharedWatch(self._sources, self._effort, owner, only)
        inbox = Inbox(self._sources.budget, caller.owner)
        try:
            await watch.join(inbox, Caller(caller.owner, caller.policy, math.inf))  # all that tells what may be seen
            yield inbox
        finally:
            watch.leave(inbox)
            if not watch.is_watched and self._watches.get(name) is watch:
                del self._watches[name]
                watch.close()


class Effort:
    """How far behind this process is with all its messages."""

    def __init__(self) -> None:
        self._until = 0.0

    def spend(self, count: int) -> None:
        """So many messages are to be sent."""
        self._until = max(self._until, time.monotonic()) + count / MESSAGES_PER_SECOND

    def gap(self, least_seconds: float) -> float:
        """What should lie between two messages for one task."""
        return max(least_seconds, min(self._until - time.monotonic(), WIDEST_GAP_SECONDS))


class SharedWatch:
    """All who watch one owner's tasks, or one task, and the loop that tells them."""

    def __init__(self, sources: Sources, effort: Effort, owner: str, only: TaskId | None) -> None:
        self._sources = sources
        self._effort = effort
        self._name = owner, only
        self._watch = Watch(sources.tasks, sources.render, owner, only)
        self._known = sources.budget.open(owner)
        self._audiences: dict[Caller, Audience] = {}
        self._joining: dict[Inbox, Caller] = {}
        self._one_at_a_time = asyncio.Lock()
        self._standing = asyncio.Event()
        self._pace: Pace[TaskId] = Pace(sources.timing.gap)
        self._batch_pace: Pace[BatchId] = Pace(sources.timing.batch_gap)
        self._snapshot_at = math.inf
        self._look_at = 0.0
        self._loop = asyncio.create_task(self._run(), name="progress watch")
        self._loop.add_done_callback(self._ended)

    @property
    def is_watched(self) -> bool:
        """Whether anybody watches, or is about to."""
        return bool(self._joining or any(audience.inboxes for audience in self._audiences.values()))

    async def join(self, inbox: Inbox, viewer: Caller) -> None:
        """From now on *inbox* is told what *viewer* may see; the snapshot is in it. Raises as ``Fanout.watching``."""
        self._joining[inbox] = viewer
        await self._standing.wait()
        if self._loop.done():
            self._loop.result()
        await asyncio.sleep(max(0.0, self._look_at - time.monotonic()))
        async with self._one_at_a_time:
            if inbox in self._joining:
                await self._look(for_all=False)
        inbox.require_sound()

    def leave(self, inbox: Inbox) -> None:
        """*inbox* is told nothing more."""
        inbox.close()
        self._joining.pop(inbox, None)
        for viewer, audience in list(self._audiences.items()):
            audience.inboxes.discard(inbox)
            if not audience.inboxes:
                del self._audiences[viewer]

    def close(self) -> None:
        """Nobody watches any more."""
        self._loop.cancel()
        self._known.release()

    def _ended(self, loop: "asyncio.Task[None]") -> None:
        failure = None if loop.cancelled() else loop.exception()
        if failure is not None:
            self._standing.set()
            self._wake_all(failure)

    async def _run(self) -> None:
        timing, (owner, only) = self._sources.timing, self._name
        async with self._sources.bus.watch_owner(owner, only) as feed:
            self._standing.set()
            self._snapshot_at = time.monotonic() + timing.snapshot
            while True:
                self._note(await feed.next(self._wait_seconds()))
                async with self._one_at_a_time:
                    try:
                        await self._tell()
                    except (StateStoreUnavailable, Overloaded, RateLimited):
                        self._snapshot_at = time.monotonic() + timing.retry
                        self._wake_all()

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        turns = (self._pace.next_turn(now), self._batch_pace.next_turn(now))
        return max(0.0, min([self._snapshot_at, *(turn for turn in turns if turn is not None)]) - now)

    def _note(self, changes: Mapping[TaskId, int] | None) -> None:
        if changes:
            self._pace.note(changes)
        elif changes is not None:  # changes may have been lost
            self._snapshot_at = min(self._snapshot_at, time.monotonic() + self._sources.timing.gap)

    async def _tell(self) -> None:
        now = time.monotonic()
        if now >= self._snapshot_at:
            await self._look(for_all=True)
        self._pace.gap_seconds = self._effort.gap(self._sources.timing.gap)
        while task_ids := self._pace.take(now, _TASKS_AT_ONCE):
            self._put(await self._watch.changes(task_ids))
            await asyncio.sleep(0)
        await self._tell_of_batches()

    def _put(self, seen: list[Seen]) -> None:
        self._effort.spend(sum(audience.put(seen) for audience in self._audiences.values()))

    async def _tell_of_batches(self) -> None:
        moved, began = self._watch.take_moved(), time.monotonic()
        if self._sources.add_up is None:
            return
        self._batch_pace.note(moved)
        for batch_id in self._batch_pace.take(began, 1):
            tasks = await self._sources.add_up(batch_id)
            if tasks is not None:
                sent = sum(audience.put_totals(batch_id, tasks) for audience in self._audiences.values())
                self._effort.spend(sent)
            now = time.monotonic()
            self._batch_pace.rest(now + _REST * (now - began))

    async def _look(self, *, for_all: bool) -> None:
        """Read everything; send it to those who join, and to the others too or only what is new in it."""
        began = time.monotonic()
        joining, self._joining = self._joining, {}
        viewers = {*joining.values(), *(self._audiences if for_all else ())}
        books = {viewer: Book(viewer, self._sources.budget) for viewer in viewers}
        try:
            news = await self._read(books)
        except BaseException as error:
            for book in books.values():
                book.drop()
            self._not_joined(joining, error)
            raise
        self._hand_out(books, news, joining, for_all=for_all)
        now = time.monotonic()
        self._look_at = now + _REST * (now - began)
        if for_all:
            self._snapshot_at = began + self._sources.timing.snapshot

    def _not_joined(self, joining: Mapping[Inbox, Caller], error: BaseException) -> None:
        """Nobody need ask in vain for what was refused a moment ago; behind one who left the others ask again."""
        if isinstance(error, GatewayError):
            for inbox in joining:
                inbox.wake(error)
        else:
            self._joining = {inbox: who for inbox, who in joining.items() if not inbox.is_closed} | self._joining

    async def _read(self, books: Mapping[Caller, Book]) -> list[Seen]:
        news: list[Seen] = []
        count = 0
        async for seen in self._watch.everything():
            count += len(seen)
            await self._known.resize(max(self._known.size, KNOWN_TASK_BYTES * count), WAIT_SECONDS)
            if self._audiences:
                news += [one for one in seen if one.is_news]
            for book in books.values():
                await book.add(seen)
            await asyncio.sleep(0)
        return news

    def _hand_out(
        self, books: Mapping[Caller, Book], news: list[Seen], joining: Mapping[Inbox, Caller], *, for_all: bool
    ) -> None:
        if not for_all:
            self._put(news)
        for viewer, book in books.items():
            snapshot = book.finished()
            if for_all and viewer in self._audiences:
                self._effort.spend(self._audiences[viewer].show(snapshot, news))
            for inbox in (one for one, who in joining.items() if who == viewer and not one.is_closed):
                self._audiences.setdefault(viewer, Audience(viewer)).inboxes.add(inbox)
                inbox.show(snapshot, {}, {})
            snapshot.release_unread()

    def _wake_all(self, failure: BaseException | None = None) -> None:
        for audience in self._audiences.values():
            for inbox in audience.inboxes:
                inbox.wake(failure)

"""Watchers that may see the same of one owner's tasks: what each may be sent is chosen once for all of them."""

from collections.abc import Iterable, Sequence
from typing import Final

from gateway.domain.batch import BatchId, BatchTotals
from gateway.domain.policy import Caller
from gateway.domain.task import Task
from gateway.transfer.access import is_visible
from gateway.transfer.memory_budget import MemoryBudget
from gateway.transfer.process_memory import WAIT_SECONDS
from gateway.web.progress_inbox import Changes, Inbox, Snapshot
from gateway.web.progress_messages import PageMaker, batch_message
from gateway.web.progress_watch import Seen

_MOST_TOTALS: Final = 1000


class Audience:
    """The inboxes of callers whose tokens allow the same; *viewer* stands for all of them."""

    def __init__(self, viewer: Caller) -> None:
        self._viewer = viewer
        self._told_totals: dict[BatchId, BatchTotals] = {}
        self.inboxes: set[Inbox] = set()

    def put(self, seen: Iterable[Seen]) -> int:
        """Tell of what they may see of *seen*; returns to how many messages that came."""
        return self._put({one.task.id: one.message for one in self._visible(seen)})

    def put_totals(self, batch_id: BatchId, tasks: Iterable[Task]) -> int:
        """Tell what *tasks*, those of a batch, add up to for them, if that is news; returns as ``put``."""
        visible = [task for task in tasks if is_visible(self._viewer, task)]
        totals = BatchTotals.of(visible)
        if not visible or self._told_totals.get(batch_id) == totals:
            return 0
        if len(self._told_totals) >= _MOST_TOTALS:
            self._told_totals.clear()
        self._told_totals[batch_id] = totals
        return self._put({batch_id: batch_message(batch_id, totals)})

    def show(self, snapshot: Snapshot, news: Iterable[Seen]) -> int:
        """Send all of them *snapshot*; *news* is what in it was not told before. Returns as ``put``."""
        visible = list(self._visible(news))
        losses: Changes = {one.task.id: one.message for one in visible if one.is_loss}
        rest: Changes = {one.task.id: one.message for one in visible}
        for inbox in self.inboxes:
            inbox.show(snapshot, losses, rest)
        return len(self.inboxes) * (len(snapshot.pages) + len(losses))

    def _put(self, changes: Changes) -> int:
        for inbox in self.inboxes:
            inbox.put(changes)
        return len(self.inboxes) * len(changes)

    def _visible(self, seen: Iterable[Seen]) -> Iterable[Seen]:
        return (one for one in seen if is_visible(self._viewer, one.task))


class Book:
    """A snapshot in the making, with a lease that grows as it does."""

    def __init__(self, viewer: Caller, budget: MemoryBudget) -> None:
        self._viewer = viewer
        self._maker = PageMaker()
        self._pages: list[str] = []
        self._lease = budget.open(viewer.owner)

    async def add(self, seen: Sequence[Seen]) -> None:
        """Write down what may be seen of *seen*. Raises Overloaded or RateLimited for want of memory."""
        visible = [one.document for one in seen if is_visible(self._viewer, one.task)]
        await self._lease.resize(self._lease.size + sum(map(len, visible)), WAIT_SECONDS)
        self._pages += self._maker.add(visible)

    def finished(self) -> Snapshot:
        """The snapshot, which has the lease from now on."""
        return Snapshot([*self._pages, self._maker.last()], self._lease)

    def drop(self) -> None:
        """Nobody will read it."""
        self._lease.release()

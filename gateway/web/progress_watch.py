"""What one watcher is told, and when: snapshots, then changes, at most four messages a second for a task or a batch.

Messages carry a task as it is when they are made, so nothing piles up: a slow reader hears less often, not later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from gateway.domain.batch import BatchId, BatchTotals
from gateway.domain.task import Task, TaskId
from gateway.transfer.ports import TaskStore

SNAPSHOT_FINISHED_COUNT: Final = 100
SNAPSHOT_SCAN_COUNT: Final = 1000
"""How many of an owner's newest tasks a snapshot looks at. Older unfinished ones are in it once they have changed."""

_PAGE: Final = 100

Id = TypeVar("Id", TaskId, BatchId)
Message = dict[str, Any]
Render = Callable[[Task], dict[str, Any]]
AddUp = Callable[[BatchId], Awaitable[BatchTotals | None]]


@dataclass(frozen=True, slots=True)
class _Told:
    """What the watcher knows of a task."""

    version: int
    updated_at: float
    loaded: int
    is_final: bool


class Watch:
    """Turns what the store holds into messages.

    Args:
        tasks: where tasks are read.
        render: a task as a document.
        owner: whose tasks are watched.
        only: the one task to watch, or None for all of them.
        add_up: what a batch adds up to; without it nothing is told of batches.
    """

    def __init__(
        self,
        tasks: TaskStore,
        render: Render,
        owner: str,
        only: TaskId | None = None,
        add_up: AddUp | None = None,
    ) -> None:
        self._tasks = tasks
        self._render = render
        self._owner = owner
        self._only = only
        self._told: dict[TaskId, _Told] = {}
        self._add_up = add_up
        self._moved: set[BatchId] = set()
        self._told_batches: dict[BatchId, BatchTotals] = {}

    def concerns(self, task_id: TaskId) -> bool:
        """Whether a change of *task_id* is to be told."""
        return self._only is None or task_id == self._only

    async def snapshot(self) -> list[Message]:
        """Everything: all unfinished tasks and the last 100 finished, newest first. Losses are told before."""
        tasks = await self._everything()
        losses = [self._change(task) for task in tasks if self._has_fallen(task)]
        self._told = {task.id: _told(task) for task in tasks}
        for task in tasks:
            if not task.is_final:
                self._note_batch(task)
        return [*losses, {"type": "snapshot", "tasks": await self._rendered(tasks)}]

    async def _rendered(self, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        """The documents of *tasks*: a thousand at once, each with a ticket to seal, hold up the loop for 30 ms."""
        documents: list[dict[str, Any]] = []
        for at in range(0, len(tasks), _PAGE):
            documents += map(self._render, tasks[at : at + _PAGE])
            await asyncio.sleep(0)
        return documents

    async def changes(self, task_ids: Iterable[TaskId]) -> list[Message]:
        """The messages for tasks that changed; none for what the watcher already knows or Redis no longer does."""
        found = await self._tasks.load_many(list(task_ids))
        return [self._change(task) for task in found if task is not None and self._told.get(task.id) != _told(task)]

    def take_moved(self) -> set[BatchId]:
        """The batches of which something has been told since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    async def batches(self, batch_ids: Iterable[BatchId]) -> list[Message]:
        """The messages for batches whose totals are others than those that the watcher knows."""
        messages: list[Message] = []
        for batch_id in batch_ids:
            totals = await self._add_up(batch_id) if self._add_up is not None else None
            if totals is not None and totals != self._told_batches.get(batch_id):
                self._told_batches[batch_id] = totals
                messages.append({"type": "batch", "batch": totals_document(batch_id, totals)})
        return messages

    def _note_batch(self, task: Task) -> None:
        if self._add_up is not None and task.batch_id is not None:
            self._moved.add(BatchId(task.batch_id))

    def _change(self, task: Task) -> Message:
        self._note_batch(task)
        kind = "part_lost" if self._has_fallen(task) else "task"
        self._told[task.id] = _told(task)
        return {"type": kind, "task": self._render(task)}

    def _has_fallen(self, task: Task) -> bool:
        told = self._told.get(task.id)
        return told is not None and task.loaded < told.loaded

    async def _everything(self) -> list[Task]:
        if self._only is not None:
            return [task for task in await self._tasks.load_many([self._only]) if task is not None]
        newest = await self._newest()
        seen = {task.id for task in newest}
        older = [task_id for task_id, told in self._told.items() if not told.is_final and task_id not in seen]
        known = await self._tasks.load_many(older) if older else []
        unfinished = {task.id for task in [*newest, *known] if task is not None and not task.is_final}
        finished = [task.id for task in newest if task.is_final][:SNAPSHOT_FINISHED_COUNT]
        wanted = unfinished.union(finished)
        return [task for task in [*newest, *known] if task is not None and task.id in wanted]

    async def _newest(self) -> list[Task]:
        found: list[Task] = []
        cursor: str | None = None
        while len(found) < SNAPSHOT_SCAN_COUNT:
            page = await self._tasks.list_tasks(self._owner, limit=_PAGE, cursor=cursor)
            found += page.tasks
            cursor = page.next_cursor
            if cursor is None:
                break
        return found


def _told(task: Task) -> _Told:
    """A task rebuilt after a Redis loss may count its versions anew: the time of its change tells it apart."""
    return _Told(task.version, task.updated_at, task.loaded, task.is_final)


def totals_document(batch_id: BatchId, totals: BatchTotals) -> dict[str, Any]:
    """What a batch adds up to: ``size`` and ``loaded`` in bytes, ``speed`` in bytes/s, ``percent`` 0-1."""
    return {
        "id": batch_id,
        "size": totals.size,
        "loaded": totals.loaded,
        "percent": totals.percent,
        "speed": round(totals.speed),
    }


class Pace(Generic[Id]):
    """Which changed tasks, or batches, may be told now; *gap_seconds* lie between two messages for one of them.

    Times are monotonic.
    """

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._pending: dict[Id, None] = {}
        self._free_at: dict[Id, float] = {}

    def note(self, ids: Iterable[Id]) -> None:
        """These have changed."""
        self._pending.update(dict.fromkeys(ids))

    def take(self, now: float, most: int) -> list[Id]:
        """Up to *most* of those that have changed and whose turn it is; they count as told."""
        turn = [one for one in self._pending if self._free_at.get(one, now) <= now][:most]
        self._free_at = {one: at for one, at in self._free_at.items() if at > now}
        for one in turn:
            del self._pending[one]
            self._free_at[one] = now + self._gap_seconds
        return turn

    def next_turn(self, now: float) -> float | None:
        """When there will be something to take; None while nothing has changed."""
        return min((self._free_at.get(one, now) for one in self._pending), default=None)

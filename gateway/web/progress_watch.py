"""What one watcher is told, and when: snapshots, then changes, at most four messages a second for a task.

Messages carry a task as it is when they are made, so nothing piles up: a slow reader hears less often, not later.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.domain.task import Task, TaskId
from gateway.transfer.ports import TaskStore

SNAPSHOT_FINISHED_COUNT: Final = 100
SNAPSHOT_SCAN_COUNT: Final = 1000
"""How many of an owner's newest tasks a snapshot looks at. Older unfinished ones are in it once they have changed."""

_PAGE: Final = 100

Message = dict[str, Any]
Render = Callable[[Task], dict[str, Any]]


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
    """

    def __init__(self, tasks: TaskStore, render: Render, owner: str, only: TaskId | None = None) -> None:
        self._tasks = tasks
        self._render = render
        self._owner = owner
        self._only = only
        self._told: dict[TaskId, _Told] = {}

    def concerns(self, task_id: TaskId) -> bool:
        """Whether a change of *task_id* is to be told."""
        return self._only is None or task_id == self._only

    async def snapshot(self) -> list[Message]:
        """Everything: all unfinished tasks and the last 100 finished, newest first. Losses are told before."""
        tasks = await self._everything()
        losses = [self._change(task) for task in tasks if self._has_fallen(task)]
        self._told = {task.id: _told(task) for task in tasks}
        return [*losses, {"type": "snapshot", "tasks": [self._render(task) for task in tasks]}]

    async def changes(self, task_ids: Iterable[TaskId]) -> list[Message]:
        """The messages for tasks that changed; none for what the watcher already knows or Redis no longer does."""
        found = await self._tasks.load_many(list(task_ids))
        return [self._change(task) for task in found if task is not None and self._told.get(task.id) != _told(task)]

    def _change(self, task: Task) -> Message:
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


class Pace:
    """Which changed tasks may be told now; *gap_seconds* lie between two messages for one task. Times are monotonic."""

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._pending: dict[TaskId, None] = {}
        self._free_at: dict[TaskId, float] = {}

    def note(self, task_ids: Iterable[TaskId]) -> None:
        """These tasks have changed."""
        self._pending.update(dict.fromkeys(task_ids))

    def take(self, now: float, most: int) -> list[TaskId]:
        """Up to *most* changed tasks whose turn it is; they count as told."""
        turn = [task_id for task_id in self._pending if self._free_at.get(task_id, now) <= now][:most]
        self._free_at = {task_id: at for task_id, at in self._free_at.items() if at > now}
        for task_id in turn:
            del self._pending[task_id]
            self._free_at[task_id] = now + self._gap_seconds
        return turn

    def next_turn(self, now: float) -> float | None:
        """When there will be something to take; None while nothing has changed."""
        return min((self._free_at.get(task_id, now) for task_id in self._pending), default=None)

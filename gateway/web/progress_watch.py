"""What there is to tell of one owner's tasks, or of one task: read and rendered once, whoever watches."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.domain.batch import BatchId
from gateway.domain.task import Task, TaskId
from gateway.transfer.ports import TaskStore
from gateway.web.progress_messages import Message, task_message, text_of

SNAPSHOT_FINISHED_COUNT: Final = 100
SNAPSHOT_SCAN_COUNT: Final = 1000
"""How many of an owner's newest tasks a snapshot looks at. Older unfinished ones are in it once they have changed."""
KNOWN_TASK_BYTES: Final = 512
"""What a watch keeps of one task between two looks, roughly."""

_PAGE: Final = 100

Render = Callable[[Task], dict[str, Any]]
AddUp = Callable[[BatchId], Awaitable[Sequence[Task] | None]]
"""The tasks of a batch; None for one that is not known."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What was told of a task last."""

    version: int
    updated_at: float
    loaded: int
    is_final: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A task as it is now; ``document`` is its JSON. ``is_news`` unless exactly this was told before."""

    task: Task
    document: str
    is_news: bool
    is_loss: bool

    @property
    def message(self) -> Message:
        """What is told of it."""
        return task_message(self.document, is_loss=self.is_loss)


class Watch:
    """Reads what changed, and knows what was told last.

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
        self._moved: set[BatchId] = set()

    async def everything(self) -> AsyncIterator[list[Seen]]:
        """All unfinished tasks and the last 100 finished, newest first, some at a time: what a snapshot is made of."""
        told: dict[TaskId, _Told] = {}
        finished_count = 0
        async for tasks in self._everything():
            seen: list[Seen] = []
            for task in tasks:
                finished_count += task.is_final
                if task.id in told or (task.is_final and finished_count > SNAPSHOT_FINISHED_COUNT):
                    continue
                told[task.id] = _told(task)
                seen.append(self._seen(task))
                if not task.is_final:
                    self._note_batch(task)
            yield seen
        self._told = told

    async def changes(self, task_ids: Iterable[TaskId]) -> list[Seen]:
        """The news of tasks that changed; nothing of what was told already or Redis no longer knows."""
        found = await self._tasks.load_many(list(task_ids))
        return list(self._news(task for task in found if task is not None))

    def _news(self, tasks: Iterable[Task]) -> Iterator[Seen]:
        for task in tasks:
            if self._told.get(task.id) != _told(task):
                seen = self._seen(task)
                self._told[task.id] = _told(task)
                self._note_batch(task)
                yield seen

    def take_moved(self) -> set[BatchId]:
        """The batches of which something has been told since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def _note_batch(self, task: Task) -> None:
        if task.batch_id is not None:
            self._moved.add(BatchId(task.batch_id))

    def _seen(self, task: Task) -> Seen:
        told = self._told.get(task.id)
        is_loss = told is not None and task.loaded < told.loaded
        return Seen(task, text_of(self._render(task)), told != _told(task), is_loss)

    async def _everything(self) -> AsyncIterator[Sequence[Task]]:
        if self._only is not None:
            yield await self._found([self._only])
            return
        newest: set[TaskId] = set()
        cursor: str | None = None
        while len(newest) < SNAPSHOT_SCAN_COUNT:
            page = await self._tasks.list_tasks(self._owner, limit=_PAGE, cursor=cursor)
            newest.update(task.id for task in page.tasks)
            yield page.tasks
            cursor = page.next_cursor
            if cursor is None:
                break
        older = [task_id for task_id, told in self._told.items() if not told.is_final and task_id not in newest]
        for at in range(0, len(older), _PAGE):
            yield [task for task in await self._found(older[at : at + _PAGE]) if not task.is_final]

    async def _found(self, task_ids: list[TaskId]) -> list[Task]:
        return [task for task in await self._tasks.load_many(task_ids) if task is not None]


def _told(task: Task) -> _Told:
    """A task rebuilt after a Redis loss may count its versions anew: the time of its change tells it apart."""
    return _Told(task.version, task.updated_at, task.loaded, task.is_final)

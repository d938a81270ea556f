"""What watchers wait on: changes that come faster than they are read, kept in bounds.

A feed is pushed to by the bus, which also tells it when messages may have been lost.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from gateway.domain.task import TaskId


class Feed(Protocol):
    """Where a channel's messages go."""

    def push(self, message: str) -> None:
        """Take one message; never waits."""

    def lose(self) -> None:
        """Messages may have been lost."""


class OwnerFeed:
    """The ``ChangeFeed`` of one watcher: one entry a task, the latest version, however slowly it is read.

    With *only*, changes of that task alone are taken.
    """

    def __init__(self, only: TaskId | None = None) -> None:
        self._only = only
        self._changed: dict[TaskId, int] = {}
        self._lost = False
        self._something = asyncio.Event()

    def push(self, message: str) -> None:
        """Take ``<id> <version>``."""
        task_id, _, version = message.partition(" ")
        if version.isdecimal() and self._only in (None, task_id):
            self._changed[TaskId(task_id)] = max(int(version), self._changed.get(TaskId(task_id), 0))
            self._something.set()

    def lose(self) -> None:
        """What is known no longer matters: everything must be read again."""
        self._lost = True
        self._changed = {}
        self._something.set()

    async def next(self, timeout_seconds: float) -> Mapping[TaskId, int] | None:
        """What changed since the last call; None when nothing did in time, empty when changes may have been lost."""
        if not self._something.is_set():
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._something.wait()
            except TimeoutError:
                return None
        self._something.clear()
        if self._lost:
            self._lost = False
            return {}
        changed, self._changed = self._changed, {}
        return changed


class ControlFeed:
    """Ids of tasks whose bodies in flight may have to end, each at most once until it is read.

    Nothing is told when messages were lost: bodies look at their task's version by themselves as well.
    """

    def __init__(self) -> None:
        self._ids: dict[TaskId, None] = {}
        self._something = asyncio.Event()

    def push(self, message: str) -> None:
        """Take ``<id>``."""
        self._ids[TaskId(message)] = None
        self._something.set()

    def lose(self) -> None:
        """Nothing to do."""

    def __aiter__(self) -> AsyncIterator[TaskId]:
        return self

    async def __anext__(self) -> TaskId:
        while not self._ids:
            self._something.clear()
            await self._something.wait()
        task_id = next(iter(self._ids))
        del self._ids[task_id]
        return task_id

"""The bodies that flow through this process, and how a pause, a cancel or a newer writer ends them within a second."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gateway.domain.errors import BodySuperseded, GatewayError, StateStoreUnavailable
from gateway.domain.task import TRANSITIONS, BodyStarted, Task, TaskId, refusal
from gateway.transfer.ports import ProgressBus, TaskStore

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.5
"""How often the versions of tasks with bodies in flight are read, in case the bus lost the news."""


class BodyInFlight:
    """One body: ``stop`` is called with the reason, at most once, when it has to end."""

    __slots__ = ("_stop", "stopped", "task")

    def __init__(self, task: Task, stop: Callable[[GatewayError], None]) -> None:
        self.task = task
        self.stopped = False
        self._stop = stop

    def judge(self, now: Task) -> None:
        """End the body if the task as it is *now* takes it no longer; what was read before the body began is old."""
        if self.stopped or now.version < self.task.version:
            return
        reason = _reason_to_stop(self.task, now)
        if reason is not None:
            self.stopped = True
            self._stop(reason)


def _reason_to_stop(begun: Task, now: Task) -> GatewayError | None:
    if BodyStarted not in TRANSITIONS[now.state]:
        return refusal(now.state, BodyStarted)
    if now.writer != begun.writer:
        return BodySuperseded("A newer body took over.", next_offset=now.next_offset)
    return None


class BodiesInFlight:
    """Every body of this process by task.

    ``run`` must run as long as the process serves.
    """

    def __init__(self, tasks: TaskStore, bus: ProgressBus) -> None:
        self._tasks = tasks
        self._bus = bus
        self._by_task: dict[TaskId, set[BodyInFlight]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_task.values()))

    def tasks(self) -> list[Task]:
        """The tasks of all bodies, each as it was when one of them began."""
        return [next(iter(bodies)).task for bodies in self._by_task.values()]

    @contextmanager
    def registered(self, task: Task, stop: Callable[[GatewayError], None]) -> Iterator[BodyInFlight]:
        """Watch *task* while the block runs; *stop* must not block."""
        body = BodyInFlight(task, stop)
        self._by_task.setdefault(task.id, set()).add(body)
        try:
            yield body
        finally:
            peers = self._by_task[task.id]
            peers.discard(body)
            if not peers:
                del self._by_task[task.id]

    async def run(self) -> None:
        """Judge bodies on every word from the bus, and all of them each half second."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._look_round())

    async def _listen(self) -> None:
        async with self._bus.watch_control() as changed:
            async for task_id in changed:
                if task_id in self._by_task:
                    await self._check([task_id])

    async def _look_round(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self._by_task:
                await self._check(list(self._by_task))

    async def _check(self, ids: list[TaskId]) -> None:
        try:
            found = await self._tasks.load_many(ids)
        except StateStoreUnavailable:
            log.warning("redis does not answer: %d bodies flow on unchecked", len(self))
            return
        for now in found:
            if now is None:
                continue
            for body in list(self._by_task.get(now.id, ())):
                body.judge(now)

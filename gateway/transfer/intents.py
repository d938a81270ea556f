"""Intents that a dead process left open are carried out by a living one.

Whoever begins a call to COS that changes more than bytes lists its task here first, and strikes it off afterwards.
What is still listed when its time has come is looked at: nothing is believed but the task itself.
"""

import asyncio
import logging
import random
import time
from typing import Final

from gateway.domain.errors import GatewayError, StateStoreUnavailable
from gateway.domain.task import Intent, Task, TaskId, TaskState
from gateway.telemetry import Metrics
from gateway.transfer.aborting import finish_abort
from gateway.transfer.completion import LEASE_SECONDS, Completion
from gateway.transfer.due_tasks import DueTasks
from gateway.transfer.engine import Engine
from gateway.transfer.ports import Clock

log = logging.getLogger(__name__)

TAKEN_AT_ONCE: Final = 64
AT_WORK_MOST: Final = 8
LOOKS_PER_TERM: Final = 4


class Intents:
    """Finishes what is due.

    Args:
        term_seconds: how long the process that opened an intent has for itself; and, when finishing fails, the time
            until it is tried again.
    """

    def __init__(
        self,
        due: DueTasks,
        engine: Engine,
        completion: Completion,
        metrics: Metrics,
        *,
        term_seconds: float,
        clock: Clock = time.time,
    ) -> None:
        self._due = due
        self._engine = engine
        self._completion = completion
        self._metrics = metrics
        self._term_seconds = term_seconds
        self._clock = clock
        self._turn = asyncio.Semaphore(AT_WORK_MOST)

    async def run(self) -> None:
        """Look, several times a term, until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.0) * self._term_seconds / LOOKS_PER_TERM)  # noqa: S311 -- jitter
            try:
                await self.round()
            except StateStoreUnavailable:
                log.warning("redis does not answer: nobody looks after open intents")

    async def round(self) -> int:
        """Finish what is due now; how many tasks were looked at. Raises StateStoreUnavailable."""
        now = self._clock()
        until = now + self._term_seconds
        task_ids = await self._due.take(now, until, TAKEN_AT_ONCE)
        found = await self._engine.tasks.load_many(task_ids)
        await asyncio.gather(*(self._look(*pair, until) for pair in zip(task_ids, found, strict=True)))
        return len(task_ids)

    async def _look(self, task_id: TaskId, task: Task | None, until: float) -> None:
        """Finish the intent of *task*; it stays listed until a later look finds none."""
        try:
            if task is None or task.intent is Intent.NONE:
                await self._due.settle(task_id, until)
                return
            async with self._turn:
                await self._engine.owned.finish(self._finish(task), "finish intent")
        except GatewayError as error:
            log.warning("an intent is still open: %s", error.code, extra={"task_id": task_id})

    async def _finish(self, task: Task) -> None:
        if task.state is TaskState.COMPLETING and self._clock() - task.updated_at <= LEASE_SECONDS:
            return  # it shows signs of life
        if task.state is TaskState.COMPLETING:
            self._completion.watch(task)
        elif task.intent is Intent.ABORT:
            if not await finish_abort(self._engine.tasks, self._engine.objects, task):
                return
            log.info("an abort was finished", extra={"task_id": task.id})
        elif task.intent is Intent.INITIATE and task.upload_id is None:
            await self._engine.open(task)
            log.info("an upload was opened that a task had waited for", extra={"task_id": task.id})
        self._metrics.count("gateway_intents_finished_total", task.intent.value)

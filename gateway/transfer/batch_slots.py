"""At most so many files of a batch move at once: a file's first body takes a slot, and its end gives it back.

Nobody has to give a slot back: who finds none free looks whose files have ended, and frees theirs. So no crash and no
lost message keeps one.
"""

import asyncio
import logging
from typing import Final

from gateway.domain.batch import BatchId
from gateway.domain.errors import StateStoreUnavailable, TaskWaiting
from gateway.domain.task import Task, TaskId, TaskState
from gateway.transfer.bodies_in_flight import BodiesInFlight
from gateway.transfer.ports import BatchStore, TaskStore

log = logging.getLogger(__name__)

RENEW_SECONDS: Final = 5.0
"""How often a body that flows for long tells that it does."""
RETRY_SECONDS: Final = 2.0
_AT_REST: Final = frozenset({TaskState.SUCCESS, TaskState.CANCELED, TaskState.PAUSED, TaskState.ERROR})


class BatchSlots:
    """The ``BodySlots`` of ``transfer.ports``. ``run`` must run as long as the process serves."""

    def __init__(
        self, batches: BatchStore, tasks: TaskStore, bodies: BodiesInFlight, renew_seconds: float = RENEW_SECONDS
    ) -> None:
        self._renew_seconds = renew_seconds
        self._batches = batches
        self._tasks = tasks
        self._bodies = bodies

    async def take(self, batch_id: BatchId, task_id: TaskId) -> None:
        """One call to Redis while there are free slots. Raises TaskWaiting when other files move in all of them."""
        holders = await self._batches.take_slot(batch_id, task_id)
        if not holders:
            return
        found = await self._tasks.load_many(holders)
        rested = [holder for holder, task in zip(holders, found, strict=True) if _is_at_rest(task)]
        if rested:
            await self._batches.free_slots(batch_id, rested)
            holders = await self._batches.take_slot(batch_id, task_id)
        if holders:
            raise TaskWaiting(
                f"{len(holders)} files of the batch are moving, the most there may be.",
                retry_after_seconds=RETRY_SECONDS,
            )

    async def run(self) -> None:
        """Keep the slots of files whose bodies flow through this process."""
        while True:
            await asyncio.sleep(self._renew_seconds)
            held = [(BatchId(task.batch_id), task.id) for task in self._bodies.tasks() if task.batch_id is not None]
            if not held:
                continue
            try:
                await self._batches.renew_slots(held)
            except StateStoreUnavailable:
                log.warning("redis does not answer: %d batch slots are not renewed", len(held))


def _is_at_rest(task: Task | None) -> bool:
    return task is None or task.state in _AT_REST

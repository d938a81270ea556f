"""What every path of bytes needs, and what a failure on the way to COS means for the task."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.batch import BatchId
from gateway.domain.errors import GatewayError, Storage, UploadLost, VersionMismatch
from gateway.domain.objects import ObjectAddress
from gateway.domain.policy import Caller, Destinations
from gateway.domain.task import TRANSITIONS, BodyStarted, Failed, Task, TaskError, TaskId, TaskState, refusal
from gateway.transfer.bodies_in_flight import BodiesInFlight
from gateway.transfer.costs import NO_COSTS, Costs
from gateway.transfer.opening import open_upload
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.part_pages import IsWanted, always
from gateway.transfer.ports import BodySlots, ObjectStore, TaskStore
from gateway.transfer.recovery import rebuild
from gateway.transfer.replay import ReplayBudget
from gateway.transfer.typed_source import TypeLook

log = logging.getLogger(__name__)

FAIL_ATTEMPTS: Final = 20
"""How often a failure is noted again because parts commit meanwhile."""
_UPLOAD_ENDED: Final = frozenset({TaskState.COMPLETING, TaskState.SUCCESS, TaskState.CANCELED})
"""States in which COS may forget the upload because we asked for it."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where tasks and objects are kept, and what bodies share in this process.

    ``slots`` bounds how many files of a batch move at once; without it any number does. ``destinations`` tell whose
    files are looked at; without them nobody's. ``ack_without_state``: a part is acknowledged without Redis if that does
    not answer. ``costs`` are what callers spend.
    """

    tasks: TaskStore
    objects: ObjectStore
    bodies: BodiesInFlight
    budget: ReplayBudget
    owned: OwnedTasks
    slots: BodySlots | None = None
    destinations: Destinations = field(default_factory=lambda: Destinations(()))
    ack_without_state: bool = False
    costs: Costs = NO_COSTS
    _rebuilding: "dict[TaskId, _Rebuilding]" = field(default_factory=dict)

    def look(self, caller: Caller, at: ObjectAddress, headers: Mapping[str, str]) -> TypeLook | None:
        """How to look at the file at *at*, which *headers* describe; None where its bucket takes any type."""
        place = self.destinations.of(at)
        if place is None or place.types is None:
            return None
        return TypeLook(caller, place, headers.get("content-type"))

    async def admit(self, task: Task) -> None:
        """Let a body of *task* begin. Raises TaskWaiting when its batch has no free slot."""
        if self.slots is not None and task.batch_id is not None:
            await self.slots.take(BatchId(task.batch_id), task.id)

    async def open(self, task: Task) -> Task:
        """*task* with an upload of its own; opened to its end whatever becomes of the caller. See ``open_upload``."""
        if task.upload_id is not None:
            return task
        return await self.owned.finish(open_upload(self.tasks, self.objects, task), "open upload")

    async def rebuild(self, lost: Task, is_wanted: IsWanted = always) -> Task:
        """A task that Redis lost, made again, once for all who miss it at the same time; see ``recovery.rebuild``.

        It ends early when none of them waits any more.
        """
        if (rebuilding := self._rebuilding.get(lost.id)) is None:
            log.warning("redis has lost the task", extra={"task_id": lost.id})
            waiting = [is_wanted]
            work = rebuild(self.tasks, self.objects, lost, time.time(), lambda: any(each() for each in waiting))
            rebuilding = self._rebuilding[lost.id] = _Rebuilding(self.owned.start(work, "rebuild"), waiting)
            rebuilding.work.add_done_callback(lambda _: self._rebuilding.pop(lost.id, None))
        else:
            rebuilding.waiting.append(is_wanted)
        return await asyncio.shield(rebuilding.work)

    async def judged(self, task: Task, error: GatewayError) -> GatewayError:
        """The error to tell a body of *task* that met *error*: COS's last word puts the task into ``error``.

        An upload that is gone because the task ended is no failure: then the task's state is what the body is told.
        """
        if not isinstance(error, UploadLost) and (error.retryable or not isinstance(error, Storage)):
            return error
        now = await self.fail(task, error)
        if now is not None and now.state in _UPLOAD_ENDED and isinstance(error, UploadLost):
            return refusal(now.state, BodyStarted)
        return error

    async def fail(self, task: Task, error: GatewayError) -> Task | None:
        """Put *task* into ``error``, unless it has moved on: to another upload or writer, or to take no more bytes.

        Returns the task as it stands, None when Redis does not tell; raises nothing.
        """
        try:
            for _ in range(FAIL_ATTEMPTS):
                now = await self.tasks.load(task.id)
                if now is None or not _takes_bytes_like(now, task):
                    return now
                try:
                    return await self.tasks.apply(now, Failed(TaskError.of(error)), expected_version=now.version)
                except VersionMismatch:
                    continue
        except GatewayError as refused:
            log.warning("the failure could not be noted: %s", refused.code, extra={"task_id": task.id})
        return None


@dataclass(frozen=True, slots=True)
class _Rebuilding:
    """A task that is being made again. ``waiting``: whether each of those who asked for it waits still."""

    work: "asyncio.Task[Task]"
    waiting: list[IsWanted]


def _takes_bytes_like(now: Task, then: Task) -> bool:
    return BodyStarted in TRANSITIONS[now.state] and (now.upload_id, now.writer) == (then.upload_id, then.writer)

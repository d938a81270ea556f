"""How a task ends: in ``success`` or ``error``, also when Redis lost it meanwhile or another process was faster."""

import logging
import time
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from gateway.domain.errors import Conflict, GatewayError, IllegalTransition, StateStoreUnavailable, TaskNotFound
from gateway.domain.objects import StoredObject
from gateway.domain.task import (
    CompleteRequested,
    Failed,
    RestartRequested,
    Succeeded,
    Task,
    TaskError,
    TaskResult,
    TaskState,
)
from gateway.transfer.ports import TaskStore

log = logging.getLogger(__name__)

RACE_ATTEMPTS: Final = 20


async def succeed(tasks: TaskStore, task: Task, result: TaskResult) -> Task:
    """*task*, which was ``completing``, in ``success``.

    COS holds the object, so a task that was lost, or given up and handed back meanwhile, succeeds all the same.

    Raises:
        TaskCanceled: it was handed back, and canceled since.
        StateStoreUnavailable: Redis does not answer, or the task keeps changing.
    """
    log.info("stored %d bytes", result.size, extra={"task_id": task.id})
    completing = task
    for _ in range(RACE_ATTEMPTS):
        try:
            return await tasks.apply(task, Succeeded(result))
        except TaskNotFound:
            now = time.time()
            task = await tasks.restore(replace(completing.after(Succeeded(result), now), version=version_at(now)), ())
        except IllegalTransition:
            task = await tasks.load(task.id) or task
            if task.state is not TaskState.SUCCESS:
                task = await tasks.apply(await revived(tasks, task), CompleteRequested(completing.intent))
        if task.state is TaskState.SUCCESS:
            return task
    raise StateStoreUnavailable("The task kept changing after its object was stored.")


async def fail(tasks: TaskStore, task: Task, error: GatewayError) -> Task:
    """*task* in ``error``, or as it ended elsewhere meanwhile. Raises StateStoreUnavailable."""
    log.warning("the task failed: %s", error.code, extra={"task_id": task.id})
    try:
        return await tasks.apply(task, Failed(TaskError.of(error)))
    except (Conflict, TaskNotFound):
        return await tasks.load(task.id) or task


async def revived(tasks: TaskStore, task: Task) -> Task:
    """*task*, restarted if a repetition may mend its ``error``: the call that comes now is that repetition."""
    if task.error is None or not task.error.retryable:
        return task
    return await tasks.apply(task, RestartRequested())


def result_of(task: Task, stored: StoredObject, size: int, crc64: int | None, *, verified: bool) -> TaskResult:
    """What *task* has become: COS's *stored* object of *size* bytes, whose CRC-64 is *crc64* or what COS says."""
    return TaskResult(
        location=f"https://{task.at.bucket.host}/{quote(task.at.key, safe='/-_.~')}",
        etag=stored.etag,
        version_id=stored.version_id,
        crc64=crc64 if crc64 is not None else stored.crc64,
        size=size,
        crc64_verified=verified,
        processed=stored.processed,
    )


def version_at(now: float) -> int:
    """A version that follows all that a task ever had by Unix time *now*: it changes less than 1,000 times a second."""
    return int(now * 1000)

"""Completing a task: one Complete at COS, believed only when length and CRC-64 are those of the parts.

Complete Multipart Upload (doc 7742) answers 200 before it merges, may fail in that body, and is not idempotent: a lost
answer is settled by HEAD and List Parts, never by guessing.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from gateway.domain.errors import (
    Conflict,
    GatewayError,
    IntegrityFailed,
    ObjectConflict,
    ObjectExists,
    ObjectNotFound,
    PartsMissing,
    Storage,
    StorageUnavailable,
    TaskCompleting,
    TaskNotFound,
    UploadLost,
    VersionMismatch,
)
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.objects import ETag, PartBody, StoredObject
from gateway.domain.task import (
    CompleteRequested,
    Failed,
    Intent,
    PartsLost,
    Succeeded,
    Task,
    TaskError,
    TaskId,
    TaskResult,
    TaskState,
)
from gateway.transfer.completion_plan import CompleteWanted, CompletionPlan, as_ranges, plan_completion
from gateway.transfer.opening import abort_quietly
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.ports import ObjectStore, TaskStore
from gateway.transfer.put_headers import put_headers, streamed_headers
from gateway.transfer.replay import BufferedBody, LastChunkAfter

log = logging.getLogger(__name__)

COMPLETE_ATTEMPTS: Final = 3
RACE_ATTEMPTS: Final = 20
POLL_SECONDS: Final = 0.5
"""How often a completion that another process runs is looked at."""


class Completion:
    """Ends tasks in ``success`` or ``error``.

    Args:
        wait_seconds: how long an answer waits for COS's verdict.
    """

    def __init__(self, tasks: TaskStore, objects: ObjectStore, owned: OwnedTasks, wait_seconds: float) -> None:
        self._tasks = tasks
        self._objects = objects
        self._owned = owned
        self._wait_seconds = wait_seconds
        self._running: dict[TaskId, asyncio.Task[Task]] = {}

    async def complete(self, task: Task, wanted: CompleteWanted) -> Task:
        """The task in ``success``, or still ``completing`` when COS takes longer than ``wait_seconds``.

        Repeated and concurrent calls join the first and give the same answer.

        Raises:
            PartsMissing: with ``missing`` ranges of part numbers; the task goes on uploading.
            Conflict: the state does not allow it.
            IntegrityFailed, UploadLost, ObjectConflict, Storage: COS's verdict; the task is in ``error``.
        """
        if task.state is TaskState.SUCCESS:
            return task
        if task.state is TaskState.COMPLETING:
            return await self._join(task)
        begun, plan = await self._begin(task, wanted)
        if plan is None:
            return begun if begun.state is TaskState.SUCCESS else await self._join(begun)
        return await self._run(begun, plan)

    async def put_whole(self, task: Task, body: PartBody, content_md5: str | None) -> Task:
        """Store a whole file in one PUT Object; from its begin on the task is ``completing``."""
        task = await self._tasks.apply(task, CompleteRequested(Intent.PUT, body.size))
        headers = await put_headers(task, body, content_md5)
        return await self._owned.finish(self._put(task, body, headers), "put object")

    async def put_streamed(self, task: Task, body: PartBody, content_md5: str | None) -> Task:
        """Store a whole file that is still coming in one PUT Object; the task is ``completing`` from its last chunk on.

        Until then COS has a body without its end, of which nothing stays: pause and cancel are possible.
        """

        async def commit() -> None:
            await self._tasks.apply(task, CompleteRequested(Intent.PUT, body.size))

        try:
            headers = streamed_headers(task, content_md5)
            stored = await self._put_once(task, LastChunkAfter(body, commit), headers)
        except GatewayError as error:
            with contextlib.suppress(Conflict, TaskNotFound):  # it was paused or canceled meanwhile
                await self._fail(task, error)
            raise
        return await self._succeed(task, stored, body.size, body.crc64, verified=True)

    async def put_new(self, draft: Task, body: PartBody, content_md5: str | None) -> Task:
        """Store a small file whose task is not written yet: COS first, then the task once, with its end in it."""
        headers = await put_headers(draft, body, content_md5)
        return await self._owned.finish(self._put_new(draft, body, headers), "put object")

    async def _put_new(self, draft: Task, body: PartBody, headers: dict[str, str]) -> Task:
        try:
            stored = await self._put_once(draft, body, headers)
        except GatewayError as error:
            await self._tasks.create(draft.after(Failed(TaskError.of(error)), time.time()))
            raise
        result = result_of(draft, stored, body.size, body.crc64, verified=True)
        return await self._tasks.create(draft.after(Succeeded(result), time.time()))

    async def _put(self, task: Task, body: PartBody, headers: dict[str, str]) -> Task:
        try:
            stored = await self._put_once(task, body, headers)
        except GatewayError as error:
            await self._fail(task, error)
            raise
        return await self._succeed(task, stored, body.size, body.crc64, verified=True)

    async def _put_once(self, task: Task, body: PartBody, headers: dict[str, str]) -> StoredObject:
        """PUT Object; where overwriting is forbidden, a repetition after a lost answer meets what it stored itself."""
        try:
            return await self._objects.put_object(task.at, body, headers)
        except ObjectExists as exists:
            stored = await self._objects.head_object(task.at)
            if (stored.size, stored.crc64) != (body.size, body.crc64):
                raise
            log.info("the object that exists is ours: %s", exists.code, extra={"task_id": task.id})
            return stored

    async def _begin(self, task: Task, wanted: CompleteWanted) -> tuple[Task, CompletionPlan | None]:
        """Move the task to ``completing`` with exactly the parts that were looked at; no plan: someone else did."""
        for _ in range(RACE_ATTEMPTS):
            task.require(CompleteRequested)
            stored = await self._tasks.parts(task.id)
            try:
                plan = plan_completion(task, stored, wanted)
                event = CompleteRequested(Intent.COMPLETE if plan.size else Intent.PUT, plan.size)
                return await self._tasks.apply(task, event, expected_version=task.version), plan
            except (IntegrityFailed, PartsMissing, VersionMismatch) as error:
                now = await self._tasks.load(task.id)
                if now is None:
                    raise TaskNotFound("No such task.") from None
                if now.state in (TaskState.COMPLETING, TaskState.SUCCESS):
                    return now, None
                if now.version == task.version:
                    if isinstance(error, IntegrityFailed):
                        await self._fail(task, error)
                    raise
                log.debug("looking again: %s", error.code, extra={"task_id": task.id})
                task = now
        raise TaskCompleting("Parts keep coming in.", retry_after_seconds=1)

    async def _run(self, task: Task, plan: CompletionPlan) -> Task:
        work = self._finish(task, plan) if plan.size else self._finish_empty(task)
        running = self._owned.start(work, "complete")
        self._running[task.id] = running
        running.add_done_callback(lambda _: self._running.pop(task.id, None))
        return await self._await_verdict(task, running)

    async def _await_verdict(self, task: Task, running: "asyncio.Task[Task]") -> Task:
        done, _ = await asyncio.wait({running}, timeout=self._wait_seconds)
        return running.result() if done else task

    async def _join(self, task: Task) -> Task:
        """Wait for a completion that is under way here or in another process."""
        if (running := self._running.get(task.id)) is not None:
            return await self._await_verdict(task, running)
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        while task.state is TaskState.COMPLETING and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            task = await self._tasks.load(task.id) or task
        if task.state is not TaskState.COMPLETING:
            raise_unless_succeeded(task)
        return task

    async def _finish(self, task: Task, plan: CompletionPlan) -> Task:
        try:
            stored = await self._complete(task, plan)
        except PartsMissing as refused:
            error = await self._lose_parts(task, plan, refused)
            raise error from refused
        except GatewayError as error:
            await self._fail(task, error)
            raise
        return await self._succeed(task, stored, plan.size, plan.crc64, verified=plan.crc64 is not None)

    async def _complete(self, task: Task, plan: CompletionPlan) -> StoredObject:
        """The object, once COS has it and it is the one that was meant; else COS's last word."""
        assert task.upload_id is not None
        headers = {name: value for name, value in task.object_headers.items() if name == FORBID_OVERWRITE}
        attempt = 0
        while True:
            attempt += 1
            try:
                stored = await self._objects.complete(task.at, task.upload_id, plan.parts, headers)
                if stored.crc64 is None or plan.crc64 is None:
                    stored = replace(await self._objects.head_object(task.at), version_id=stored.version_id)
            except (UploadLost, Storage) as error:
                settled = await self._settle(task, plan, error)
            else:
                return _judged(plan, stored)
            if isinstance(settled, StoredObject):
                return settled
            if attempt == COMPLETE_ATTEMPTS:
                raise settled
            await asyncio.sleep(POLL_SECONDS)

    async def _finish_empty(self, task: Task) -> Task:
        """0 bytes have no parts: the upload is aborted and an empty object put."""
        if task.upload_id is not None:
            await abort_quietly(self._objects, task, task.upload_id)
        return await self._put(task, BufferedBody(()), {**task.object_headers, **task.part_headers})

    async def _settle(self, task: Task, plan: CompletionPlan, error: GatewayError) -> StoredObject | GatewayError:
        """After a failed or lost Complete: the object if it is ours, or the error that stands unless another try helps.

        Raises:
            GatewayError: no other try can help.
        """
        lost = isinstance(error, UploadLost)
        if not lost and not error.retryable:
            raise error
        try:
            stored = await self._objects.head_object(task.at)
            ours = _is_ours(plan, stored)
            if ours and (lost or await self._upload_is_gone(task)):
                return stored
        except ObjectNotFound:
            if lost:
                raise error from None
        except Storage:
            return StorageUnavailable("COS does not tell whether the object was completed.", cos=error.cos)
        else:
            if lost:
                raise ObjectConflict("COS no longer knows the upload, and another object stands at its key.") from error
        return error

    async def _upload_is_gone(self, task: Task) -> bool:
        """An equal object may have stood here before: ours is there only when its upload is not."""
        assert task.upload_id is not None
        try:
            await self._objects.list_parts(task.at, task.upload_id, limit=1)
        except UploadLost:
            return True
        return False

    async def _lose_parts(self, task: Task, plan: CompletionPlan, refused: PartsMissing) -> GatewayError:
        """COS refused the list: forget what it does not hold, so that those parts are asked for again."""
        try:
            held = await self._held(task)
        except (UploadLost, Storage) as error:
            await self._fail(task, error)
            return error
        lost = [number for number, etag in plan.parts if held.get(number) != etag]
        if not lost:
            await self._fail(task, refused)
            return refused
        now = await self._tasks.apply(await self._tasks.forget_parts(task, lost), PartsLost())
        return PartsMissing(
            f"COS does not hold {len(lost)} of the parts.",
            missing=as_ranges(lost),
            next_offset=now.next_offset,
            cos=refused.cos,
        )

    async def _held(self, task: Task) -> dict[int, ETag]:
        assert task.upload_id is not None
        held: dict[int, ETag] = {}
        marker: int | None = 0
        while marker is not None:
            page = await self._objects.list_parts(task.at, task.upload_id, marker=marker)
            held.update((part.number, part.etag) for part in page.parts)
            marker = page.next_marker
        return held

    async def _succeed(self, task: Task, stored: StoredObject, size: int, crc64: int | None, *, verified: bool) -> Task:
        log.info("stored %d bytes", size, extra={"task_id": task.id})
        return await self._tasks.apply(task, Succeeded(result_of(task, stored, size, crc64, verified=verified)))

    async def _fail(self, task: Task, error: GatewayError) -> None:
        log.warning("the task failed: %s", error.code, extra={"task_id": task.id})
        await self._tasks.apply(task, Failed(TaskError.of(error)))


def result_of(task: Task, stored: StoredObject, size: int, crc64: int | None, *, verified: bool) -> TaskResult:
    """What *task* has become: COS's *stored* object of *size* bytes, whose CRC-64 is *crc64* or what COS says."""
    return TaskResult(
        location=f"https://{task.at.bucket.host}/{quote(task.at.key, safe='/-_.~')}",
        etag=stored.etag,
        version_id=stored.version_id,
        crc64=crc64 if crc64 is not None else stored.crc64,
        size=size,
        crc64_verified=verified,
    )


def _is_ours(plan: CompletionPlan, stored: StoredObject) -> bool:
    if stored.size != plan.size:
        return False
    if plan.crc64 is not None and stored.crc64 is not None:
        return stored.crc64 == plan.crc64
    return stored.etag.endswith(f'-{len(plan.parts)}"')


def _judged(plan: CompletionPlan, stored: StoredObject) -> StoredObject:
    """*stored*, if it is the file. Raises IntegrityFailed."""
    if stored.size not in (None, plan.size) or plan.crc64 not in (None, stored.crc64):
        raise IntegrityFailed(
            f"The object at COS has size {stored.size} and CRC-64 {stored.crc64}, "
            f"expected {plan.size} and {plan.crc64}."
        )
    return stored


def raise_unless_succeeded(task: Task) -> None:
    """Raise what a completion that ran elsewhere ended with, unless it succeeded."""
    if task.state is TaskState.SUCCESS:
        return
    if task.error is not None:
        raise task.error.as_exception()
    task.require(CompleteRequested)
    raise PartsMissing("COS did not hold every part; see the task.", next_offset=task.next_offset)

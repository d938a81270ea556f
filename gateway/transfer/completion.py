"""Completing a task: begun once, held by a living process, finished by another when that one dies.

Whoever completes says so about every second, as a change of the task. A task that says nothing for ``LEASE_SECONDS`` is
taken over by one compare-and-set. Two at once do no harm: COS merges once, and both judge the same object.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from gateway.domain.errors import (
    DigestMismatch,
    GatewayError,
    ObjectExists,
    ObjectNotFound,
    PartsMissing,
    Storage,
    TaskCompleting,
    TaskNotFound,
    UploadLost,
    VersionMismatch,
)
from gateway.domain.objects import PartBody, StoredObject
from gateway.domain.task import (
    CompleteRenewed,
    CompleteRequested,
    Failed,
    Intent,
    PartsLost,
    Succeeded,
    Task,
    TaskError,
    TaskId,
    TaskState,
)
from gateway.transfer.completion_plan import CompleteWanted, CompletionPlan, as_ranges, plan_completion
from gateway.transfer.ending import fail, result_of, succeed
from gateway.transfer.merging import head_as_expected, held_etags, merge
from gateway.transfer.opening import abort_quietly
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.ports import ObjectStore, TaskStore
from gateway.transfer.put_headers import empty_headers, put_headers, streamed_headers
from gateway.transfer.replay import BufferedBody, LastChunkAfter

T = TypeVar("T")

log = logging.getLogger(__name__)

RACE_ATTEMPTS: Final = 20
POLL_SECONDS: Final = 0.5
"""How often a completion that another process runs is looked at."""
RENEW_SECONDS: Final = 0.75
"""How often a completion that runs says so."""
LEASE_SECONDS: Final = 5.0
"""A completion that has said nothing for so long has nobody any more. An event loop may stand still for 3 s."""


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
        self._began_at: dict[TaskId, float] = {}
        self._watched: set[TaskId] = set()

    def oldest_seconds(self) -> float:
        """How long the oldest completion that runs here has waited for COS's verdict; 0 when none runs."""
        return time.monotonic() - min(self._began_at.values()) if self._began_at else 0.0

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

    def watch(self, task: Task) -> None:
        """See to it that *task*, if it is ``completing``, ends also when the process that completes it is dead."""
        silent = task.state is TaskState.COMPLETING and time.time() - task.updated_at > LEASE_SECONDS
        if silent and task.id not in self._running and task.id not in self._watched:
            self._watched.add(task.id)
            watching = self._owned.start(self.finish_abandoned(task), "finish an abandoned completion")
            watching.add_done_callback(lambda _: self._watched.discard(task.id))

    async def finish_abandoned(self, task: Task) -> Task:
        """*task* as it is after ``LEASE_SECONDS``; if nobody was completing it until then, its end is found here.

        Raises:
            GatewayError: as ``complete``.
        """
        deadline = asyncio.get_running_loop().time() + LEASE_SECONDS + 2 * POLL_SECONDS
        return await self._join(task, deadline)

    async def put_whole(
        self, task: Task, body: PartBody, content_md5: str | None, late: Mapping[str, str] | None = None
    ) -> Task:
        """Store a whole file in one PUT Object; from its begin on the task is ``completing``.

        *late* are object headers that the file's bytes have told of.
        """
        task = await self._tasks.apply(task, CompleteRequested(Intent.PUT, late or {}))
        headers = await put_headers(task, body, content_md5)
        return await self._owned.finish(self._held(task, self._put(task, body, headers)), "put object")

    async def put_streamed(self, task: Task, body: PartBody, content_md5: str | None) -> Task:
        """Store a whole file that is still coming in one PUT Object; the task is ``completing`` from its last chunk on.

        Until then COS has a body without its end, of which nothing stays: pause and cancel are possible.
        """

        committed = asyncio.Event()

        async def commit() -> None:
            await self._tasks.apply(task, CompleteRequested(Intent.PUT))
            committed.set()

        try:
            headers = streamed_headers(task, content_md5)
            putting = self._put_once(task, LastChunkAfter(body, commit), headers)
            stored = await self._held(task, putting, committed.is_set)
        except GatewayError as error:
            await fail(self._tasks, task, error)
            raise
        return await succeed(self._tasks, task, result_of(task, stored, body.size, body.crc64, verified=True))

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
            await fail(self._tasks, task, error)
            raise
        return await succeed(self._tasks, task, result_of(task, stored, body.size, body.crc64, verified=True))

    async def _put_once(self, task: Task, body: PartBody, headers: dict[str, str]) -> StoredObject:
        """PUT Object; where overwriting is forbidden, a repetition after a lost answer meets what it stored itself."""

        def is_ours(stored: StoredObject) -> bool:
            return (stored.size, stored.crc64) == (body.size, body.crc64)

        try:
            return await self._objects.put_object(task.at, body, headers)
        except ObjectExists as exists:
            if not exists.may_be_ours:
                raise
            try:
                stored = await head_as_expected(self._objects, task.at, is_ours)
            except ObjectNotFound:  # deleted in between; a 404 would be taken for the task's
                raise exists from None
            if not is_ours(stored):
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
                if unlisted := plan.unlisted(stored):  # whoever takes over must find exactly what was listed
                    task = await self._tasks.forget_parts(task, unlisted)
                event = CompleteRequested(Intent.COMPLETE if plan.size else Intent.PUT, wanted.headers)
                return await self._tasks.apply(task, event, expected_version=task.version), plan
            except (DigestMismatch, PartsMissing, VersionMismatch) as error:
                now = await self._tasks.load(task.id)
                if now is None:
                    raise TaskNotFound("No such task.") from None
                if now.state in (TaskState.COMPLETING, TaskState.SUCCESS):
                    return now, None
                if now.version == task.version:
                    if isinstance(error, DigestMismatch):
                        await fail(self._tasks, task, error)
                    raise
                log.debug("looking again: %s", error.code, extra={"task_id": task.id})
                task = now
        raise TaskCompleting("Parts keep coming in.", retry_after_seconds=1)

    async def _run(self, task: Task, plan: CompletionPlan) -> Task:
        work = self._finish(task, plan) if plan.size else self._finish_empty(task)
        running = self._owned.start(self._held(task, work), "complete")
        self._running[task.id], self._began_at[task.id] = running, time.monotonic()
        running.add_done_callback(lambda _: self._ended(task.id))
        return await self._await_verdict(task, running)

    def _ended(self, task_id: TaskId) -> None:
        self._running.pop(task_id, None)
        self._began_at.pop(task_id, None)

    async def _await_verdict(self, task: Task, running: "asyncio.Task[Task]") -> Task:
        done, _ = await asyncio.wait({running}, timeout=self._wait_seconds)
        return running.result() if done else task

    async def _held(self, task: Task, work: Coroutine[Any, Any, T], begun: Callable[[], bool] = lambda: True) -> T:
        """What *work* gives; from when it has *begun* and while it runs, *task* shows that somebody completes it."""
        working = asyncio.ensure_future(work)
        while not (await asyncio.wait({working}, timeout=RENEW_SECONDS))[0]:
            if begun():
                with contextlib.suppress(GatewayError):  # ended elsewhere, or Redis is away: *work* will see
                    await self._tasks.apply(task, CompleteRenewed())
        return working.result()

    async def _join(self, task: Task, deadline: float | None = None) -> Task:
        """Wait for a completion that is under way here or in another process; take it over from one that died."""
        if (running := self._running.get(task.id)) is not None:
            return await self._await_verdict(task, running)
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_seconds if deadline is None else deadline
        renewed_at = clock()
        while task.state is TaskState.COMPLETING and clock() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            now = await self._tasks.load(task.id)
            if now is None:
                raise TaskNotFound("No such task.")
            if now.version != task.version:
                renewed_at = clock()
            task = now
            if task.state is TaskState.COMPLETING and clock() - renewed_at >= LEASE_SECONDS:
                with contextlib.suppress(VersionMismatch):  # it lives, or another took it over
                    return await self._take_over(task)
        if task.state is not TaskState.COMPLETING:
            raise_unless_succeeded(task)
        return task

    async def _take_over(self, task: Task) -> Task:
        """Complete what a dead process was completing; a file that it was putting is asked for again.

        Raises:
            VersionMismatch: the task has changed, so somebody is at it.
            GatewayError: as ``complete``.
        """
        task = await self._tasks.apply(task, CompleteRenewed(), expected_version=task.version)
        log.warning("a completion is taken over", extra={"task_id": task.id})
        try:
            if task.intent is Intent.PUT:
                raise PartsMissing("The process that stored the file is gone.", next_offset=task.next_offset)
            plan = plan_completion(task, await self._tasks.parts(task.id), CompleteWanted())
        except PartsMissing:
            await self._tasks.apply(task, PartsLost())
            raise
        return await self._run(task, plan)

    async def _finish(self, task: Task, plan: CompletionPlan) -> Task:
        try:
            stored = await merge(self._objects, task, plan)
        except PartsMissing as refused:
            error = await self._lose_parts(task, plan, refused)
            raise error from refused
        except GatewayError as error:
            if (now := await fail(self._tasks, task, error)).state is TaskState.SUCCESS:
                return now
            raise
        verified = plan.crc64 is not None  # ``merge`` has compared it
        return await succeed(self._tasks, task, result_of(task, stored, plan.size, plan.crc64, verified=verified))

    async def _lose_parts(self, task: Task, plan: CompletionPlan, refused: PartsMissing) -> GatewayError:
        """COS refused the list: forget what it does not hold, so that those parts are asked for again."""
        try:
            held = await held_etags(self._objects, task)
        except (UploadLost, Storage) as error:
            await fail(self._tasks, task, error)
            return error
        lost = [number for number, etag in plan.parts if held.get(number) != etag]
        if not lost:
            await fail(self._tasks, task, refused)
            return refused
        now = await self._tasks.apply(await self._tasks.forget_parts(task, lost), PartsLost())
        return PartsMissing(
            f"COS does not hold {len(lost)} of the parts.",
            missing=as_ranges(lost),
            next_offset=now.next_offset,
            cos=refused.cos,
        )

    async def _finish_empty(self, task: Task) -> Task:
        """0 bytes have no parts: the upload is aborted and an empty object put."""
        if task.upload_id is not None:
            await abort_quietly(self._objects, task, task.upload_id)
        return await self._put(task, BufferedBody(()), empty_headers(task))


def raise_unless_succeeded(task: Task) -> None:
    """Raise what a completion that ran elsewhere ended with, unless it succeeded."""
    if task.state is TaskState.SUCCESS:
        return
    if task.error is not None:
        raise task.error.as_exception()
    task.require(CompleteRequested)
    raise PartsMissing("COS did not hold every part; see the task.", next_offset=task.next_offset)

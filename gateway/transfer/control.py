"""What a caller may ask of tasks: create, look, list, complete, pause, restart, cancel."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from gateway.domain.errors import (
    GatewayError,
    IdempotencyConflict,
    ObjectExists,
    ObjectNotFound,
    StateStoreUnavailable,
    TaskNotFound,
    VersionMismatch,
)
from gateway.domain.object_headers import FORBID_OVERWRITE, require_md5
from gateway.domain.objects import StoredPart
from gateway.domain.policy import Action, Caller, Destinations
from gateway.domain.task import (
    BodyMode,
    CancelRequested,
    Intent,
    PauseRequested,
    RestartRequested,
    Task,
    TaskEvent,
    TaskId,
    TaskState,
)
from gateway.transfer.aborting import finish_abort
from gateway.transfer.access import is_visible, require_fits, require_visible
from gateway.transfer.completion import Completion
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.costs import ROWS_LIKE_A_TASK
from gateway.transfer.drafts import Drafts, NewTask
from gateway.transfer.ending import revived
from gateway.transfer.engine import Engine
from gateway.transfer.opening import abort_quietly, open_upload
from gateway.transfer.part_pages import CLIENT_WAITS
from gateway.transfer.ports import Clock, Idempotency, TaskPage, TaskQuota
from gateway.transfer.resuming import find_same
from gateway.transfer.sequential import SequentialRelay
from gateway.transfer.typed_source import peek

log = logging.getLogger(__name__)

ABORT_WAIT_SECONDS: Final = 10.0
MOVE_ATTEMPTS: Final = 3
"""How often a task is moved when a failover, or a log cut short, makes Redis forget that it was."""


class Control:
    """The use cases that move no bytes.

    Args:
        task_ttl_seconds: how long a task lives after its last change.
        quota: bounds how many unfinished tasks an owner has; without it any number.
    """

    def __init__(
        self,
        engine: Engine,
        completion: Completion,
        sequential: SequentialRelay,
        destinations: Destinations,
        *,
        task_ttl_seconds: int,
        quota: TaskQuota | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._engine = engine
        self._completion = completion
        self._sequential = sequential
        self._drafts = Drafts(destinations, task_ttl_seconds, clock)
        self._task_ttl_seconds = task_ttl_seconds
        self._quota = quota

    async def create(self, caller: Caller, new: NewTask, idempotency: Idempotency | None = None) -> Task:
        """A new task; with an upload already open at COS when its size is unknown or above ``slice_size``.

        The same Idempotency-Key gives the same task and opens at most one upload.
        """
        caller.require(Action.CREATE)
        task = self._drafts.task(caller, new)
        if needs_upload(task):
            require_md5(task.object_headers)
        if FORBID_OVERWRITE in task.object_headers:
            await self._require_free(task, idempotency)
        await self._claim(task)
        task = await self._engine.tasks.create(task, idempotency)
        if not is_visible(caller, task):  # an earlier token's, whose first bucket was another
            raise IdempotencyConflict("The key was used for a task that this token is not for.")
        if task.state is not TaskState.WAITING or not needs_upload(task):
            return task
        try:
            return await open_upload(self._engine.tasks, self._engine.objects, task)
        except TaskNotFound:  # nobody has its ticket yet, so it is as if it had never been
            raise StateStoreUnavailable("Redis lost the task while it was created.") from None

    async def resume(self, caller: Caller, new: NewTask) -> Task | None:
        """The unfinished task that *new*'s fingerprint finds, compared with what COS holds; None: create a new one."""
        if new.fingerprint is None:
            return None
        caller.require(Action.CREATE)
        draft = self._drafts.task(caller, new)
        return await find_same(self._engine, draft, new.fingerprint, CLIENT_WAITS.get(), self._claim)

    async def _claim(self, task: Task) -> None:
        if self._quota is not None:
            await self._quota.claim(task)

    async def create_for_body(self, caller: Caller, new: NewTask) -> Task:
        """A new task whose bytes follow at once: COS hears of it when they have shown how many they are."""
        draft = self._draft_with_bytes(caller, new)
        draft = replace(draft, state=TaskState.UPLOADING, intent=Intent.NONE, mode=BodyMode.CONTENT, writer=1)
        if FORBID_OVERWRITE in draft.object_headers:  # before the client has sent its bytes in vain
            await self._require_free(draft)
        await self._claim(draft)
        return await self._engine.tasks.create(draft)

    def draft_for_whole(self, caller: Caller, new: NewTask, size: int, checked: Task | None = None) -> Task:
        """The task of a file whose *size* bytes are here already; it is written when COS holds them.

        Where overwriting is forbidden it is COS that refuses: nothing is gained by asking first. *checked* is what
        ``check`` made of *new*.
        """
        if checked is None:
            checked = self.check(caller, replace(new, size=None))
        return self._drafts.whole(caller, new, checked, size)

    def check(self, caller: Caller, new: NewTask) -> Task:
        """The task that *new* asks for, which nobody knows yet.

        Raises:
            GatewayError: ``create_for_body`` and ``draft_for_whole`` would refuse it; not a byte was asked for.
        """
        draft = self._draft_with_bytes(caller, new)
        if draft.size is not None and needs_upload(draft):
            require_md5(draft.object_headers)
        return draft

    def _draft_with_bytes(self, caller: Caller, new: NewTask) -> Task:
        caller.require(Action.CREATE)
        caller.require(Action.UPLOAD)
        return self._drafts.task(caller, new)

    async def as_it_shows(
        self, caller: Caller, new: NewTask, source: AsyncIterator[bytes]
    ) -> tuple[NewTask, AsyncIterator[bytes]]:
        """*new*, whose bytes are *source*, under the type that the first of them show, and *source* as it was.

        Nothing is read where the bucket takes any type, or before the caller's policy has agreed.

        Raises:
            TypeMismatch: the bucket does not take what they show.
        """
        if not self._drafts.is_looked_at(caller, new):
            return new, source
        self.check(caller, new)
        head, source = await peek(source)
        return self._drafts.as_it_shows(caller, new, head), source

    def key_for(self, caller: Caller, bucket: str | None, region: str | None, name: str) -> str:
        """The key of a file called *name* whose caller gave none; see ``Drafts``."""
        return self._drafts.key_for(caller, bucket, region, name)

    async def _require_free(self, task: Task, idempotency: Idempotency | None = None) -> None:
        """Raise ObjectExists unless there is no object, or it may be that of the very same request, sent before."""
        try:
            await self._engine.objects.head_object(task.at)
        except ObjectNotFound:
            return
        if idempotency is not None and await self._engine.tasks.created_under(task.owner, idempotency.key):
            return
        raise ObjectExists("An object stands at this key, and overwriting it was forbidden.")

    async def get(self, caller: Caller, task_id: TaskId, action: Action = Action.READ) -> Task:
        """One task. Raises TaskNotFound."""
        task = require_visible(caller, await self._engine.tasks.load(task_id), action)
        self._completion.watch(task)
        return task

    async def rebuild(self, caller: Caller, lost: Task) -> None:
        """Make a task again that Redis lost, from what its ticket tells. Raises TaskNotFound for another's."""
        if not is_visible(caller, lost):
            raise TaskNotFound("No such task.")
        self._engine.costs.look(caller.owner)
        await self._engine.rebuild(lost, CLIENT_WAITS.get())

    async def take_up(self, lost: Task) -> Task:
        """A task for an upload that COS holds and Redis has forgotten; it counts as one that is created does.

        Raises:
            QuotaExceeded: its owner has as many unfinished tasks as there may be.
        """
        await self._claim(replace(lost, expires_at=lost.updated_at + self._task_ttl_seconds))
        return await self._engine.rebuild(lost, CLIENT_WAITS.get())

    async def parts(self, caller: Caller, task_id: TaskId) -> list[StoredPart]:
        """Its stored parts in ascending order. Raises TaskNotFound, never tells that a lost task has none."""
        task = await self.get(caller, task_id)
        self._engine.costs.loaded(caller.owner, task.stored_count // ROWS_LIKE_A_TASK)
        stored = await self._engine.tasks.parts(task_id)
        if task.stored_count and not stored:
            await self.get(caller, task_id)
            stored = await self._engine.tasks.parts(task_id)
        return stored

    async def list(
        self,
        caller: Caller,
        *,
        states: frozenset[TaskState] | None,
        batch_id: str | None,
        limit: int,
        cursor: str | None,
    ) -> TaskPage:
        """The caller's tasks inside the token's policy, newest first; everybody's with ``all_tasks``."""
        caller.require(Action.LIST)
        everybody = caller.policy.allows(Action.ALL_TASKS)
        page = await self._engine.tasks.list_tasks(
            None if everybody else caller.owner,
            states=states,
            batch_id=batch_id,
            inside=caller.policy,
            limit=limit,
            cursor=cursor,
        )
        self._engine.costs.loaded(caller.owner, page.loaded)
        return page

    async def complete(self, caller: Caller, task_id: TaskId, wanted: CompleteWanted) -> Task:
        """See ``Completion.complete``; a tail becomes the last part first."""
        task = await revived(self._engine.tasks, await self.get(caller, task_id, Action.COMPLETE))
        if not task.is_final and task.state is not TaskState.COMPLETING:
            require_fits(caller, task)
            task = await self._sequential.flush_tail(caller, task, wanted.size)
            wanted = replace(wanted, headers=self._drafts.late_headers(caller, task, wanted.headers))
        return await self._completion.complete(task, wanted)

    async def pause(self, caller: Caller, task_id: TaskId, expected_version: int | None) -> Task:
        """No more bytes until a restart; bodies in flight end within a second."""
        return await self._move(caller, task_id, PauseRequested(), expected_version)

    async def restart(self, caller: Caller, task_id: TaskId, expected_version: int | None) -> Task:
        """Back to ``waiting`` with everything stored, or with a new upload where the old one is worthless."""
        before = await self.get(caller, task_id, Action.CONTROL)
        if not before.is_final:
            require_fits(caller, before)
        task = await self._apply(before, RestartRequested(), expected_version)
        for _ in range(MOVE_ATTEMPTS):
            if before.upload_id is not None and task.upload_id is None:
                await abort_quietly(self._engine.objects, task, before.upload_id)
            if task.upload_id is not None or not needs_upload(task):
                return task
            task = await open_upload(self._engine.tasks, self._engine.objects, task)
            if task.state is not TaskState.ERROR:
                return task
            task = await self._engine.tasks.apply(task, RestartRequested())
        raise StateStoreUnavailable("Redis keeps forgetting that the task was restarted.")

    async def cancel(self, caller: Caller, task_id: TaskId, expected_version: int | None) -> Task:
        """End the task and leave nothing of it at COS."""
        return await self._aborted(await self._move(caller, task_id, CancelRequested(), expected_version))

    async def discard(self, task: Task) -> Task:
        """Cancel a task whose file nobody can go on with: for doors whose clients cannot resume."""
        return await self._aborted(await self._engine.tasks.apply(task, CancelRequested()))

    async def _aborted(self, task: Task) -> Task:
        """The canceled *task* once its upload is gone; canceled again where Redis has forgotten that it was.

        Raises:
            Conflict: it was completed meanwhile, which Redis allowed because it had forgotten.
            StateStoreUnavailable: Redis keeps forgetting it.
        """
        for _ in range(MOVE_ATTEMPTS):
            if task.intent is not Intent.ABORT:
                return task
            aborting = self._engine.owned.start(self._abort(task), "abort")
            await asyncio.wait({aborting}, timeout=ABORT_WAIT_SECONDS)
            now = await self._engine.tasks.load(task.id) or task
            if not has_forgotten(now, task):
                return now
            log.warning("redis has forgotten a cancel", extra={"task_id": task.id})
            task = await self._engine.tasks.apply(now, CancelRequested())
        raise StateStoreUnavailable("Redis keeps forgetting that the task was canceled.")

    async def _abort(self, task: Task) -> None:
        try:
            if not await finish_abort(self._engine.tasks, self._engine.objects, task):
                log.warning("the upload outlives every abort", extra={"task_id": task.id})
        except GatewayError as error:  # the intent stays, and the sweeper finds it
            log.warning("the upload could not be aborted: %s", error.code, extra={"task_id": task.id})

    async def _move(self, caller: Caller, task_id: TaskId, event: TaskEvent, expected_version: int | None) -> Task:
        task = await self.get(caller, task_id, Action.CONTROL)
        return await self._apply(task, event, expected_version)

    async def _apply(self, task: Task, event: TaskEvent, expected_version: int | None) -> Task:
        if expected_version is not None and expected_version != task.version:
            raise VersionMismatch(
                f"The task has version {task.version}, expected {expected_version}.", version=task.version
            )
        return await self._engine.tasks.apply(task, event, expected_version=expected_version)


def needs_upload(task: Task) -> bool:
    """Whether a task's file goes in parts from the start: its size is unknown or above ``slice_size``."""
    return task.size is None or task.size > task.slice_size


def has_forgotten(now: Task | None, moved: Task) -> bool:
    """Whether Redis, which now says *now*, does not know any more that the task was *moved*."""
    if now is None:
        return False
    return now.version < moved.version or (moved.is_final and now.state is not moved.state)

"""Batches: many files created, looked at, paused, restarted and canceled together; none ever stops another."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from gateway.audit import audit_refusal
from gateway.domain.batch import Batch, BatchFile, BatchId, BatchTotals
from gateway.domain.errors import (
    BatchNotFound,
    Conflict,
    GatewayError,
    IdempotencyConflict,
    StateStoreUnavailable,
    TaskNotFound,
)
from gateway.domain.policy import Action, Caller
from gateway.domain.task import Task, TaskError, TaskId, TaskState
from gateway.transfer.access import is_visible
from gateway.transfer.control import MOVE_ATTEMPTS, Control, has_forgotten
from gateway.transfer.costs import NO_COSTS, Costs
from gateway.transfer.drafts import NewTask
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.ports import BatchStore, Clock, Idempotency, TaskStore

PARALLEL_CALLS: Final = 16
"""Tasks of one batch that are created or moved at once: each may take a call to COS."""
_READ_AT_ONCE: Final = 100
"""Tasks of one batch that are read at once: a thousand would hold up everybody else."""

T = TypeVar("T")
R = TypeVar("R")
_ENDED: Final = frozenset({TaskState.COMPLETING, TaskState.SUCCESS, TaskState.CANCELED})
_RESTING: Final = frozenset({TaskState.PAUSED, TaskState.ERROR})


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch and those of its tasks that Redis knows and the caller may see; ``is_narrowed``: there are others."""

    batch: Batch
    tasks: Mapping[TaskId, Task]
    is_narrowed: bool = False

    @property
    def files(self) -> list[tuple[int, BatchFile]]:
        """The files that are shown, each with its place among all.

        Nothing tells where a file without a task would lie: whoever does not see all tasks sees none of those.
        """
        numbered = enumerate(self.batch.files)
        return [(index, file) for index, file in numbered if not self.is_narrowed or file.task_id in self.tasks]

    @property
    def totals(self) -> BatchTotals:
        """What the tasks that are shown add up to."""
        return BatchTotals.of(self.tasks.values())


class Batches:
    """The use cases of batches."""

    def __init__(
        self,
        batches: BatchStore,
        tasks: TaskStore,
        control: Control,
        owned: OwnedTasks,
        costs: Costs = NO_COSTS,
        clock: Clock = time.time,
    ) -> None:
        self._batches = batches
        self._tasks = tasks
        self._control = control
        self._owned = owned
        self._costs = costs
        self._clock = clock

    async def create(
        self,
        caller: Caller,
        files: Sequence[NewTask | GatewayError],
        file_parallel_limit: int,
        idempotency: Idempotency | None = None,
    ) -> BatchView:
        """A task for each of *files*, in their order; where one cannot be created, its error stands in its place.

        An error among *files* is one that was found before. A fingerprint may find an unfinished task, which then stays
        in the batch that it was created in. The same Idempotency-Key gives the same batch.

        Raises:
            Forbidden: the caller may create nothing.
            IdempotencyConflict: the key was used for another request.
        """
        caller.require(Action.CREATE)
        batch_id = BatchId(secrets.token_urlsafe(16))
        if idempotency is not None:
            batch_id = await self._batches.claim(caller.owner, batch_id, idempotency)
            if (known := await self._batches.load(batch_id)) is not None:
                return await self._view_of_earlier(caller, known)
        created = await self._owned.finish(
            self._create(caller, batch_id, files, file_parallel_limit, repeatable=idempotency is not None),
            "create batch",
        )
        return await self._view(caller, created)

    async def _view_of_earlier(self, caller: Caller, batch: Batch) -> BatchView:
        view = await self._view(caller, batch)
        if view.is_narrowed and not view.tasks:
            raise IdempotencyConflict("The key was used for a batch that this token is not for.")
        return view

    async def _create(
        self,
        caller: Caller,
        batch_id: BatchId,
        files: Sequence[NewTask | GatewayError],
        file_parallel_limit: int,
        *,
        repeatable: bool,
    ) -> Batch:
        async def create(numbered: tuple[int, NewTask | GatewayError]) -> BatchFile:
            index, new = numbered
            if isinstance(new, GatewayError):
                audit_refusal(new)
                return BatchFile(None, TaskError.of(new))
            once = Idempotency(f"{batch_id}:{index}", "batch") if repeatable else None
            try:
                task = await self._control.resume(caller, new)
                if task is None:
                    task = await self._control.create(caller, replace(new, batch_id=batch_id), once)
            except GatewayError as error:
                audit_refusal(error)
                return BatchFile(None, TaskError.of(error))
            return BatchFile(task.id)

        made = await _each(create, list(enumerate(files)))
        batch = Batch(batch_id, caller.owner, file_parallel_limit, self._clock(), tuple(made))
        await self._batches.save(batch)
        return batch

    async def get(self, caller: Caller, batch_id: BatchId) -> BatchView:
        """The batch as it stands. Raises BatchNotFound."""
        return await self._visible(caller, batch_id, Action.READ)

    async def tasks_of(self, batch_id: BatchId) -> Sequence[Task] | None:
        """A batch's tasks, None for one that Redis does not know; who may see which is for the caller to ask."""
        batch = await self._batches.load(batch_id)
        return None if batch is None else await self._tasks_in(batch)

    async def pause(self, caller: Caller, batch_id: BatchId) -> BatchView:
        """Pause every task that can be paused."""
        return await self._move(caller, batch_id, self._control.pause, lambda task: task.state in _RESTING | _ENDED)

    async def restart(self, caller: Caller, batch_id: BatchId) -> BatchView:
        """Restart every task that is paused or failed."""
        return await self._move(caller, batch_id, self._control.restart, lambda task: task.state not in _RESTING)

    async def cancel(self, caller: Caller, batch_id: BatchId) -> BatchView:
        """Cancel every task that has not ended."""
        return await self._move(caller, batch_id, self._control.cancel, lambda task: task.state in _ENDED)

    async def _move(
        self,
        caller: Caller,
        batch_id: BatchId,
        call: Callable[[Caller, TaskId, None], Awaitable[Task]],
        stays: Callable[[Task], bool],
    ) -> BatchView:
        """*call* for every task that does not stay as it is, and again for those of which Redis has forgotten it.

        What fails is raised once all were called.
        """

        async def move(task: Task) -> Task | GatewayError | None:
            try:
                return await call(caller, task.id, None)
            except (Conflict, TaskNotFound):
                return None  # it has moved on by itself
            except GatewayError as error:
                return error

        view = await self._visible(caller, batch_id, Action.CONTROL)
        for _ in range(MOVE_ATTEMPTS):
            moved = await _each(move, [task for task in view.tasks.values() if not stays(task)])
            for outcome in moved:
                if isinstance(outcome, GatewayError):
                    raise outcome
            view = await self._view(caller, view.batch)
            if not any(isinstance(task, Task) and has_forgotten(view.tasks.get(task.id), task) for task in moved):
                return view
        raise StateStoreUnavailable("Redis keeps forgetting what was done to the tasks.")

    async def _visible(self, caller: Caller, batch_id: BatchId, action: Action) -> BatchView:
        batch = await self._batches.load(batch_id)
        if batch is None:
            raise BatchNotFound("No such batch.")
        if batch.owner != caller.owner and not caller.policy.allows(Action.ALL_TASKS):
            raise BatchNotFound("No such batch.")
        self._costs.load(caller.owner, len(batch.task_ids))
        view = await self._view(caller, batch)
        if not view.tasks and (view.is_narrowed or batch.owner != caller.owner):
            raise BatchNotFound("No such batch.")
        caller.require(action)
        return view

    async def _view(self, caller: Caller, batch: Batch) -> BatchView:
        found = await self._tasks_in(batch)
        seen = {task.id: task for task in found if is_visible(caller, task)}
        return BatchView(batch, seen, is_narrowed=len(seen) < len({task.id for task in found}))

    async def _tasks_in(self, batch: Batch) -> list[Task]:
        task_ids, found = batch.task_ids, list[Task]()
        for at in range(0, len(task_ids), _READ_AT_ONCE):
            some = await self._tasks.load_many(task_ids[at : at + _READ_AT_ONCE])
            found += [task for task in some if task is not None]
        return found


async def _each(call: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
    """What *call* gives for each of *items*, in their order; a few at a time."""
    turn = asyncio.Semaphore(PARALLEL_CALLS)

    async def one(item: T) -> R:
        async with turn:
            return await call(item)

    return await asyncio.gather(*(one(item) for item in items))

"""Redis forgets a move: a failover to a replica that lagged, or a log without its end. No answer says that it holds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import IllegalTransition, StateStoreUnavailable, UploadLost
from gateway.domain.parts import MIB
from gateway.domain.task import Failed, Intent, Task, TaskError, TaskState
from gateway.store.batch_store import RedisBatchStore
from gateway.store.redis_address import connect
from gateway.store.redis_keys import task_keys
from gateway.transfer.batches import Batches
from gateway.transfer.control import MOVE_ATTEMPTS
from tests.transfer.kit import ALICE, World, all_of, kinds, new_task, random_bytes

DATA = random_bytes(2 * MIB)


@dataclass
class Past:
    """A task's keys as they were: what a replica that lagged has of it."""

    keys: Redis
    task: Task
    dumps: dict[str, bytes | None]

    async def returns(self) -> None:
        """Redis becomes as it was."""
        for key, dump in self.dumps.items():
            await self.keys.delete(key)
            if dump is not None:
                await self.keys.restore(key, 0, dump, replace=True)


@pytest.fixture
async def past_of(redis_url: str) -> AsyncIterator[Callable[[Task], Awaitable[Past]]]:
    keys = Redis.from_url(redis_url)

    async def past_of(task: Task) -> Past:
        return Past(keys, task, {key: await keys.dump(key) for key in task_keys(task.id)})

    yield past_of
    await keys.aclose()


@pytest.fixture
async def batches(world: World, redis_url: str) -> AsyncIterator[Batches]:
    redis = connect(redis_url)
    yield Batches(RedisBatchStore(redis, ttl_seconds=3600), world.tasks, world.control, world.engine.owned)
    await redis.aclose()


def forgetting(monkeypatch: pytest.MonkeyPatch, world: World, past: Past, times: int) -> None:
    """Have Redis become as it was, *times* times, each time that an abort was noted or the task is looked at next."""
    real, left = world.tasks.load, times

    async def load(task_id: Any) -> Task | None:
        nonlocal left
        now = await real(task_id)
        if now is not None and now.version > past.task.version and left:
            left -= 1
            await past.returns()
        return await real(task_id)

    monkeypatch.setattr(world.tasks, "load", load)


@pytest.mark.promise(16)
@pytest.mark.parametrize("size", [300_000, 2 * MIB], ids=["no upload", "upload"])
@pytest.mark.parametrize("times", [0, 1, MOVE_ATTEMPTS - 1, MOVE_ATTEMPTS])
async def test_f6_a_cancel_answers_with_canceled_or_with_an_error(
    world: World, past_of: Any, monkeypatch: pytest.MonkeyPatch, size: int, times: int
) -> None:
    task = await world.create(size=size)
    forgetting(monkeypatch, world, await past_of(task), times)

    outcome = (await all_of(world.control.cancel(ALICE, task.id, None)))[0]

    if times < MOVE_ATTEMPTS:
        assert (outcome.state, outcome.intent) == (TaskState.CANCELED, Intent.NONE)
        assert (await world.load(task)).state is TaskState.CANCELED
    else:
        assert isinstance(outcome, StateStoreUnavailable)
    assert not world.has_open_upload(task)


async def test_f6_a_task_that_succeeded_because_its_cancel_was_forgotten_is_not_said_to_be_canceled(
    world: World, past_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await world.create(size=1000)
    past = await past_of(task)
    real = world.tasks.load

    async def completed_first(task_id: Any) -> Task | None:
        if (await real(task_id)).state is TaskState.CANCELED:  # type: ignore[union-attr]
            await past.returns()
            await world.put_content(task, random_bytes(1000))
        return await real(task_id)

    monkeypatch.setattr(world.tasks, "load", completed_first)

    assert kinds(await all_of(world.control.cancel(ALICE, task.id, None))) == [IllegalTransition.__name__]


async def test_f6_a_restart_that_is_forgotten_before_its_upload_opens_is_made_again(world: World, past_of: Any) -> None:
    task = await world.create(size=len(DATA))
    task = await world.tasks.apply(task, Failed(TaskError.of(UploadLost("gone"))))
    past = await past_of(task)
    opened = world.objects.hold("initiate", after=True)
    restarting = asyncio.create_task(world.control.restart(ALICE, task.id, None))
    await opened.reached.wait()
    await past.returns()
    opened.open()

    now = await restarting

    assert (now.state, now.error) == (TaskState.WAITING, None)
    assert now.upload_id not in (None, task.upload_id)
    world.require_success(await world.put_content(now, DATA), DATA)


@pytest.mark.parametrize("times", [1, MOVE_ATTEMPTS])
@pytest.mark.parametrize("move", ["pause", "restart", "cancel"])
async def test_f6_a_batch_is_moved_as_it_says(
    world: World, batches: Batches, past_of: Any, monkeypatch: pytest.MonkeyPatch, move: str, times: int
) -> None:
    view = await batches.create(ALICE, [new_task(size=1000), new_task(size=len(DATA))], 3)
    if move == "restart":
        await batches.pause(ALICE, view.batch.id)
    first = await world.tasks.load(view.batch.task_ids[0])
    assert first is not None
    past, real, left = await past_of(first), world.tasks.load_many, times

    async def load_many(task_ids: Any) -> list[Task | None]:
        nonlocal left
        now = await real(task_ids)
        if now[0] is not None and now[0].version > first.version and left:
            left -= 1
            await past.returns()
        return await real(task_ids)

    monkeypatch.setattr(world.tasks, "load_many", load_many)

    outcome = (await all_of(getattr(batches, move)(ALICE, view.batch.id)))[0]

    if times < MOVE_ATTEMPTS:
        expected = {"pause": TaskState.PAUSED, "restart": TaskState.WAITING, "cancel": TaskState.CANCELED}[move]
        assert {task.state for task in outcome.tasks.values()} == {expected}
    else:
        assert isinstance(outcome, StateStoreUnavailable)

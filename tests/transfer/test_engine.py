"""What a failure on the way to COS means for the task, by where the task stands by then."""

import asyncio

import pytest

from gateway.domain.errors import (
    BodyIncomplete,
    GatewayError,
    StorageDenied,
    StorageUnavailable,
    TaskCanceled,
    TaskNotFound,
    UploadLost,
)
from gateway.domain.parts import MIB
from gateway.domain.task import TaskState
from tests.transfer.kit import ALICE, World, new_task, part_of, random_bytes

DATA = random_bytes(2 * MIB)


@pytest.mark.parametrize("error", [UploadLost("gone"), StorageDenied("no")])
async def test_coss_last_word_puts_the_task_into_error(world: World, error: GatewayError) -> None:
    task = await world.create(size=None)

    assert await world.engine.judged(task, error) is error

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, error.code)


@pytest.mark.parametrize("error", [StorageUnavailable("later"), BodyIncomplete("client"), TaskNotFound("redis")])
async def test_what_another_try_may_cure_leaves_the_task_as_it_is(world: World, error: GatewayError) -> None:
    task = await world.create(size=None)

    assert await world.engine.judged(task, error) is error

    assert await world.load(task) == task


async def test_an_upload_gone_because_of_a_cancel_is_told_as_the_cancel(world: World) -> None:
    task = await world.create(size=None)
    await world.control.cancel(ALICE, task.id, None)

    assert isinstance(await world.engine.judged(task, UploadLost("gone")), TaskCanceled)


async def test_a_failure_of_an_upload_that_was_left_is_not_the_tasks(world: World) -> None:
    task = await world.create(size=None)
    await world.engine.judged(task, UploadLost("gone"))
    again = await world.control.restart(ALICE, task.id, None)

    await world.engine.judged(task, UploadLost("gone"))

    assert (await world.load(task)).state is again.state is TaskState.WAITING


async def test_a_failure_is_noted_though_parts_commit_meanwhile(world: World) -> None:
    task = await world.create(size=len(DATA))

    await asyncio.gather(
        *(world.put_part(task, n, part_of(DATA, n)) for n in (1, 2)), world.engine.fail(task, StorageDenied("no"))
    )

    assert (await world.load(task)).state is TaskState.ERROR


async def test_a_task_that_redis_does_not_know_cannot_fail(world: World) -> None:
    draft = world.control.draft_for_whole(ALICE, new_task(), 3)

    assert await world.engine.fail(draft, StorageDenied("no")) is None


async def test_open_goes_on_when_its_request_is_cancelled(world: World) -> None:
    task = await world.control.create_for_body(ALICE, new_task())
    gate = world.objects.hold("initiate", after=True)
    opening = asyncio.create_task(world.engine.open(task))
    await gate.reached.wait()

    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    gate.open()

    assert await world.engine.owned.drain(5) == 0
    assert (await world.load(task)).upload_id is not None

"""The last move of a task happens whatever Redis and other processes did meanwhile."""

import pytest

from gateway.domain.errors import GatewayError, IntegrityFailed, StorageUnavailable, TaskCanceled, TaskPaused
from gateway.domain.objects import ETag, StoredObject
from gateway.domain.parts import MIB
from gateway.domain.task import CompleteRequested, Intent, PartsLost, PauseRequested, Task, TaskResult, TaskState
from gateway.transfer.ending import fail, result_of, revived, succeed, version_at
from tests.fakes.redis_server import send_command
from tests.transfer.kit import ALICE, World, random_bytes


@pytest.fixture
def result() -> TaskResult:
    return TaskResult("https://host/k", ETag('"e-3"'), None, 7, MIB, True)


async def completing(world: World) -> Task:
    task = await world.create(size=2 * MIB)
    await world.put_part(task, 1, random_bytes(MIB))
    return await world.tasks.apply(await world.load(task), CompleteRequested(Intent.COMPLETE))


async def test_a_task_that_redis_lost_succeeds(world: World, redis_url: str, result: TaskResult) -> None:
    task = await completing(world)
    send_command(redis_url, "FLUSHALL")

    done = await succeed(world.tasks, task, result)

    assert (done.state, done.result) == (TaskState.SUCCESS, result)
    assert done.version > task.version
    assert await world.load(task) == done


async def test_a_task_that_was_handed_back_succeeds(world: World, result: TaskResult) -> None:
    task = await completing(world)
    await world.tasks.apply(task, PartsLost())

    assert (await succeed(world.tasks, task, result)).state is TaskState.SUCCESS
    assert (await succeed(world.tasks, task, result)).result == result, "once more changes nothing"


@pytest.mark.promise(16)
async def test_a_task_that_was_handed_back_and_canceled_stays_canceled(world: World, result: TaskResult) -> None:
    task = await completing(world)
    await world.tasks.apply(task, PartsLost())
    await world.control.cancel(ALICE, task.id, None)

    with pytest.raises(TaskCanceled):
        await succeed(world.tasks, task, result)


async def test_a_task_that_was_handed_back_and_paused_rests(world: World, result: TaskResult) -> None:
    task = await completing(world)
    await world.tasks.apply(await world.tasks.apply(task, PartsLost()), PauseRequested())

    with pytest.raises(TaskPaused):
        await succeed(world.tasks, task, result)


async def test_a_failure_changes_nothing_of_a_task_that_ended_elsewhere(world: World, result: TaskResult) -> None:
    task = await completing(world)
    done = await succeed(world.tasks, task, result)

    assert await fail(world.tasks, task, StorageUnavailable("late")) == done


@pytest.mark.parametrize(
    ("error", "state"), [(StorageUnavailable("x"), TaskState.UPLOADING), (IntegrityFailed("x"), TaskState.ERROR)]
)
async def test_only_an_error_that_a_repetition_may_mend_is_forgotten(
    world: World, error: GatewayError, state: TaskState
) -> None:
    failed = await fail(world.tasks, await completing(world), error)
    assert failed.state is TaskState.ERROR

    after = await revived(world.tasks, failed)
    assert (after.state is TaskState.ERROR) == (state is TaskState.ERROR)
    assert after.loaded == MIB


async def test_the_result_tells_what_was_compared_or_else_what_cos_says(world: World) -> None:
    task = await world.create(size=2 * MIB)
    stored = StoredObject(size=5, etag=ETag('"e"'), crc64=9, version_id="v", headers={})

    assert result_of(task, stored, 5, None, verified=False).crc64 == 9
    assert result_of(task, stored, 5, 8, verified=True).crc64 == 8
    assert result_of(task, stored, 5, 8, verified=True).version_id == "v"
    assert version_at(1.5) == 1500

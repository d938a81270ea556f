"""Opening an upload: whatever races, one survives."""

import asyncio

import pytest

from gateway.domain.errors import GatewayError, ObjectNotFound, TaskCanceled, TaskNotFound
from gateway.domain.task import TaskState
from gateway.transfer.opening import abort_quietly, open_upload
from tests.transfer.kit import ALICE, World, new_task


async def test_a_task_that_has_an_upload_keeps_it(world: World) -> None:
    task = await world.create(size=None)
    calls = dict(world.objects.calls)

    assert await open_upload(world.tasks, world.objects, task) is task
    assert dict(world.objects.calls) == calls


async def test_of_two_that_open_at_once_the_loser_takes_the_winners(world: World) -> None:
    task = await world.control.create_for_body(ALICE, new_task())
    gate = world.objects.hold("initiate", after=True)
    opening = [asyncio.create_task(open_upload(world.tasks, world.objects, task)) for _ in range(3)]
    await gate.reached_by(3)
    gate.open()

    opened = await asyncio.gather(*opening)

    (upload_id,) = {one.upload_id for one in opened}
    assert upload_id == (await world.load(task)).upload_id
    assert world.cos.open_uploads(task.at.bucket).count(task.at.key) == 1


async def test_a_change_of_another_kind_does_not_lose_the_upload(world: World) -> None:
    task = await world.control.create_for_body(ALICE, new_task())
    gate = world.objects.hold("initiate", after=True)
    opening = asyncio.create_task(open_upload(world.tasks, world.objects, task))
    await gate.reached.wait()
    await world.control.pause(ALICE, task.id, None)
    gate.open()

    opened = await opening

    assert (opened.state, opened.upload_id) == (TaskState.PAUSED, (await world.load(task)).upload_id)


async def test_a_task_canceled_meanwhile_leaves_nothing_at_cos(world: World) -> None:
    task = await world.control.create_for_body(ALICE, new_task())
    gate = world.objects.hold("initiate", after=True)
    opening = asyncio.create_task(open_upload(world.tasks, world.objects, task))
    await gate.reached.wait()
    await world.control.cancel(ALICE, task.id, None)
    gate.open()

    with pytest.raises(TaskCanceled):
        await opening
    assert not world.has_open_upload(task)


async def test_a_task_that_redis_lost_meanwhile_leaves_nothing_at_cos(world: World) -> None:
    draft = world.control.draft_for_whole(ALICE, new_task(), 3)

    with pytest.raises(TaskNotFound):
        await open_upload(world.tasks, world.objects, draft)

    assert not world.has_open_upload(draft)


async def test_cos_that_opens_no_upload_is_told_and_the_task_can_try_again(world: World) -> None:
    task = await world.control.create_for_body(ALICE, new_task())
    world.cos.fault("error", operation="InitiateMultipartUpload", key=task.at.key, times=None)

    with pytest.raises(GatewayError) as caught:
        await open_upload(world.tasks, world.objects, task)
    world.cos.clear_faults()

    assert caught.value.retryable
    assert (await open_upload(world.tasks, world.objects, task)).upload_id is not None


async def test_an_upload_that_cannot_be_aborted_is_left_to_the_sweeper(world: World) -> None:
    task = await world.create(size=None)
    assert task.upload_id is not None
    world.cos.fault("error", operation="AbortMultipartUpload", key=task.at.key, times=None)

    await abort_quietly(world.objects, task, task.upload_id)

    assert world.has_open_upload(task)
    with pytest.raises(ObjectNotFound):
        await world.objects.head_object(task.at)

from gateway.domain.objects import UploadId
from gateway.domain.task import CancelRequested, Intent
from gateway.transfer.aborting import ABORT_ROUNDS, abort_until_gone, finish_abort
from tests.transfer.kit import World


async def test_an_upload_is_gone_once_list_parts_says_so(world: World) -> None:
    task = await world.create(size=3 << 20)
    assert task.upload_id is not None

    assert await abort_until_gone(world.objects, task.at, task.upload_id)
    assert not world.has_open_upload(task)
    assert await abort_until_gone(world.objects, task.at, UploadId("never was"))


async def test_an_upload_that_outlives_every_abort_is_told(world: World) -> None:
    task = await world.create(size=3 << 20)
    task = await world.tasks.apply(task, CancelRequested())
    world.cos.fault("early_error", operation="AbortMultipartUpload", key=task.at.key, status=200, times=ABORT_ROUNDS)

    assert not await finish_abort(world.tasks, world.objects, task)
    assert (await world.load(task)).intent is Intent.ABORT

    assert await finish_abort(world.tasks, world.objects, task)
    assert (await world.load(task)).intent is Intent.NONE

"""Aborting an upload until nothing of it is left."""

from typing import Final

from gateway.domain.errors import UploadLost
from gateway.domain.objects import ObjectAddress, UploadId
from gateway.domain.task import AbortFinished, Task
from gateway.transfer.ports import ObjectStore, TaskStore

ABORT_ROUNDS: Final = 5


async def abort_until_gone(objects: ObjectStore, at: ObjectAddress, upload_id: UploadId) -> bool:
    """Abort (doc 7740) until List Parts does not know the upload: a part in flight can outlive one abort.

    Returns False when COS still knows it after ``ABORT_ROUNDS``.

    Raises:
        Storage: COS does not say.
    """
    try:
        for _ in range(ABORT_ROUNDS):
            await objects.abort(at, upload_id)
            await objects.list_parts(at, upload_id, limit=1)
    except UploadLost:
        return True
    return False


async def finish_abort(tasks: TaskStore, objects: ObjectStore, task: Task) -> bool:
    """Leave nothing of a canceled *task* at COS, and note that; False: COS still knows its upload.

    Raises:
        Storage: COS or Redis does not say.
        TaskNotFound: Redis lost the task; its upload is gone.
    """
    if task.upload_id is not None and not await abort_until_gone(objects, task.at, task.upload_id):
        return False
    await tasks.apply(task, AbortFinished())
    return True

"""Opening a task's COS upload, at most one of which survives."""

import logging
from typing import Final

from gateway.domain.errors import Conflict, GatewayError, TaskNotFound, VersionMismatch
from gateway.domain.object_headers import require_md5
from gateway.domain.objects import UploadId
from gateway.domain.task import Task, UploadOpened
from gateway.transfer.ports import ObjectStore, TaskStore
from gateway.transfer.put_headers import opening_headers

log = logging.getLogger(__name__)

OPEN_ATTEMPTS: Final = 8


async def open_upload(tasks: TaskStore, objects: ObjectStore, task: Task) -> Task:
    """The task with an upload of its own: the one it has, or a new one.

    Two callers at once may both initiate; the loser aborts its own and takes the winner's.

    Raises:
        Storage: COS or Redis failed.
        InvalidField: the upload would need an MD5 that nobody has given.
        Conflict, TaskNotFound: the task ended meanwhile; nothing is left behind.
    """
    if task.upload_id is not None:
        return task
    require_md5(task.object_headers)
    mine = await objects.initiate(task.at, opening_headers(task))
    for _ in range(OPEN_ATTEMPTS):
        try:
            return await tasks.apply(task, UploadOpened(mine), expected_version=task.version)
        except VersionMismatch:
            now = await tasks.load(task.id)
            if now is not None and now.upload_id == mine:
                return now
            if now is None or now.upload_id is not None:
                break
            task = now
        except (Conflict, TaskNotFound):
            await abort_quietly(objects, task, mine)
            raise
    await abort_quietly(objects, task, mine)
    if now is None or now.upload_id is None:
        raise TaskNotFound("The task vanished or kept changing while its upload was opened.")
    return now


async def abort_quietly(objects: ObjectStore, task: Task, upload_id: UploadId) -> None:
    """Abort an upload that nobody needs; a failure is logged and left to the sweeper."""
    try:
        await objects.abort(task.at, upload_id)
    except GatewayError as error:
        log.warning("a spare upload could not be aborted: %s", error.code, extra={"task_id": task.id})

"""COS's merge of the parts, believed only when length and CRC-64 are those of the parts.

Complete Multipart Upload (doc 7742) answers 200 before it merges, may fail in that body, and is not idempotent: a lost
answer is settled by HEAD and List Parts, never by guessing.
"""

import asyncio
from dataclasses import replace
from typing import Final

from gateway.domain.errors import (
    GatewayError,
    IntegrityFailed,
    ObjectConflict,
    ObjectNotFound,
    Storage,
    StorageUnavailable,
    UploadLost,
)
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.objects import ETag, StoredObject
from gateway.domain.task import Task
from gateway.transfer.completion_plan import CompletionPlan
from gateway.transfer.ports import ObjectStore

MERGE_ATTEMPTS: Final = 3
MERGE_PAUSE_SECONDS: Final = 0.5


async def merge(objects: ObjectStore, task: Task, plan: CompletionPlan) -> StoredObject:
    """The object, once COS has it and it is the one that *plan* means.

    Raises:
        GatewayError: COS's last word.
    """
    assert task.upload_id is not None
    headers = {name: value for name, value in task.object_headers.items() if name == FORBID_OVERWRITE}
    attempt = 0
    while True:
        attempt += 1
        try:
            stored = await objects.complete(task.at, task.upload_id, plan.parts, headers)
            if stored.crc64 is None or plan.crc64 is None:
                stored = replace(await objects.head_object(task.at), version_id=stored.version_id)
        except (UploadLost, Storage) as error:
            settled = await _settle(objects, task, plan, error)
        else:
            return _judged(plan, stored)
        if isinstance(settled, StoredObject):
            return settled
        if attempt == MERGE_ATTEMPTS:
            raise settled
        await asyncio.sleep(MERGE_PAUSE_SECONDS)


async def held_etags(objects: ObjectStore, task: Task) -> dict[int, ETag]:
    """The ETag of every part that COS holds of *task*'s upload, by number. Raises UploadLost."""
    assert task.upload_id is not None
    held: dict[int, ETag] = {}
    marker: int | None = 0
    while marker is not None:
        page = await objects.list_parts(task.at, task.upload_id, marker=marker)
        held.update((part.number, part.etag) for part in page.parts)
        marker = page.next_marker
    return held


async def _settle(
    objects: ObjectStore, task: Task, plan: CompletionPlan, error: GatewayError
) -> StoredObject | GatewayError:
    """After a failed or lost Complete: the object if it is ours, or the error that stands unless another try helps.

    Raises:
        GatewayError: no other try can help.
    """
    lost = isinstance(error, UploadLost)
    if not lost and not error.retryable:
        raise error
    try:
        stored = await objects.head_object(task.at)
        ours = _is_ours(plan, stored)
        if ours and (lost or await _upload_is_gone(objects, task)):
            return stored
    except ObjectNotFound:
        if lost:
            raise error from None
    except Storage:
        return StorageUnavailable("COS does not tell whether the object was completed.", cos=error.cos)
    else:
        if lost:
            raise ObjectConflict("COS no longer knows the upload, and another object stands at its key.") from error
    return error


async def _upload_is_gone(objects: ObjectStore, task: Task) -> bool:
    """An equal object may have stood here before: ours is there only when its upload is not."""
    assert task.upload_id is not None
    try:
        await objects.list_parts(task.at, task.upload_id, limit=1)
    except UploadLost:
        return True
    return False


def _is_ours(plan: CompletionPlan, stored: StoredObject) -> bool:
    if stored.size != plan.size:
        return False
    if plan.crc64 is not None and stored.crc64 is not None:
        return stored.crc64 == plan.crc64
    return stored.etag.endswith(f'-{len(plan.parts)}"')


def _judged(plan: CompletionPlan, stored: StoredObject) -> StoredObject:
    """*stored*, if it is the file. Raises IntegrityFailed."""
    if stored.size not in (None, plan.size) or plan.crc64 not in (None, stored.crc64):
        raise IntegrityFailed(
            f"The object at COS has size {stored.size} and CRC-64 {stored.crc64}, "
            f"expected {plan.size} and {plan.crc64}."
        )
    return stored

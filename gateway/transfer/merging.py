"""COS's merge of the parts, believed only when the length and CRC-64 that HEAD tells are those of the parts.

Complete Multipart Upload (doc 7742) answers 200, with its headers, before it merges, may fail in that body, and is not
idempotent: a lost answer is settled by HEAD and List Parts, never by guessing.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from gateway.domain.errors import (
    GatewayError,
    IntegrityFailed,
    ObjectConflict,
    ObjectExists,
    ObjectNotFound,
    Storage,
    StorageUnavailable,
    UploadLost,
)
from gateway.domain.objects import ETag, ObjectAddress, StoredObject
from gateway.domain.task import Task
from gateway.transfer.completion_plan import CompletionPlan
from gateway.transfer.part_pages import list_held
from gateway.transfer.ports import ObjectStore
from gateway.transfer.put_headers import merging_headers

log = logging.getLogger(__name__)

OUTAGE_SECONDS: Final = 60.0
"""How long a COS that cannot be reached is asked again: an outage of seconds ends no task."""
ANSWERED_SECONDS: Final = 8.0
"""How long one that answers with errors is asked again: callers wait for a true status, and an SDK asks thrice."""
MERGE_PAUSE_SECONDS: Final = 0.5
"""Before the second attempt; each further pause is twice as long, up to ``_MAX_PAUSE_SECONDS``."""
_MAX_PAUSE_SECONDS: Final = 4.0


async def merge(objects: ObjectStore, task: Task, plan: CompletionPlan) -> StoredObject:
    """The object, once COS has it and it is the one that *plan* means.

    Raises:
        GatewayError: COS's last word.
    """
    assert task.upload_id is not None
    headers = merging_headers(task)
    now = asyncio.get_running_loop().time
    began, pause = now(), MERGE_PAUSE_SECONDS
    while True:
        try:
            told = await objects.complete(task.at, task.upload_id, plan.parts, headers)
            return await _confirmed(objects, task, plan, told)
        except (UploadLost, ObjectExists, Storage) as error:
            settled = await _settle(objects, task, plan, error)
        if isinstance(settled, StoredObject):
            return settled
        patience = OUTAGE_SECONDS if settled.cos is None else ANSWERED_SECONDS
        if not settled.retryable or now() + pause > began + patience:
            raise settled
        await asyncio.sleep(pause)
        pause = min(_MAX_PAUSE_SECONDS, 2 * pause)


async def held_etags(objects: ObjectStore, task: Task) -> dict[int, ETag]:
    """The ETag of every part that COS holds of *task*'s upload, by number. Raises UploadLost."""
    assert task.upload_id is not None
    return {part.number: part.etag for part, _ in await list_held(objects, task.at, task.upload_id)}


async def head_as_expected(
    objects: ObjectStore, at: ObjectAddress, is_expected: Callable[[StoredObject], bool]
) -> StoredObject:
    """What HEAD tells of *at*, asked once more where that is not what *is_expected*: one answer may be wrong.

    Raises:
        ObjectNotFound, Storage: as HEAD.
    """
    stored = await objects.head_object(at)
    return stored if is_expected(stored) else await objects.head_object(at)


async def _confirmed(objects: ObjectStore, task: Task, plan: CompletionPlan, told: StoredObject) -> StoredObject:
    """The object that Complete *told* of. Where HEAD tells of another one it is asked once more.

    Two answers of HEAD that agree outweigh Complete, which may answer before it merges; of two that do not agree
    neither is worth anything, and Complete's own CRC-64 counts.

    Raises:
        IntegrityFailed: it is not the file.
        ObjectConflict: another one has taken its place.
        Storage: COS does not tell.
    """
    first = _made(plan, told, await _after_complete(objects, task))
    if _is_planned(plan, first):
        return first
    log.warning("COS tells of another object than expected: asked once more", extra={"task_id": task.id})
    second = _made(plan, told, await _after_complete(objects, task))
    if second.crc64 != first.crc64 and told.crc64 is not None:
        second = replace(second, crc64=told.crc64)
    return _judged(plan, second)


async def _after_complete(objects: ObjectStore, task: Task) -> StoredObject:
    """What stands at COS once Complete has told of an object. Raises Storage while that is in doubt."""
    try:
        return await objects.head_object(task.at)
    except ObjectNotFound as gone:
        raise StorageUnavailable("COS told of an object and does not find it.", cos=gone.cos) from gone


def _made(plan: CompletionPlan, told: StoredObject, stands: StoredObject) -> StoredObject:
    """What Complete has made, of what it *told* and what *stands* there now.

    Raises:
        ObjectConflict: another object has taken its place, and nobody can tell any more what it was.
    """
    if stands.etag.strip('"') != told.etag.strip('"'):
        if told.crc64 is None and plan.crc64 is not None:
            raise ObjectConflict("Another object has replaced the completed one before it could be compared.")
        log.warning("the completed object was replaced at once: what Complete told of it stands")
        return told
    crc64 = stands.crc64 if stands.crc64 is not None else told.crc64
    version_id = told.version_id or stands.version_id
    return replace(stands, crc64=crc64, version_id=version_id, processed=told.processed)


async def _settle(
    objects: ObjectStore, task: Task, plan: CompletionPlan, error: GatewayError
) -> StoredObject | GatewayError:
    """After a failed or lost Complete: the object if it is ours, or the error that stands unless another try helps.

    Raises:
        GatewayError: no other try can help.
    """
    lost = isinstance(error, UploadLost)
    if not (lost or error.retryable or isinstance(error, ObjectExists)):  # what exists may be ours
        raise error
    try:
        stored = await head_as_expected(objects, task.at, partial(_is_ours, plan))
        if _is_ours(plan, stored) and (lost or await _upload_is_gone(objects, task)):
            return stored
    except ObjectNotFound:
        if lost:
            raise error from None
    except Storage as silence:
        return _in_doubt(silence, error)
    else:
        if lost:
            raise ObjectConflict("COS no longer knows the upload, and another object stands at its key.") from error
    return error


def _in_doubt(silence: Storage, error: GatewayError) -> StorageUnavailable:
    """What to say when COS does not tell whether it did what ended with *error*. Raises a *silence* that will last."""
    if not silence.retryable:
        raise silence
    return StorageUnavailable("COS does not tell whether the object was completed.", cos=error.cos)


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
    if plan.crc64 is not None:
        return stored.crc64 == plan.crc64
    return stored.etag.endswith(f'-{len(plan.parts)}"')


def _is_planned(plan: CompletionPlan, stored: StoredObject) -> bool:
    return stored.size in (None, plan.size) and plan.crc64 in (None, stored.crc64)


def _judged(plan: CompletionPlan, stored: StoredObject) -> StoredObject:
    """*stored*, if it is the file. Raises IntegrityFailed."""
    if not _is_planned(plan, stored):
        raise IntegrityFailed(
            f"The object at COS has size {stored.size} and CRC-64 {stored.crc64}, "
            f"expected {plan.size} and {plan.crc64}."
        )
    return stored

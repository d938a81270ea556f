"""A task that Redis lost, made again from its ticket, or from who still holds it in memory, and from COS.

COS is the record: List Parts (doc 7747) tells every part but its CRC-64, and HEAD (doc 7745) whether the object stands.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.domain.errors import ObjectNotFound, StorageBadAnswer, TaskNotFound, UploadLost
from gateway.domain.objects import StoredObject, StoredPart
from gateway.domain.parts import sequential_part_size
from gateway.domain.task import BodyMode, Failed, Intent, Succeeded, Task, TaskError, TaskState
from gateway.transfer.ending import result_of, version_at
from gateway.transfer.part_pages import Held, IsWanted, Patience, always, list_held
from gateway.transfer.ports import ObjectStore, TaskStore

CLOCKS_DIFFER_SECONDS: Final = 300.0
"""COS's clock and ours: an object older than its task by more than that is not the task's."""

_MULTIPART_ETAG: Final = re.compile(r'".*-([0-9]{1,5})"')


async def rebuild(tasks: TaskStore, objects: ObjectStore, lost: Task, now: float, is_wanted: IsWanted = always) -> Task:
    """*lost* as COS knows it at Unix time *now*, stored again; or the task as it is, when it is back already.

    *lost* needs to be right only in what never changes, and in its upload. An upload that COS does not know either has
    become the object, or the task is in ``error`` ``upload_lost``.

    Raises:
        TaskNotFound: it had no upload. Nothing of it is at COS, so nothing there could tell that it was canceled.
        Storage: COS or Redis failed, or nobody waits any more.
    """
    if lost.upload_id is None:
        raise TaskNotFound("Redis has lost the task, and nothing of it was at COS yet: create a new one.")
    blank = _blank(lost, now)
    try:
        held = await list_held(objects, lost.at, lost.upload_id, Patience(is_wanted))
    except UploadLost as error:
        return await tasks.restore(await _ended(objects, blank, error, now), ())
    known = {part.number: part for part in await tasks.parts(lost.id)}
    parts = [_remembered(part, known.get(part.number)) for part in _in_order(blank, held)]
    return await tasks.restore(with_parts(blank, parts), parts)


async def held_parts(objects: ObjectStore, task: Task) -> list[StoredPart]:
    """The parts of *task* that COS holds, in ascending order; none when its upload is gone, which is found out later.

    Raises:
        Storage: COS failed.
    """
    if task.upload_id is None:
        return []
    try:
        return _in_order(task, await list_held(objects, task.at, task.upload_id))
    except UploadLost:
        return []


def with_parts(task: Task, parts: Sequence[StoredPart]) -> Task:
    """*task* when exactly the ascending *parts* are stored: ``uploading`` if there are any."""
    count = offset = 0
    for part in parts:
        if part.number != count + 1:
            break
        count, offset = count + 1, offset + part.size
    return replace(
        task,
        state=TaskState.UPLOADING if parts else TaskState.WAITING,
        mode=_mode(task, parts),
        stored_count=len(parts),
        contiguous_count=count,
        loaded=sum(part.size for part in parts),
        next_offset=offset,
    )


def _blank(lost: Task, now: float) -> Task:
    """*lost* with nothing stored."""
    version = version_at(now)
    return replace(
        lost,
        state=TaskState.WAITING,
        intent=Intent.NONE,
        stored_count=0,
        contiguous_count=0,
        loaded=0,
        next_offset=0,
        tail_size=0,
        writer=lost.writer or version,
        speed=0.0,
        version=version,
        updated_at=now,
        result=None,
        error=None,
    )


def _in_order(task: Task, held: Sequence[Held]) -> list[StoredPart]:
    """The parts at COS without those that an older sequential body may have left there.

    Raises StorageBadAnswer when they cannot be the task's.

    A sequential body's offsets follow from the parts before. Behind one that is not as long as planned, a part counts
    only if it came later: an earlier one belongs to a body that had cut the file elsewhere.
    """
    if task.mode is BodyMode.PARTS:
        return _believed(task, [part for part, _ in held])
    kept: list[StoredPart] = []
    count = offset = 0
    not_before = ""
    for part, modified in held:
        if modified < not_before:
            continue
        kept.append(part)
        if part.number == count + 1:
            if part.size != sequential_part_size(task.part_size, count, offset, task.size):
                not_before = max(not_before, modified)
            count, offset = count + 1, offset + part.size
    return _believed(task, kept)


def _believed(task: Task, parts: list[StoredPart]) -> list[StoredPart]:
    """*parts*, unless they are more, or larger, than the parts of *task* can be. Raises StorageBadAnswer."""
    size = task.size
    if size is None:
        return parts
    if sum(part.size for part in parts) > size:
        raise StorageBadAnswer(f"COS lists more bytes in parts than the {size} that the task has.")
    if task.mode is BodyMode.PARTS and not all(_is_planned(task, part, size) for part in parts):
        raise StorageBadAnswer("COS lists a part of another size than the task's part of that number.")
    if any(part.size > _longest(task, part.number, size) for part in parts):
        raise StorageBadAnswer("COS lists a part that is longer than any that the task was cut into.")
    return parts


def _is_planned(task: Task, part: StoredPart, size: int) -> bool:
    return part.size == min(task.part_size, size - (part.number - 1) * task.part_size)


def _longest(task: Task, number: int, size: int) -> int:
    """The most bytes of part *number* in a sequential body, whether or not its size was known when it was cut.

    The first one may be longer than planned, so that the file does not fit into one PUT.
    """
    plans = (sequential_part_size(task.part_size, number - 1, 0, known) for known in (size, None))
    return max(task.slice_size + 1, *plans)


def _mode(task: Task, parts: Sequence[StoredPart]) -> BodyMode:
    """A ticket from before the first byte does not tell; parts that are no numbered parts do."""
    if task.mode is not BodyMode.UNDECIDED or task.size is None:
        return task.mode
    fits = all(_is_planned(task, part, task.size) for part in parts)
    return BodyMode.UNDECIDED if fits else BodyMode.CONTENT


def _remembered(part: StoredPart, known: StoredPart | None) -> StoredPart:
    """*part* with its CRC-64 where Redis still had it."""
    same = known is not None and (known.size, known.etag) == (part.size, part.etag)
    return known if known is not None and same else part


async def _ended(objects: ObjectStore, blank: Task, error: UploadLost, now: float) -> Task:
    """The task whose upload COS does not know: it succeeded if its object stands, or failed."""
    try:
        stored = await objects.head_object(blank.at)
    except ObjectNotFound:
        stored = None
    if stored is None or blank.size is None or not _is_likely_ours(blank, stored):
        return blank.after(Failed(TaskError.of(error)), now)
    completing = replace(blank, state=TaskState.COMPLETING)
    return completing.after(Succeeded(result_of(blank, stored, blank.size, None, verified=False)), now)


def _is_likely_ours(task: Task, stored: StoredObject) -> bool:
    """As much as can be known without CRCs: the size, the count of parts, and that it is no older than the task."""
    etag = _MULTIPART_ETAG.fullmatch(stored.etag)
    if etag is None or stored.size != task.size:
        return False
    if task.mode is BodyMode.PARTS and int(etag[1]) != task.part_count:
        return False
    return _modified_at(stored) >= task.created_at - CLOCKS_DIFFER_SECONDS


def _modified_at(stored: StoredObject) -> float:
    try:
        return parsedate_to_datetime(stored.headers.get("last-modified", "")).timestamp()
    except ValueError:
        return 0.0

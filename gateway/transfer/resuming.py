"""Resume by content: what of a file an earlier, unfinished upload has stored, compared before anything is sent.

List Parts (doc 7747) tells the MD5 of a part, as its ETag, but no CRC-64: only digests by MD5 find what Redis lost.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from gateway.domain.errors import Conflict, UploadLost
from gateway.domain.fingerprint import Fingerprint
from gateway.domain.objects import ETag, StoredPart, UploadId
from gateway.domain.task import (
    NEW_UPLOAD_AFTER,
    BodyMode,
    CheckFinished,
    CheckStarted,
    Intent,
    RestartRequested,
    Task,
    TaskState,
)
from gateway.transfer.engine import Engine
from gateway.transfer.part_pages import IsWanted, Patience, list_held, part_pages
from gateway.transfer.recovery import with_parts

MAX_LIST: Final = 1000
"""Parts on a page of COS's."""
CANDIDATES_MOST: Final = 10
"""Open uploads of one key that are looked at, the newest first."""

Claim = Callable[[Task], Awaitable[None]]
"""Counts a task that is about to be created. Raises QuotaExceeded."""


async def find_same(
    engine: Engine, draft: Task, fingerprint: Fingerprint, is_wanted: IsWanted, claim: Claim
) -> Task | None:
    """The unfinished task of *draft*'s owner, key and content; None: *draft* is the first, or the rest is worthless.

    What COS does not hold any more, or holds with other bytes than the file's, has been forgotten. A pause stays; an
    error that left the parts good is over.

    Raises:
        Storage: COS or Redis failed, or it *is_wanted* no more.
        RateLimited: COS was asked too much for this owner.
        QuotaExceeded: an upload of the file is there, and its owner has as many unfinished tasks as there may be.
    """
    patience = Patience(is_wanted)
    assert draft.content is not None
    found = await engine.tasks.find_content(draft.owner, draft.content)
    if found is not None and not found.is_final:
        task = await engine.owned.finish(_gone_on(engine, found, fingerprint, patience), "check")
        if task is not None:
            return task
    if fingerprint.parts_md5 is None or draft.intent is not Intent.INITIATE:
        return None
    return await engine.owned.finish(_adopted(engine, draft, fingerprint, patience, claim), "adopt upload")


async def _gone_on(engine: Engine, task: Task, fingerprint: Fingerprint, patience: Patience) -> Task | None:
    try:
        if task.state is TaskState.ERROR:
            if task.error is not None and task.error.code in NEW_UPLOAD_AFTER:
                return None
            task = await engine.tasks.apply(task, RestartRequested())
        if task.state in (TaskState.PAUSED, TaskState.COMPLETING) or task.upload_id is None:
            return task
        return await _checked(engine, task, task.upload_id, fingerprint, patience)
    except UploadLost as error:
        await engine.fail(task, error)
        return None
    except Conflict:  # it moved on meanwhile
        now = await engine.tasks.load(task.id)
        return None if now is None or now.is_final else now


async def _checked(
    engine: Engine, task: Task, upload_id: UploadId, fingerprint: Fingerprint, patience: Patience
) -> Task:
    """*task* without the parts that differ; ``checking`` until that is known."""
    tasks = engine.tasks
    task = await tasks.apply(task, CheckStarted())
    stored = await tasks.parts(task.id)
    held: dict[int, ETag] = {}
    async for page in part_pages(engine.objects, task.at, upload_id, patience):
        engine.costs.looked(task.owner)
        held.update((part.number, part.etag) for part in page.parts)
        if page.next_marker is not None and task.part_count is not None:
            task = await tasks.apply(task, CheckStarted(min(1.0, page.next_marker / task.part_count)))
    differing = _differing(task, stored, held, fingerprint)
    if differing:
        task = await tasks.forget_parts(task, differing)
    return await tasks.apply(task, CheckFinished())


def _differing(
    task: Task, stored: Sequence[StoredPart], held: Mapping[int, ETag], fingerprint: Fingerprint
) -> list[int]:
    """The numbers of parts that are not the file's, or not at COS.

    Behind a part of another length a sequential body's parts stand at other offsets than the digests: those are kept.
    """
    differing = []
    comparable = True
    for part in stored:
        if task.mode is BodyMode.CONTENT and not fingerprint.fits(part):
            comparable = False
        if held.get(part.number) != part.etag or (comparable and not fingerprint.holds(part)):
            differing.append(part.number)
    return differing


async def _adopted(
    engine: Engine, draft: Task, fingerprint: Fingerprint, patience: Patience, claim: Claim
) -> Task | None:
    """A new task for an open upload of the same key that no task has and that holds parts of the file."""
    for upload_id in await _orphans(engine, draft):
        try:
            held = await list_held(engine.objects, draft.at, upload_id, patience)
        except UploadLost:
            held = []
        engine.costs.looked(draft.owner, 1 + len(held) // MAX_LIST)
        parts = [part for part, _ in held if fingerprint.holds(part)]
        if parts:
            adopted = replace(draft, upload_id=upload_id, intent=Intent.NONE, mode=BodyMode.PARTS)
            checked = replace(with_parts(adopted, parts), state=TaskState.WAITING, hash_percent=1.0)
            await claim(checked)
            return await engine.tasks.restore(checked, parts)
    return None


async def _orphans(engine: Engine, draft: Task) -> list[UploadId]:
    """Open uploads of *draft*'s key that belong to no task that Redis knows, the newest first."""
    at = draft.at
    engine.costs.look(draft.owner)
    page = await engine.objects.list_uploads(at.bucket, prefix=at.key)
    rows = sorted((row for row in page.uploads if row.key == at.key), key=lambda row: row.initiated, reverse=True)
    uploads = [row.upload_id for row in rows[:CANDIDATES_MOST]]
    openers = await engine.tasks.find_uploads(uploads, None)
    known = await engine.tasks.load_many([task_id for task_id in openers if task_id is not None])
    taken = {task.id for task in known if task is not None}
    return [upload for upload, opener in zip(uploads, openers, strict=True) if opener not in taken]

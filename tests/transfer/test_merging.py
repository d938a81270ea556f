"""One merge, judged by itself; tests/transfer/test_completion.py shows every doubt through a whole completion."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from gateway.domain.errors import IntegrityFailed, ObjectConflict, UploadLost
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.objects import ETag, ObjectAddress, StoredObject, UploadId
from gateway.domain.parts import MIB
from gateway.domain.task import Task
from gateway.transfer import merging
from gateway.transfer.completion_plan import CompleteWanted, CompletionPlan, plan_completion
from gateway.transfer.merging import held_etags, merge
from gateway.transfer.replay import BufferedBody
from tests.fakes.objects import WatchedObjects
from tests.transfer.kit import World, part_of, random_bytes

DATA = random_bytes(2 * MIB + 1)


@pytest.fixture
async def planned(world: World) -> tuple[Task, CompletionPlan]:
    task = await world.create(size=len(DATA))
    for number in (1, 2, 3):
        await world.put_part(task, number, part_of(DATA, number))
    task = await world.load(task)
    return task, plan_completion(task, await world.tasks.parts(task.id), CompleteWanted())


@pytest.mark.promise(12)
async def test_a_second_merge_of_one_upload_finds_what_the_first_made(
    world: World, planned: tuple[Task, CompletionPlan]
) -> None:
    first = await merge(world.objects, *planned)
    second = await merge(world.objects, *planned)

    assert (first.etag, first.crc64, first.size or len(DATA)) == (second.etag, second.crc64, second.size)
    assert world.read(planned[0].at) == DATA


@pytest.mark.promise(8)
async def test_an_object_that_is_not_what_was_planned_is_refused(
    world: World, planned: tuple[Task, CompletionPlan]
) -> None:
    task, plan = planned
    with pytest.raises(IntegrityFailed):
        await merge(world.objects, task, replace(plan, crc64=(plan.crc64 or 0) ^ 1))


class HeadTells(WatchedObjects):
    """A COS whose HEAD tells of another object than there is."""

    def __init__(self, objects: WatchedObjects, **told: object) -> None:
        super().__init__(objects)
        self._told = told

    async def head_object(self, at: ObjectAddress) -> StoredObject:
        return replace(await super().head_object(at), **self._told)  # type: ignore[arg-type]


@pytest.mark.promise(8)
@pytest.mark.parametrize("told", [{"size": len(DATA) - 1}, {"crc64": 1}])
async def test_an_object_whose_length_or_crc_is_another_is_refused_whatever_complete_told(
    world: World, planned: tuple[Task, CompletionPlan], told: dict[str, object]
) -> None:
    with pytest.raises(IntegrityFailed):
        await merge(HeadTells(world.objects, **told), *planned)


class HeadTellsInTurn(WatchedObjects):
    """A COS whose HEAD tells of another object each time; at last of the one that there is."""

    def __init__(self, objects: WatchedObjects, *told: Mapping[str, object]) -> None:
        super().__init__(objects)
        self._told = list(told)

    async def head_object(self, at: ObjectAddress) -> StoredObject:
        stored = await super().head_object(at)
        return replace(stored, **self._told.pop(0)) if self._told else stored  # type: ignore[arg-type]


@pytest.mark.promise(8, 13)
@pytest.mark.parametrize("told", [{"crc64": 1}, {"size": 1}])
@pytest.mark.parametrize("lost", [False, True], ids=["answered", "answer lost"])
async def test_f8_one_wrong_answer_of_head_ends_no_task(
    world: World, planned: tuple[Task, CompletionPlan], told: Mapping[str, object], lost: bool
) -> None:
    task, plan = planned
    if lost:
        world.cos.fault("lost_answer", operation="CompleteMultipartUpload", key=task.at.key)

    stored = await merge(HeadTellsInTurn(world.objects, told), task, plan)

    assert (stored.crc64, world.read(task.at)) == (plan.crc64, DATA)


@pytest.mark.promise(8)
@pytest.mark.parametrize("crcs", [(1, 1), (1, 2)], ids=["heads agree", "heads differ"])
async def test_f8_of_heads_that_differ_none_outweighs_complete(
    world: World, planned: tuple[Task, CompletionPlan], crcs: tuple[int, int]
) -> None:
    objects = HeadTellsInTurn(world.objects, *({"crc64": crc} for crc in crcs))
    if crcs[0] == crcs[1]:
        with pytest.raises(IntegrityFailed):
            await merge(objects, *planned)
    else:
        assert (await merge(objects, *planned)).crc64 == planned[1].crc64


@pytest.mark.promise(8)
@pytest.mark.parametrize("crc_told", [True, False])
async def test_of_an_object_that_was_replaced_at_once_stands_what_complete_told(
    world: World, planned: tuple[Task, CompletionPlan], crc_told: bool
) -> None:
    task, plan = planned
    gate = world.objects.hold("head_object")
    if not crc_told:
        world.cos.fault("no_crc", operation="CompleteMultipartUpload", key=task.at.key)
    merging_it = asyncio.create_task(merge(world.objects, task, plan))
    await gate.reached.wait()
    await world.objects.put_object(task.at, BufferedBody([b"somebody else's"]), {})
    gate.open()

    if crc_told:
        assert (await merging_it).crc64 == plan.crc64
    else:
        with pytest.raises(ObjectConflict):
            await merging_it
    assert world.read(task.at) == b"somebody else's"


@pytest.mark.promise(8, 13)
async def test_where_no_crc_is_known_an_object_that_was_not_made_of_as_many_parts_is_not_ours(
    world: World, planned: tuple[Task, CompletionPlan]
) -> None:
    """Redis forgot the CRCs and COS the upload; what stands at the key has the file's length and other bytes."""
    task, plan = planned
    assert task.upload_id is not None
    await world.objects.abort(task.at, task.upload_id)
    await world.objects.put_object(task.at, BufferedBody([random_bytes(len(DATA), seed=2)]), {})

    with pytest.raises(ObjectConflict):
        await merge(world.objects, task, replace(plan, crc64=None))


async def test_an_object_that_complete_told_of_and_head_does_not_find_is_lost(
    world: World, planned: tuple[Task, CompletionPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "MERGE_PAUSE_SECONDS", 0.02)
    world.cos.fault("error", operation="HeadObject", key=planned[0].at.key, status=404, code="NoSuchKey", times=None)

    with pytest.raises(UploadLost):
        await merge(world.objects, *planned)


@pytest.mark.promise(12, 15)
async def test_an_object_that_may_not_be_overwritten_is_not_in_its_own_way(
    world: World, planned: tuple[Task, CompletionPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complete's answer is lost and HEAD fails for a while: the next Complete meets what the first made."""
    monkeypatch.setattr(merging, "MERGE_PAUSE_SECONDS", 0.02)
    task, plan = planned
    rule = {"operation": "CompleteMultipartUpload", "key": task.at.key}
    world.cos.fault("lost_answer", **rule)
    world.cos.fault("error", **rule, status=409, code="FileAlreadyExists", times=None)
    world.cos.fault("error", operation="HeadObject", key=task.at.key, status=500, code="InternalError", times=3)

    assert (await merge(world.objects, task, plan)).crc64 == plan.crc64
    assert world.objects.calls["complete"] == 2


class NotesHeaders(WatchedObjects):
    """What Complete was sent with."""

    headers: Mapping[str, str] = {}

    async def complete(
        self, at: ObjectAddress, upload_id: UploadId, parts: Sequence[tuple[int, ETag]], headers: Mapping[str, str]
    ) -> StoredObject:
        self.headers = headers
        return await super().complete(at, upload_id, parts, headers)


@pytest.mark.promise(15)
async def test_complete_forbids_to_overwrite_too_and_brings_no_other_header(
    world: World, planned: tuple[Task, CompletionPlan]
) -> None:
    objects, (task, plan) = NotesHeaders(world.objects), planned
    await merge(objects, replace(task, object_headers={FORBID_OVERWRITE: "true", "content-type": "a/b"}), plan)

    assert objects.headers == {FORBID_OVERWRITE: "true"}


async def test_what_cos_holds_is_listed_by_number(world: World, planned: tuple[Task, CompletionPlan]) -> None:
    task, plan = planned
    assert list((await held_etags(world.objects, task)).items()) == plan.parts

    await merge(world.objects, task, plan)
    with pytest.raises(UploadLost):
        await held_etags(world.objects, task)

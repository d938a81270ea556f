"""Completing: believed only when the object is the file; every doubt settled, every race won once."""

import asyncio

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import (
    Conflict,
    DigestMismatch,
    GatewayError,
    IllegalTransition,
    IntegrityFailed,
    ObjectConflict,
    ObjectExists,
    PartsMissing,
    StorageDenied,
    StorageUnavailable,
    TaskCanceled,
    TaskCompleting,
    TaskPaused,
    UploadLost,
)
from gateway.domain.objects import StoredPart
from gateway.domain.parts import MIB
from gateway.domain.task import Task, TaskId, TaskState
from gateway.transfer import completion, merging
from gateway.transfer.completion_plan import ClaimedPart, CompleteWanted
from gateway.transfer.digests import Digests
from gateway.transfer.replay import BufferedBody
from tests.fakes.local_cos import RunningCos
from tests.transfer.kit import ALICE, World, all_of, kinds, new_task, part_of, random_bytes, running_world, sent

DATA = random_bytes(2 * MIB + 500)
COMPLETE = "CompleteMultipartUpload"
NOTHING_SAID = CompleteWanted()


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(merging, "MERGE_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(merging, "OUTAGE_SECONDS", 1.5)


async def uploaded(world: World, data: bytes = DATA, **new: object) -> Task:
    """A task whose parts are all stored."""
    task = await world.create(size=len(data), **new)
    for number in range(1, -(-len(data) // MIB) + 1):
        await world.put_part(task, number, part_of(data, number))
    return await world.load(task)


async def complete(world: World, task: Task, wanted: CompleteWanted = NOTHING_SAID) -> Task:
    return await world.control.complete(ALICE, task.id, wanted)


# --- the good way -------------------------------------------------------------------------------------------------


async def test_the_result_tells_where_the_object_is_and_what_it_is(world: World) -> None:
    done = await complete(world, await uploaded(world))

    world.require_success(done, DATA)
    assert done.result is not None
    assert done.result.etag.endswith('-3"')
    assert done.result.location == (
        f"https://{done.at.bucket.host}/{done.at.key.split('/')[0]}/{done.at.key.split('/')[1]}"
        "/%E7%89%87%E6%AE%B5%20a%2Bb%252F.bin"
    )


async def test_repeated_completes_give_the_same_answer_and_ask_cos_once(world: World) -> None:
    task = await uploaded(world)
    first = await complete(world, task)

    assert await complete(world, task) == first
    assert world.objects.calls["complete"] == 1


async def test_five_completes_at_once_ask_cos_once_and_give_the_same_result(redis_url: str, cos: RunningCos) -> None:
    async with running_world(redis_url, cos) as world, running_world(redis_url, cos) as elsewhere:
        task = await uploaded(world)

        done = await asyncio.gather(*(complete(w, task) for w in (world, world, world, elsewhere, elsewhere)))

        assert len({(one.state, one.result) for one in done}) == 1
        world.require_success(done[0], DATA)
        assert len(world.journal(task, COMPLETE)) == 1


async def test_an_empty_file_is_an_empty_object_and_no_upload(world: World) -> None:
    for size in (0, None):
        task = await world.create(size=size)

        world.require_success(await complete(world, task), b"")


async def test_what_the_caller_says_is_held_against_what_is_stored(world: World) -> None:
    task = await uploaded(world)
    parts = [ClaimedPart(part.number, part.etag, part.crc64) for part in await world.tasks.parts(task.id)]

    done = await complete(world, task, CompleteWanted(len(DATA), parts, crc64(DATA)))

    world.require_success(done, DATA)


async def test_a_merge_that_takes_longer_than_an_answer_goes_on(redis_url: str, cos: RunningCos) -> None:
    async with running_world(redis_url, cos, wait_seconds=0.05) as world:
        task = await uploaded(world)
        gate = world.objects.hold("complete", after=True)

        assert (await complete(world, task)).state is TaskState.COMPLETING
        assert (await complete(world, task)).state is TaskState.COMPLETING
        assert 0.1 <= world.completion.oldest_seconds() < 60
        gate.open()

        world.require_success(await world.until(task, TaskState.SUCCESS), DATA)
        await world.engine.owned.drain(5)
        assert world.completion.oldest_seconds() == 0


async def test_a_completion_goes_on_when_its_request_is_cancelled(world: World) -> None:
    task = await uploaded(world)
    gate = world.objects.hold("complete")
    asking = asyncio.create_task(complete(world, task))
    await gate.reached.wait()

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    gate.open()

    world.require_success(await world.until(task, TaskState.SUCCESS), DATA)


@pytest.mark.parametrize("action", ["padded", "padded_before"])
async def test_an_answer_padded_with_spaces_is_believed(world: World, action: str) -> None:
    task = await uploaded(world)
    world.cos.fault(action, operation=COMPLETE, key=task.at.key, seconds=0.2)

    world.require_success(await complete(world, task), DATA)


# --- not yet ------------------------------------------------------------------------------------------------------


async def test_missing_parts_are_told_as_ranges_and_the_task_goes_on(world: World) -> None:
    data = random_bytes(6 * MIB)
    task = await world.create(size=len(data))
    for number in (2, 5):
        await world.put_part(task, number, part_of(data, number))

    with pytest.raises(PartsMissing) as caught:
        await complete(world, task)

    assert caught.value.facts == {"missing": [[1, 1], [3, 4], [6, 6]], "next_offset": 0}
    assert (await world.load(task)).state is TaskState.UPLOADING
    for number in (1, 3, 4, 6):
        await world.put_part(task, number, part_of(data, number))
    world.require_success(await complete(world, task), data)


@pytest.mark.parametrize(("event", "error"), [("pause", TaskPaused), ("cancel", TaskCanceled)])
async def test_a_task_that_rests_is_not_completed(world: World, event: str, error: type[Conflict]) -> None:
    task = await uploaded(world)
    await getattr(world.control, event)(ALICE, task.id, None)

    with pytest.raises(error):
        await complete(world, task)

    assert not world.exists(task)


async def test_a_caller_who_remembers_another_crc_has_to_send_every_part_again(world: World) -> None:
    task = await uploaded(world)

    with pytest.raises(DigestMismatch):
        await complete(world, task, CompleteWanted(crc64=1))

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "digest_mismatch")
    assert not world.exists(task)
    with pytest.raises(PartsMissing):
        await complete(world, task)
    again = await world.control.restart(ALICE, task.id, None)
    assert (again.loaded, again.stored_count) == (0, 0)
    assert again.upload_id not in (None, task.upload_id)


# --- doubt --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["lost_answer", "truncated", "no_etag"])
async def test_a_lost_answer_is_settled_by_what_stands_at_cos(world: World, action: str) -> None:
    task = await uploaded(world)
    world.cos.fault(action, operation=COMPLETE, key=task.at.key)

    world.require_success(await complete(world, task), DATA)
    assert len(world.journal(task, COMPLETE)) == 1
    assert world.objects.calls["head_object"] >= 1


@pytest.mark.parametrize(
    ("action", "code"), [("error_in_200", "InternalError"), ("error", "ServiceUnavailable"), ("reset", "")]
)
async def test_a_complete_that_did_not_happen_is_tried_again(world: World, action: str, code: str) -> None:
    task = await uploaded(world)
    world.cos.fault(action, operation=COMPLETE, key=task.at.key, code=code)

    world.require_success(await complete(world, task), DATA)
    assert len(world.journal(task, COMPLETE)) == 2


async def test_an_equal_object_that_stood_there_before_is_not_taken_for_ours(world: World) -> None:
    """Complete fails, and HEAD shows the same bytes: from an earlier upload, whose metadata are not the new ones."""
    first = await uploaded(world)
    await complete(world, first)
    headers = {"content-type": "video/mp4"}
    task = await uploaded(world, key=first.at.key, object_headers=headers)
    world.cos.fault("error_in_200", operation=COMPLETE, key=task.at.key, code="InternalError")

    world.require_success(await complete(world, task), DATA)
    assert world.cos.headers(task.at.bucket, task.at.key)["content-type"] == "video/mp4"


async def test_cos_that_never_says_puts_the_task_into_a_retryable_error_and_a_restart_finds_the_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "ANSWERED_SECONDS", 1.5)
    task = await uploaded(world)
    world.cos.fault("lost_answer", operation=COMPLETE, key=task.at.key, times=1)
    world.cos.fault("error", operation=COMPLETE, key=task.at.key, times=None)
    world.cos.fault("error", operation="HeadObject", key=task.at.key, times=None)

    with pytest.raises(StorageUnavailable):
        await complete(world, task)
    world.cos.clear_faults()
    assert world.objects.calls["complete"] >= 2

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.retryable, failed.loaded) == (TaskState.ERROR, True, len(DATA))
    await world.control.restart(ALICE, task.id, None)
    world.require_success(await complete(world, task), DATA)


@pytest.mark.promise(12, 13)
async def test_an_outage_that_begins_while_the_file_completes_ends_no_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "OUTAGE_SECONDS", 30)
    task = await uploaded(world)
    for operation in (COMPLETE, "HeadObject"):
        world.cos.fault("error", operation=operation, key=task.at.key, status=500, code="InternalError", times=4)
    seen = asyncio.create_task(world.until(task, TaskState.ERROR))

    world.require_success(await complete(world, task), DATA)

    seen.cancel()
    assert (await all_of(seen))[0] is not None
    assert seen.cancelled(), "the task was in error meanwhile"


async def test_a_head_that_is_denied_after_complete_is_told_as_it_is_and_a_restart_finds_the_object(
    world: World,
) -> None:
    task = await uploaded(world)
    world.cos.fault("error", operation="HeadObject", key=task.at.key, status=403, code="AccessDenied")

    with pytest.raises(StorageDenied):
        await complete(world, task)

    await world.control.restart(ALICE, task.id, None)
    world.require_success(await complete(world, task), DATA)


async def test_a_clear_refusal_is_told_as_it_is_and_not_tried_again(world: World) -> None:
    task = await uploaded(world)
    world.cos.fault("early_error", operation=COMPLETE, key=task.at.key, status=403, code="AccessDenied")

    with pytest.raises(StorageDenied):
        await complete(world, task)

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "storage_denied")
    await world.control.restart(ALICE, task.id, None)
    world.require_success(await complete(world, task), DATA)


async def test_an_upload_that_is_gone_without_an_object_is_lost(world: World) -> None:
    task = await uploaded(world)
    assert task.upload_id is not None
    await world.objects.abort(task.at, task.upload_id)

    with pytest.raises(UploadLost):
        await complete(world, task)

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "upload_lost")


async def test_an_upload_that_is_gone_beside_a_foreign_object_is_a_conflict(world: World) -> None:
    task = await uploaded(world)
    assert task.upload_id is not None
    await world.objects.abort(task.at, task.upload_id)
    await world.objects.put_object(task.at, BufferedBody([b"somebody else's"]), {})

    with pytest.raises(ObjectConflict):
        await complete(world, task)

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "object_conflict")
    assert world.read(task.at) == b"somebody else's"


async def test_an_object_with_another_crc_is_never_a_success(world: World) -> None:
    """Whatever Complete told, which COS may send before it merges: HEAD tells what there is."""
    task = await uploaded(world)
    world.cos.fault("wrong_crc", operation="HeadObject", key=task.at.key, times=2)

    with pytest.raises(IntegrityFailed):
        await complete(world, task)

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code, failed.result) == (TaskState.ERROR, "integrity_failed", None)
    assert world.exists(task), "the object is left for its owner to judge"


@pytest.mark.parametrize("action", ["no_crc", "wrong_crc"])
async def test_head_alone_decides_and_is_asked_once(world: World, action: str) -> None:
    task = await uploaded(world)
    world.cos.fault(action, operation=COMPLETE, key=task.at.key)

    world.require_success(await complete(world, task), DATA)
    assert world.objects.calls["head_object"] == 1


@pytest.mark.parametrize("number", [1, 3])
async def test_parts_that_cos_lost_are_asked_for_again(world: World, number: int) -> None:
    """Another writer, unknown to Redis, replaced a part: its ETag is not the one that was acknowledged."""
    task = await uploaded(world)
    assert task.upload_id is not None
    foreign = BufferedBody([random_bytes(len(part_of(DATA, number)), seed=5)])
    await world.objects.upload_part(task.at, task.upload_id, number, foreign, {})

    with pytest.raises(PartsMissing) as caught:
        await complete(world, task)

    assert caught.value.facts == {"missing": [[number, number]], "next_offset": (number - 1) * MIB}
    assert caught.value.cos is not None
    assert caught.value.cos.code == "InvalidPart"
    now = await world.load(task)
    assert (now.state, now.stored_count) == (TaskState.UPLOADING, 2)
    await world.put_part(task, number, part_of(DATA, number))
    world.require_success(await complete(world, task), DATA)


async def test_a_list_that_cos_refuses_though_it_holds_every_part_ends_the_task(world: World) -> None:
    task = await uploaded(world)
    world.cos.fault("early_error", operation=COMPLETE, key=task.at.key, status=400, code="InvalidPart")

    with pytest.raises(PartsMissing):
        await complete(world, task)

    assert (await world.load(task)).state is TaskState.ERROR


async def test_cos_that_refuses_the_list_and_will_not_say_what_it_holds_ends_the_task(world: World) -> None:
    task = await uploaded(world)
    world.cos.fault("early_error", operation=COMPLETE, key=task.at.key, status=400, code="InvalidPart")
    world.cos.fault("error", operation="ListParts", key=task.at.key, times=None)

    with pytest.raises(GatewayError) as caught:
        await complete(world, task)

    assert caught.value.retryable
    assert (await world.load(task)).state is TaskState.ERROR


@pytest.mark.parametrize(("status", "code"), [(400, "EntityTooSmall"), (409, "PathConflict"), (451, "Whatever")])
async def test_no_answer_of_cos_leaves_a_task_completing_for_ever(world: World, status: int, code: str) -> None:
    task = await uploaded(world)
    world.cos.fault("early_error", operation=COMPLETE, key=task.at.key, status=status, code=code)

    with pytest.raises(GatewayError) as caught:
        await complete(world, task)

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, caught.value.code)


# --- overwriting --------------------------------------------------------------------------------------------------


async def test_an_object_that_came_meanwhile_is_not_overwritten_where_that_is_forbidden(world: World) -> None:
    task = await uploaded(world, forbid_overwrite=True)
    await world.objects.put_object(task.at, BufferedBody([b"somebody else's"]), {})

    with pytest.raises(ObjectExists):
        await complete(world, task)

    assert world.read(task.at) == b"somebody else's"
    assert (await world.load(task)).state is TaskState.ERROR


async def test_one_put_is_not_mistaken_for_a_foreign_object_when_its_answer_was_lost(world: World) -> None:
    task = await world.create(size=5, forbid_overwrite=True)
    world.cos.fault("lost_answer", operation="PutObject", key=task.at.key)

    world.require_success(await world.put_content(task, b"12345"), b"12345")


@pytest.mark.parametrize("there", [b"other", b"12345"], ids=["other bytes", "the same bytes"])
async def test_one_put_does_not_overwrite_what_came_meanwhile(there: bytes, world: World) -> None:
    task = await world.create(size=5, forbid_overwrite=True)
    await world.objects.put_object(task.at, BufferedBody([there]), {})

    with pytest.raises(ObjectExists):
        await world.put_content(task, b"12345")

    assert world.read(task.at) == there


async def test_an_object_that_was_in_the_way_and_is_gone_is_told_as_it_was(world: World) -> None:
    """Not as a 404, which callers take for the task's."""
    task = await world.create(size=5, forbid_overwrite=True)
    world.cos.fault("error", operation="PutObject", key=task.at.key, status=409, code="FileAlreadyExists")

    with pytest.raises(ObjectExists):
        await world.put_content(task, b"12345")


# --- races --------------------------------------------------------------------------------------------------------


async def test_a_part_that_comes_while_the_file_completes_does_not_disturb_it(world: World) -> None:
    """Its upload is gone when it reaches COS: the task must not fail of that."""
    task = await uploaded(world)
    late = world.objects.hold("upload_part", 2)
    part = asyncio.create_task(world.put_part(task, 2, random_bytes(MIB, seed=3)))
    await late.reached.wait()
    answer = world.objects.hold("complete", after=True)
    completing = asyncio.create_task(complete(world, task))
    await answer.reached.wait()

    late.open()
    with pytest.raises(TaskCompleting):
        await part
    answer.open()

    world.require_success(await completing, DATA)


async def test_a_part_that_reaches_cos_just_before_complete_is_found_out(world: World) -> None:
    """COS then holds other bytes than were acknowledged: Complete names every ETag, so COS refuses."""
    task = await uploaded(world)
    gate = world.objects.hold("complete")
    completing = asyncio.create_task(complete(world, task))
    await gate.reached.wait()
    assert task.upload_id is not None
    await world.objects.upload_part(task.at, task.upload_id, 2, BufferedBody([random_bytes(MIB, seed=3)]), {})

    gate.open()
    with pytest.raises(PartsMissing) as caught:
        await completing

    assert caught.value.facts["missing"] == [[2, 2]]
    assert not world.exists(task)


async def test_a_part_recorded_between_look_and_change_makes_complete_look_again(world: World) -> None:
    task = await world.create(size=len(DATA))
    for number in (1, 2):
        await world.put_part(task, number, part_of(DATA, number))
    before = await world.load(task)
    await world.put_part(task, 3, part_of(DATA, 3))

    world.require_success(await world.completion.complete(before, NOTHING_SAID), DATA)


async def test_a_part_replaced_between_look_and_change_makes_complete_look_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await uploaded(world)
    other = random_bytes(MIB, seed=3)
    look = world.tasks.parts

    async def looked_before_the_part_came(task_id: TaskId) -> list[StoredPart]:
        monkeypatch.setattr(world.tasks, "parts", look)
        seen = await look(task_id)
        await world.put_part(task, 2, other)
        return seen

    monkeypatch.setattr(world.tasks, "parts", looked_before_the_part_came)

    done = await complete(world, task)

    world.require_success(done, DATA[:MIB] + other + DATA[2 * MIB :])
    assert world.objects.calls["complete"] == 1


async def test_of_cancel_and_complete_exactly_one_wins(world: World) -> None:
    for _ in range(5):
        task = await uploaded(world)

        done, canceled = await asyncio.gather(
            complete(world, task), world.control.cancel(ALICE, task.id, None), return_exceptions=True
        )

        now = await world.until(task, TaskState.SUCCESS, TaskState.CANCELED)
        if now.state is TaskState.SUCCESS:
            world.require_success(now, DATA)
            assert isinstance(done, Task)
            assert isinstance(canceled, IllegalTransition)
        else:
            assert kinds([done]) == ["TaskCanceled"]
            assert isinstance(canceled, Task)
            assert not world.exists(task)
        assert not world.has_open_upload(task)


async def test_a_cancel_while_completing_is_refused(world: World) -> None:
    task = await uploaded(world)
    gate = world.objects.hold("complete")
    completing = asyncio.create_task(complete(world, task))
    await gate.reached.wait()

    for move in (world.control.cancel, world.control.pause, world.control.restart):
        with pytest.raises(IllegalTransition):
            await move(ALICE, task.id, None)
    gate.open()

    world.require_success(await completing, DATA)


async def test_another_process_that_waits_is_told_the_same_verdict(redis_url: str, cos: RunningCos) -> None:
    async with running_world(redis_url, cos) as world, running_world(redis_url, cos) as elsewhere:
        task = await uploaded(world)
        cos.fault("wrong_crc", operation="HeadObject", key=task.at.key, times=2)
        gate = world.objects.hold("complete")
        first = asyncio.create_task(complete(world, task))
        await gate.reached.wait()
        second = asyncio.create_task(complete(elsewhere, task))
        gate.open()

        outcomes = await asyncio.gather(first, second, return_exceptions=True)

        assert kinds(outcomes) == ["IntegrityFailed", "IntegrityFailed"]


# --- one PUT ------------------------------------------------------------------------------------------------------


async def test_a_put_that_cos_refuses_puts_the_task_into_error_and_a_restart_sends_it_again(world: World) -> None:
    task = await world.create(size=5)
    world.cos.fault("error", operation="PutObject", key=task.at.key, times=None)

    with pytest.raises(GatewayError) as caught:
        await world.put_content(task, b"12345")
    world.cos.clear_faults()

    assert (caught.value.status_hint, caught.value.retryable) == (503, True)
    assert (await world.load(task)).state is TaskState.ERROR
    again = await world.control.restart(ALICE, task.id, None)
    world.require_success(await world.put_content(again, b"12345"), b"12345")


async def test_a_put_goes_on_when_its_request_is_cancelled(world: World) -> None:
    task = await world.control.create_for_body(ALICE, new_task(size=5))
    gate = world.objects.hold("put_object")
    putting = asyncio.create_task(world.sequential.receive_file(ALICE, task, sent(b"12345"), Digests()))
    await gate.reached.wait()

    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    gate.open()

    world.require_success(await world.until(task, TaskState.SUCCESS), b"12345")

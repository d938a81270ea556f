"""The doors for sequential bodies: who may send, whole small files, and the tail that becomes the last part."""

import asyncio

import pytest

from gateway.domain.errors import (
    DigestMismatch,
    FileTooLarge,
    Forbidden,
    GatewayError,
    InvalidSize,
    PartsMissing,
    TaskMode,
    TaskNotFound,
    TaskPaused,
    TaskSucceeded,
)
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import TaskId, TaskState
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.digests import Digests
from gateway.transfer.sequential_flow import ContentRange
from tests.transfer.kit import ALICE, BOB, Client, ClientLeft, World, new_task, part_of, random_bytes, sent

DATA = random_bytes(2 * MIB + 500)


async def leave_after(world: World, size: int | None, came: int) -> TaskId:
    """A task of which *came* bytes have come when its client leaves."""
    task = await world.create(size=size)
    client = Client(DATA[:came])
    client.leave()
    with pytest.raises(ClientLeft):
        await world.put_content(task, client, ContentRange(length=size))
    return task.id


async def test_another_callers_task_takes_no_content(world: World) -> None:
    task = await world.create(size=10)

    for caller, task_id in ((BOB, task.id), (ALICE, TaskId("x" * 22))):
        with pytest.raises(TaskNotFound):
            await world.sequential.receive_content(caller, task_id, ContentRange(length=10), sent(bytes(10)), Digests())


async def test_a_token_without_upload_sends_no_content(world: World) -> None:
    task = await world.create(size=10)
    reader = Caller("alice", Policy(actions=frozenset({"read"})), 2e9)

    with pytest.raises(Forbidden):
        await world.sequential.receive_content(reader, task.id, ContentRange(length=10), sent(bytes(10)), Digests())


async def test_a_body_that_says_another_size_is_refused(world: World) -> None:
    task = await world.create(size=10)

    with pytest.raises(InvalidSize):
        await world.put_content(task, bytes(11))

    assert (await world.load(task)).state is TaskState.WAITING


async def test_a_total_beyond_the_token_is_refused_before_a_byte_moves(world: World) -> None:
    task = await world.create(size=None)
    small = Caller("alice", Policy(max_size=10), 2e9)

    with pytest.raises(FileTooLarge):
        await world.sequential.receive_content(small, task.id, ContentRange(length=11), sent(bytes(11)), Digests())

    assert (await world.load(task)).size is None


async def test_a_task_that_took_parts_takes_no_content(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.put_part(task, 1, part_of(DATA, 1))

    with pytest.raises(TaskMode):
        await world.put_content(task, DATA)


@pytest.mark.parametrize(("state", "error"), [("pause", TaskPaused), ("success", TaskSucceeded)])
async def test_a_task_that_takes_no_bytes_says_why(world: World, state: str, error: type[GatewayError]) -> None:
    task = await world.create(size=len(DATA))
    if state == "pause":
        await world.control.pause(ALICE, task.id, None)
    else:
        await world.put_content(task, DATA)

    with pytest.raises(error):
        await world.put_content(task, DATA)


@pytest.mark.parametrize("size", [0, 1, 60_000])
async def test_a_small_file_that_is_here_already_is_stored_at_once(world: World, size: int) -> None:
    data = random_bytes(size)
    draft = world.control.draft_for_whole(ALICE, new_task(), size)

    done = await world.sequential.receive_whole(draft, [data[:7], data[7:]], Digests())

    assert done.id == draft.id
    world.require_success(done, data)
    assert await world.load(done) == done


@pytest.mark.parametrize("said", [Digests(crc64=1), Digests(md5_base64="AAAAAAAAAAAAAAAAAAAAAA==")])
async def test_a_small_file_with_a_wrong_digest_is_not_stored(world: World, said: Digests) -> None:
    draft = world.control.draft_for_whole(ALICE, new_task(), 3)

    with pytest.raises(DigestMismatch):
        await world.sequential.receive_whole(draft, [b"abc"], said)

    assert world.objects.calls["put_object"] == 0


async def test_a_small_file_that_cos_does_not_take_is_a_task_in_error_that_a_restart_makes_good(world: World) -> None:
    draft = world.control.draft_for_whole(ALICE, new_task(), 3)
    world.cos.fault("error", operation="PutObject", key=draft.at.key, times=None)

    with pytest.raises(GatewayError) as caught:
        await world.sequential.receive_whole(draft, [b"abc"], Digests())
    world.cos.clear_faults()

    failed = await world.load(draft)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, caught.value.code)
    again = await world.control.restart(ALICE, draft.id, None)
    world.require_success(await world.put_content(again, b"abc"), b"abc")


async def test_a_file_may_be_declared_over_where_it_broke_off(world: World) -> None:
    """Of an unknown size, what came is the file if the client says so: the tail becomes the last part."""
    task_id = await leave_after(world, None, MIB + 77)

    done = await world.control.complete(ALICE, task_id, CompleteWanted(size=MIB + 77))

    world.require_success(done, DATA[: MIB + 77])
    assert await world.stored(done) == [(1, MIB), (2, 77)]


@pytest.mark.parametrize("came", [77, MIB + 77])
async def test_completing_too_early_leaves_the_tail_a_tail(world: World, came: int) -> None:
    """As a part it would be too small to stand before another, and the file could never be completed."""
    task_id = await leave_after(world, len(DATA), came)

    with pytest.raises(PartsMissing) as caught:
        await world.control.complete(ALICE, task_id, CompleteWanted())

    assert caught.value.facts["next_offset"] == came
    task = await world.control.get(ALICE, task_id)
    assert (task.state, task.next_offset, task.tail_size) == (TaskState.UPLOADING, came, 77)
    done = await world.put_content(task, sent(DATA[came:]), ContentRange(offset=came))
    world.require_success(done, DATA)


async def test_completing_with_another_size_leaves_the_tail_a_tail(world: World) -> None:
    task_id = await leave_after(world, None, MIB + 77)

    with pytest.raises(PartsMissing):
        await world.control.complete(ALICE, task_id, CompleteWanted(size=len(DATA)))

    task = await world.control.get(ALICE, task_id)
    done = await world.put_content(
        task, sent(DATA[MIB + 77 :]), ContentRange(offset=MIB + 77, length=len(DATA) - MIB - 77)
    )
    world.require_success(done, DATA)


async def test_a_tail_that_cos_does_not_take_stays_a_tail(world: World) -> None:
    task_id = await leave_after(world, None, 77)
    task = await world.control.get(ALICE, task_id)
    world.cos.fault("error", operation="UploadPart", key=task.at.key, times=None)

    with pytest.raises(GatewayError) as caught:
        await world.control.complete(ALICE, task_id, CompleteWanted())
    world.cos.clear_faults()

    assert caught.value.retryable
    assert (await world.load(task)).tail_size == 77
    world.require_success(await world.control.complete(ALICE, task_id, CompleteWanted()), DATA[:77])


async def test_a_cancelled_complete_does_not_break_off_the_tail_on_its_way(world: World) -> None:
    task_id = await leave_after(world, None, 77)
    gate = world.objects.hold("upload_part")
    completing = asyncio.create_task(world.control.complete(ALICE, task_id, CompleteWanted()))
    await gate.reached.wait()

    completing.cancel()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await completing

    assert await world.engine.owned.drain(5) == 0
    world.require_success(await world.control.complete(ALICE, task_id, CompleteWanted()), DATA[:77])


async def test_s5_a_tail_without_room_is_sent_again_and_the_file_is_whole(world: World) -> None:
    """The owner's share is full of other tails: nothing is kept, and nobody is told that it was."""
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data))
    world.tasks.ledgers.shares.learn(1)
    body = Client(data[: MIB // 2])

    sending = asyncio.create_task(world.put_content(task, body, ContentRange(total=len(data))))
    await body.taken()
    body.leave()
    with pytest.raises(ClientLeft):
        await sending

    broken = await world.load(task)
    assert (broken.next_offset, broken.loaded, broken.tail_size) == (0, 0, 0)
    world.require_success(await world.put_content(task, data), data)

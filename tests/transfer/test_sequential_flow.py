"""One body, read once: how it is cut, the window, where it breaks off, and how the rest goes on."""

import asyncio
import itertools
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import md5

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import (
    BodyIncomplete,
    BodySuperseded,
    BodyTooLarge,
    DigestMismatch,
    FileTooLarge,
    GatewayError,
    MalformedForm,
    OffsetMismatch,
    Overloaded,
    StorageDenied,
    TaskCanceled,
    TaskCompleting,
    TaskPaused,
    TaskSucceeded,
)
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import BodyMode, Task, TaskState
from gateway.transfer import sequential_flow
from gateway.transfer.digests import Digests
from gateway.transfer.sequential_flow import ContentRange
from tests.fakes.local_cos import RunningCos
from tests.transfer.kit import (
    ALICE,
    CHUNK_BYTES,
    Client,
    ClientLeft,
    World,
    new_task,
    random_bytes,
    running_world,
    sent,
)

UNKNOWN = ContentRange()
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB, 3 * MIB + 7]


async def broken(data: bytes, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
    """*data*, then the connection breaks."""
    async for chunk in sent(data, chunk_bytes):
        yield chunk
    raise ClientLeft


async def break_off(world: World, task: Task, data: bytes, span: ContentRange) -> Task:
    """Send *data* at *span*, leave, and give the task as it then is."""
    with pytest.raises(ClientLeft):
        await world.put_content(task, broken(data), span)
    return await world.load(task)


# --- whole files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False])
async def test_a_file_of_any_size_arrives_byte_for_byte(world: World, size: int, *, known: bool) -> None:
    data = random_bytes(size)
    task = await world.create(size=size if known else None)

    done = await world.put_content(task, sent(data), ContentRange(length=size) if known else UNKNOWN)

    world.require_success(done, data)
    assert done.mode is BodyMode.CONTENT
    if known and size <= MIB:
        assert world.objects.calls["put_object"] == 1
        assert world.objects.calls["initiate"] == 0
    elif size:
        assert world.objects.calls["put_object"] == 0
        assert [size for _, size in await world.stored(task)][:-1] == [MIB] * ((size - 1) // MIB)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False])
async def test_a_single_request_with_any_size_arrives_byte_for_byte(world: World, size: int, *, known: bool) -> None:
    data = random_bytes(size)
    task = await world.control.create_for_body(ALICE, new_task(size=size if known else None))

    done = await world.sequential.receive_file(ALICE, task, sent(data, 100_000), Digests(), at_most=size + 500)

    world.require_success(done, data)
    assert world.objects.calls["put_object"] == (1 if size <= MIB else 0)


@pytest.mark.parametrize("chunk_bytes", [1000, 65_536, MIB, 5 * MIB])
async def test_chunks_of_any_length_are_cut_into_the_same_parts(world: World, chunk_bytes: int) -> None:
    data = random_bytes(4 * MIB + 3)
    task = await world.create(size=len(data))

    done = await world.put_content(task, sent(data, chunk_bytes), ContentRange(length=len(data)))

    world.require_success(done, data)
    assert await world.stored(task) == [(1, MIB), (2, MIB), (3, MIB), (4, MIB), (5, 3)]


async def test_a_slice_size_above_the_part_size_still_means_one_put(world: World) -> None:
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data), slice_size=4 * MIB)

    world.require_success(await world.put_content(task, data), data)
    assert (world.objects.calls["put_object"], world.objects.calls["upload_part"]) == (1, 0)


async def test_a_file_of_unknown_size_just_above_the_slice_size_goes_in_parts(world: World) -> None:
    data = random_bytes(3 * MIB + 1)
    task = await world.control.create_for_body(ALICE, new_task(slice_size=3 * MIB))

    done = await world.sequential.receive_file(ALICE, task, sent(data), Digests())

    world.require_success(done, data)
    assert world.objects.calls["put_object"] == 0


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_the_window_is_used_to_its_limit_and_never_beyond(world: World, limit: int) -> None:
    data = random_bytes(8 * MIB)
    task = await world.create(size=len(data), async_limit=limit)
    gate = world.objects.hold("upload_part")

    upload = asyncio.create_task(world.put_content(task, data))
    await gate.reached_by(limit)
    gate.open()

    world.require_success(await upload, data)
    assert world.objects.most_parts_in_flight == limit


# --- breaking off and going on ------------------------------------------------------------------------------------

BREAKS = [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 3 * MIB + 6]


@pytest.mark.parametrize("at", BREAKS)
@pytest.mark.parametrize("known", [True, False])
async def test_a_body_that_breaks_off_goes_on_at_the_very_byte(world: World, at: int, *, known: bool) -> None:
    data = random_bytes(3 * MIB + 7)
    task = await world.create(size=len(data) if known else None)
    span = ContentRange(length=len(data)) if known else UNKNOWN

    stopped = await break_off(world, task, data[:at], span)

    assert (stopped.state, stopped.next_offset, stopped.loaded) == (TaskState.UPLOADING, at, at)
    assert stopped.tail_size == at % MIB
    assert await world.stored(task) == [(n, MIB) for n in range(1, at // MIB + 1)]
    done = await world.put_content(task, sent(data[at:]), ContentRange(offset=at))
    world.require_success(done, data)


@pytest.mark.parametrize("left_over", [MIB, MIB + 9])
async def test_one_mebibyte_or_more_of_a_larger_part_becomes_a_part_of_its_own(world: World, left_over: int) -> None:
    data = random_bytes(9 * MIB)
    task = await world.create(size=len(data), part_size=4 * MIB)
    at = 4 * MIB + left_over

    stopped = await break_off(world, task, data[:at], ContentRange(length=len(data)))

    assert await world.stored(task) == [(1, 4 * MIB), (2, left_over)]
    assert (stopped.next_offset, stopped.tail_size) == (at, 0)
    world.require_success(await world.put_content(task, sent(data[at:]), ContentRange(offset=at)), data)


@pytest.mark.parametrize("at", [1, MIB // 2, MIB - 1])
async def test_a_small_file_that_breaks_off_still_ends_as_one_put(world: World, at: int) -> None:
    data = random_bytes(MIB)
    task = await world.create(size=MIB)

    stopped = await break_off(world, task, data[:at], ContentRange(length=MIB))

    assert (stopped.tail_size, stopped.upload_id) == (at, None)
    done = await world.put_content(task, sent(data[at:]), ContentRange(offset=at))
    world.require_success(done, data)
    assert (world.objects.calls["put_object"], world.objects.calls["initiate"]) == (1, 0)


async def test_a_body_may_break_off_at_every_request(world: World) -> None:
    data = random_bytes(4 * MIB + 11)
    task = await world.create(size=len(data))
    cuts = [0, 7, 300_000, MIB + 5, MIB + 6, 3 * MIB, 4 * MIB + 1, len(data)]

    for start, end in itertools.pairwise(cuts[:-1]):
        stopped = await break_off(world, task, data[start:end], ContentRange(offset=start))
        assert stopped.next_offset == end
    done = await world.put_content(task, sent(data[cuts[-2] :]), ContentRange(offset=cuts[-2]))

    world.require_success(done, data)


async def test_a_wrong_offset_is_told_the_right_one_and_moves_nothing(world: World) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    await break_off(world, task, data[:1000], ContentRange(length=len(data)))

    for offset in (0, 999, 1001, MIB):
        with pytest.raises(OffsetMismatch) as caught:
            await world.put_content(task, sent(b"x"), ContentRange(offset=offset))
        assert caught.value.facts["next_offset"] == 1000
    assert (await world.load(task)).next_offset == 1000


async def test_a_short_body_keeps_what_came_and_tells_what_was_expected(world: World) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))

    with pytest.raises(BodyIncomplete) as caught:
        await world.put_content(task, sent(data[: MIB + 10]), ContentRange(length=len(data)))

    assert caught.value.facts == {"expected": len(data)}
    now = await world.load(task)
    assert (now.state, now.next_offset) == (TaskState.UPLOADING, MIB + 10)


async def test_a_chunked_body_that_ends_before_the_known_size_is_short(world: World) -> None:
    task = await world.create(size=2 * MIB)

    with pytest.raises(BodyIncomplete):
        await world.put_content(task, sent(bytes(MIB)), UNKNOWN)


@pytest.mark.promise(9)
async def test_a_chunked_body_that_goes_on_behind_its_range_is_refused(world: World) -> None:
    task = await world.create(size=4 * MIB)

    with pytest.raises(BodyTooLarge):
        await world.put_content(task, sent(bytes(MIB + 1)), ContentRange(0, MIB, 4 * MIB, ends_file=False))


@pytest.mark.parametrize("extra", [1, MIB])
async def test_a_body_longer_than_the_file_fails_the_task_and_a_restart_goes_on(world: World, extra: int) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))

    with pytest.raises(BodyTooLarge):
        await world.put_content(task, sent(data + bytes(extra)), UNKNOWN)

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "body_too_large")
    restarted = await world.control.restart(ALICE, task.id, None)
    rest = restarted.next_offset
    world.require_success(await world.put_content(task, sent(data[rest:]), ContentRange(offset=rest)), data)


async def test_a_file_larger_than_the_token_allows_is_refused_as_soon_as_that_shows(world: World) -> None:
    small = Caller("alice", Policy(max_size=MIB), 2e9)
    task = await world.create(size=None)
    source = itertools.repeat(bytes(CHUNK_BYTES), 1000)
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for chunk in source:
            taken += len(chunk)
            yield chunk

    with pytest.raises(FileTooLarge):
        await world.sequential.receive_content(small, task.id, UNKNOWN, body(), Digests())

    assert taken == MIB + CHUNK_BYTES
    assert (await world.load(task)).state is TaskState.ERROR


async def test_a_body_whose_form_turns_out_malformed_fails_the_task(world: World) -> None:
    """Sending the same form again cannot help; what came is kept for a restart."""

    async def body() -> AsyncIterator[bytes]:
        yield bytes(1000)
        raise MalformedForm("No boundary.")

    task = await world.control.create_for_body(ALICE, new_task())
    with pytest.raises(MalformedForm):
        await world.sequential.receive_file(ALICE, task, body(), Digests())

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code, failed.next_offset) == (TaskState.ERROR, "malformed_multipart", 1000)


async def test_a_request_cancelled_in_the_middle_keeps_what_came(world: World) -> None:
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data))
    client = Client(data[: MIB + 100])
    upload = asyncio.create_task(world.put_content(task, client, ContentRange(length=len(data))))
    await client.taken()

    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert await world.engine.owned.drain(5) == 0
    assert (await world.load(task)).next_offset == MIB + 100
    done = await world.put_content(task, sent(data[MIB + 100 :]), ContentRange(offset=MIB + 100))
    world.require_success(done, data)


async def test_a_request_cancelled_while_the_upload_is_opened_leaves_one_upload(world: World) -> None:
    data = random_bytes(3 * MIB)
    task = await world.control.create_for_body(ALICE, new_task(size=len(data)))
    gate = world.objects.hold("initiate", after=True)
    upload = asyncio.create_task(world.sequential.receive_file(ALICE, task, sent(data), Digests()))
    await gate.reached.wait()

    upload.cancel()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert await world.engine.owned.drain(5) == 0
    assert world.cos.open_uploads(task.at.bucket).count(task.at.key) == 1
    rest = (await world.load(task)).next_offset
    world.require_success(await world.put_content(task, sent(data[rest:]), ContentRange(offset=rest)), data)


# --- pieces -------------------------------------------------------------------------------------------------------


async def test_pieces_of_an_unknown_whole_make_the_file_once_one_says_where_it_ends(world: World) -> None:
    data = random_bytes(2 * MIB + 500)
    task = await world.create(size=None)
    cuts = [0, 100, MIB + 300, 2 * MIB]

    for start, end in itertools.pairwise(cuts):
        span = ContentRange(offset=start, length=end - start, ends_file=False)
        now = await world.put_content(task, sent(data[start:end]), span)
        assert (now.state, now.next_offset, now.size) == (TaskState.UPLOADING, end, None)
    span = ContentRange(offset=2 * MIB, length=500, total=len(data))
    done = await world.put_content(task, sent(data[2 * MIB :]), span)

    world.require_success(done, data)


async def test_pieces_with_a_total_complete_with_the_last(world: World) -> None:
    data = random_bytes(2 * MIB + 500)
    task = await world.create(size=None)

    span = ContentRange(0, MIB + 9, len(data), ends_file=False)
    first = await world.put_content(task, sent(data[: MIB + 9]), span)
    assert (first.state, first.size, first.next_offset) == (TaskState.UPLOADING, len(data), MIB + 9)
    span = ContentRange(MIB + 9, len(data) - MIB - 9, len(data))
    done = await world.put_content(task, sent(data[MIB + 9 :]), span)

    world.require_success(done, data)


async def test_a_piece_whose_part_cos_does_not_take_is_not_answered_as_good(redis_url: str, cos: RunningCos) -> None:
    async with running_world(redis_url, cos) as world:
        task = await world.create(size=None)
        cos.fault("error", operation="UploadPart", key=task.at.key, times=None)

        with pytest.raises(GatewayError) as caught:
            await world.put_content(task, sent(bytes(MIB + 9)), ContentRange(0, MIB + 9, None, ends_file=False))

        assert (caught.value.status_hint, caught.value.retryable) == (503, True)
        assert (await world.load(task)).next_offset == 0


# --- other writers and control ------------------------------------------------------------------------------------


async def test_the_newest_writer_wins_and_the_older_body_is_cut(redis_url: str, cos: RunningCos) -> None:
    data = random_bytes(3 * MIB)
    async with running_world(redis_url, cos) as world, running_world(redis_url, cos) as elsewhere:
        task = await world.create(size=len(data))
        old = Client(data[: MIB + 1000])
        older = asyncio.create_task(world.put_content(task, old, ContentRange(length=len(data))))
        await old.taken()
        await world.until_offset(task, MIB)

        done = await elsewhere.put_content(task, sent(data[MIB:]), ContentRange(offset=MIB))
        with pytest.raises((BodySuperseded, TaskCompleting, TaskSucceeded)):
            await older

        assert await world.engine.owned.drain(5) == 0
        elsewhere.require_success(done, data)


async def test_a_body_that_was_superseded_sends_nothing_more(world: World) -> None:
    """Its next part would have the number of the newer writer's."""
    data = random_bytes(6 * MIB)
    task = await world.create(size=len(data), part_size=2 * MIB)
    old = Client(data[: MIB + 1000])
    older = asyncio.create_task(world.put_content(task, old, ContentRange(length=len(data))))
    await old.taken()

    new = Client(data[:1000])
    newer = asyncio.create_task(world.put_content(task, new, ContentRange(length=len(data))))
    with pytest.raises(BodySuperseded):
        await older

    assert world.objects.calls["upload_part"] == 0
    new.send(data[1000:])
    new.end()
    world.require_success(await newer, data)


@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
async def test_a_pause_from_another_process_ends_a_silent_body_and_keeps_its_bytes(
    redis_url: str, cos: RunningCos, budget_bytes: int
) -> None:
    data = random_bytes(3 * MIB)
    async with (
        running_world(redis_url, cos, budget_bytes=budget_bytes) as world,
        running_world(redis_url, cos) as elsewhere,
    ):
        task = await world.create(size=len(data))
        client = Client(data[: MIB + 1000])
        upload = asyncio.create_task(world.put_content(task, client, ContentRange(length=len(data))))
        await client.taken()

        await elsewhere.control.pause(ALICE, task.id, None)
        async with asyncio.timeout(3):
            with pytest.raises(TaskPaused):
                await upload

        paused = await world.load(task)
        kept = MIB + 1000 if budget_bytes else MIB
        assert (paused.state, paused.next_offset) == (TaskState.PAUSED, kept)
        await elsewhere.control.restart(ALICE, task.id, None)
        done = await elsewhere.put_content(task, sent(data[kept:]), ContentRange(offset=kept))
        elsewhere.require_success(done, data)


async def test_a_cancel_ends_the_body_and_leaves_nothing_at_cos(world: World) -> None:
    data = random_bytes(6 * MIB)
    task = await world.create(size=len(data), part_size=2 * MIB)
    client = Client(data[: 3 * MIB + 5])
    upload = asyncio.create_task(world.put_content(task, client, ContentRange(length=len(data))))
    await client.taken()

    canceled = await world.control.cancel(ALICE, task.id, None)
    with pytest.raises(TaskCanceled):
        await upload

    assert await world.engine.owned.drain(5) == 0
    assert canceled.state is TaskState.CANCELED
    assert not world.has_open_upload(task)
    assert not world.exists(task)


# --- COS fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["error", "reset", "lost_answer", "wrong_crc", "flip"])
async def test_a_part_that_cos_failed_to_take_is_repeated_from_memory(world: World, action: str) -> None:
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data))
    world.cos.fault(action, operation="UploadPart", key=task.at.key, part_number=2, after_bytes=5000)

    world.require_success(await world.put_content(task, data), data)
    assert len(world.journal(task, "UploadPart")) == 4


async def test_a_part_that_cos_does_not_take_at_all_ends_the_body_where_it_stands(world: World) -> None:
    data = random_bytes(6 * MIB)
    task = await world.create(size=len(data))
    world.cos.fault("error", operation="UploadPart", key=task.at.key, part_number=2, times=None)

    with pytest.raises(GatewayError) as caught:
        await world.put_content(task, data)
    world.cos.clear_faults()

    assert (caught.value.status_hint, caught.value.retryable) == (503, True)
    now = await world.load(task)
    assert (now.state, now.next_offset) == (TaskState.UPLOADING, MIB)
    world.require_success(await world.put_content(task, sent(data[MIB:]), ContentRange(offset=MIB)), data)


async def test_a_silent_client_hears_at_once_that_cos_denies_its_part(world: World) -> None:
    data = random_bytes(6 * MIB)
    task = await world.create(size=len(data))
    world.cos.fault("early_error", operation="UploadPart", key=task.at.key, status=403, code="AccessDenied")
    client = Client(data[: MIB + 5])

    async with asyncio.timeout(5):
        with pytest.raises(StorageDenied):
            await world.put_content(task, client, ContentRange(length=len(data)))

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "storage_denied")


# --- the budget ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, MIB, 3 * MIB + 7])
async def test_without_budget_a_file_of_known_size_streams(redis_url: str, cos: RunningCos, size: int) -> None:
    data = random_bytes(size)
    async with running_world(redis_url, cos, budget_bytes=0) as world:
        task = await world.create(size=size)

        world.require_success(await world.put_content(task, data), data)
        assert world.objects.most_parts_in_flight == 1


async def test_without_budget_a_break_goes_back_to_the_last_part(redis_url: str, cos: RunningCos) -> None:
    data = random_bytes(3 * MIB)
    async with running_world(redis_url, cos, budget_bytes=0) as world:
        task = await world.create(size=len(data))

        stopped = await break_off(world, task, data[: 2 * MIB + 500_000], ContentRange(length=len(data)))

        assert (stopped.state, stopped.next_offset) == (TaskState.UPLOADING, 2 * MIB)
        done = await world.put_content(task, sent(data[2 * MIB :]), ContentRange(offset=2 * MIB))
        world.require_success(done, data)


async def test_without_budget_a_failure_of_cos_is_told_and_the_client_goes_on_from_the_last_part(
    redis_url: str, cos: RunningCos
) -> None:
    data = random_bytes(3 * MIB)
    async with running_world(redis_url, cos, budget_bytes=0) as world:
        task = await world.create(size=len(data))
        cos.fault("error", operation="UploadPart", key=task.at.key, part_number=2)

        with pytest.raises(GatewayError) as caught:
            await world.put_content(task, data)

        assert (caught.value.status_hint, caught.value.retryable) == (503, True)
        world.require_success(await world.put_content(task, sent(data[MIB:]), ContentRange(offset=MIB)), data)


async def test_without_budget_a_file_of_unknown_size_waits_and_then_goes_on(redis_url: str, cos: RunningCos) -> None:
    data = random_bytes(2 * MIB)
    async with running_world(redis_url, cos, budget_bytes=4 * MIB) as world:
        lease = world.engine.budget.try_take(4 * MIB, "alice")
        assert lease is not None
        task = await world.create(size=None)
        client = Client(data)
        upload = asyncio.create_task(world.put_content(task, client, UNKNOWN))
        async with asyncio.timeout(5):
            while True:
                if world.engine.budget.try_take(0, "alice") is None:  # the body stands in the queue for memory
                    break
                await asyncio.sleep(0)

        client.end()
        lease.release()

        world.require_success(await upload, data)


async def test_without_budget_a_file_of_unknown_size_is_told_that_the_gateway_is_busy(
    redis_url: str, cos: RunningCos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential_flow, "BUDGET_WAIT_SECONDS", 0.05)
    async with running_world(redis_url, cos, budget_bytes=0) as world:
        task = await world.create(size=None)

        with pytest.raises(Overloaded) as caught:
            await world.put_content(task, sent(bytes(10)), UNKNOWN)

        assert caught.value.retry_after_seconds is not None
        assert (await world.load(task)).state is TaskState.UPLOADING


async def test_with_a_small_budget_parts_are_smaller_and_the_file_the_same(redis_url: str, cos: RunningCos) -> None:
    """4 MiB parts do not fit, so parts of 1 MiB go instead; the last takes what is left if that fits by then."""
    data = random_bytes(5 * MIB + 3)
    async with running_world(redis_url, cos, budget_bytes=2 * MIB) as world:
        task = await world.create(size=len(data), part_size=4 * MIB)

        world.require_success(await world.put_content(task, data), data)
        stored = await world.stored(task)
        assert stored[:4] == [(1, MIB), (2, MIB), (3, MIB), (4, MIB)]
        assert stored[4:] in ([(5, MIB), (6, 3)], [(5, MIB + 3)])


# --- digests ------------------------------------------------------------------------------------------------------


def md5_of(data: bytes) -> str:
    return b64encode(md5(data, usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize("size", [0, 10, MIB, 2 * MIB + 1])
@pytest.mark.parametrize("known", [True, False])
async def test_right_digests_are_accepted(world: World, size: int, *, known: bool) -> None:
    data = random_bytes(size)
    task = await world.create(size=size if known else None)
    span = ContentRange(length=size) if known else UNKNOWN

    done = await world.put_content(task, sent(data), span, Digests(md5_of(data), crc64(data)))

    world.require_success(done, data)


WRONG = [Digests(crc64=1), Digests(md5_base64=md5_of(b"other"))]


@pytest.mark.parametrize("size", [0, 10, MIB, 2 * MIB + 1])
@pytest.mark.parametrize("wrong", WRONG, ids=["crc64", "md5"])
async def test_wrong_digests_fail_the_task_and_a_restart_begins_anew(world: World, size: int, wrong: Digests) -> None:
    data = random_bytes(size)
    task = await world.create(size=size)

    with pytest.raises(DigestMismatch):
        await world.put_content(task, data, None, wrong)

    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "digest_mismatch")
    assert not world.exists(task)
    again = await world.control.restart(ALICE, task.id, None)
    assert (again.state, again.loaded, again.next_offset) == (TaskState.WAITING, 0, 0)
    if task.upload_id is not None:
        assert again.upload_id not in (None, task.upload_id)
    world.require_success(await world.put_content(again, data), data)


async def test_digests_are_those_of_the_body_that_carries_them(world: World) -> None:
    """A piece's digest says nothing of the file."""
    data = random_bytes(MIB)
    task = await world.create(size=len(data))
    head, rest = data[:1000], data[1000:]

    span = ContentRange(0, 1000, len(data), ends_file=False)
    await world.put_content(task, sent(head), span, Digests(md5_of(head), crc64(head)))
    span = ContentRange(1000, len(rest), len(data))
    done = await world.put_content(task, sent(rest), span, Digests(md5_of(rest), crc64(rest)))

    world.require_success(done, data)


async def test_a_piece_with_a_wrong_digest_fails_the_task_though_it_is_not_the_last(world: World) -> None:
    task = await world.create(size=2 * MIB)
    span = ContentRange(0, 1000, 2 * MIB, ends_file=False)

    with pytest.raises(DigestMismatch):
        await world.put_content(task, sent(bytes(1000)), span, Digests(crc64=1))

    assert (await world.load(task)).state is TaskState.ERROR


# --- the ten thousandth part --------------------------------------------------------------------------------------


async def test_a_body_that_needs_more_than_10000_parts_is_refused(world: World) -> None:
    task = await world.create(size=None)
    flow = sequential_flow.SequentialFlow(
        world.engine,
        world.completion,
        ALICE,
        replace(task, mode=BodyMode.CONTENT, contiguous_count=10_000, stored_count=10_000),
        UNKNOWN,
        Digests(),
    )

    with pytest.raises(FileTooLarge):
        await flow.run(sent(bytes(10)))

    assert world.objects.calls["upload_part"] == 0


async def test_a_file_in_one_put_counts_as_held_until_cos_has_spoken(world: World) -> None:
    data = random_bytes(1000)
    task = await world.create(size=len(data))
    storing = world.objects.hold("put_object")
    body = asyncio.create_task(world.put_content(task, data))
    await storing.reached_by(1)
    body.cancel()
    await asyncio.wait([body])
    held_bytes = world.engine.budget.used_bytes
    storing.open()

    world.require_success(await world.until(task, TaskState.SUCCESS), data)
    assert held_bytes >= len(data)

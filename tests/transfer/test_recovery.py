"""Redis loses everything, and nothing that COS acknowledged is lost: a task comes back from its ticket and from COS."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import (
    BodySuperseded,
    OffsetMismatch,
    StateStoreUnavailable,
    StorageBadAnswer,
    TaskInError,
    TaskNotFound,
    TaskSucceeded,
)
from gateway.domain.objects import ETag, PartsPage, Person, StoredPart
from gateway.domain.parts import MIB
from gateway.domain.task import BodyMode, PauseRequested, Task, TaskState
from gateway.transfer.completion_plan import ClaimedPart, CompleteWanted
from gateway.transfer.digests import Digests
from gateway.transfer.recovery import held_parts, rebuild, with_parts
from gateway.transfer.relay import RECORD_ATTEMPTS
from gateway.transfer.replay import BufferedBody
from gateway.transfer.sequential_flow import ContentRange
from tests.fakes.local_cos import BUCKET
from tests.fakes.redis_server import send_command
from tests.transfer.kit import ALICE, BOB, Client, World, all_of, kinds, new_task, part_of, random_bytes, sent
from tests.web.sample_tasks import new_task as sample_task

_OF_COS_ALONE = ("state", "mode", "size", "upload_id", "loaded", "next_offset", "stored_count", "contiguous_count")


@pytest.fixture
def lose_everything(redis_url: str) -> Callable[[], Any]:
    return lambda: send_command(redis_url, "FLUSHALL")


def ticket_of(task: Task) -> Task:
    """What a ticket sealed at *task*'s creation tells."""
    return replace(task, state=TaskState.WAITING, mode=BodyMode.UNDECIDED, version=1, loaded=0, next_offset=0)


async def test_a_lost_task_comes_back_with_its_parts(world: World, lose_everything: Callable[[], Any]) -> None:
    data = random_bytes(5 * MIB + 7)
    created = await world.create(size=len(data), client_ref="r", part_headers={"x-cos-traffic-limit": "819200"})
    receipts = {number: await world.put_part(created, number, part_of(data, number)) for number in (4, 1, 2)}
    before = await world.load(created)
    lose_everything()

    await world.control.rebuild(ALICE, ticket_of(created))
    now = await world.control.get(ALICE, created.id)

    assert {name: getattr(now, name) for name in _OF_COS_ALONE if name != "mode"} == {
        name: getattr(before, name) for name in _OF_COS_ALONE if name != "mode"
    }
    assert (now.client_ref, now.part_headers, now.created_at) == ("r", created.part_headers, created.created_at)
    assert now.version > before.version
    assert await world.tasks.parts(now.id) == [replace(receipts[number], crc64=None) for number in (1, 2, 4)]
    assert (await world.tasks.list_tasks("alice", limit=1)).tasks == (now,)


async def test_the_caller_s_list_of_parts_restores_the_check(world: World, lose_everything: Callable[[], Any]) -> None:
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data))
    receipts = [await world.put_part(task, number, part_of(data, number)) for number in (1, 2)]
    lose_everything()
    await world.control.rebuild(ALICE, ticket_of(task))
    receipts.append(await world.put_part(task, 3, part_of(data, 3)))

    listed = [ClaimedPart(part.number, part.etag, part.crc64) for part in receipts]
    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted(parts=listed)), data)


async def test_without_the_caller_s_word_the_result_says_that_the_crc_was_not_compared(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    for number in (1, 2):
        await world.put_part(task, number, part_of(data, number))
    lose_everything()
    await world.control.rebuild(ALICE, ticket_of(task))

    done = await world.control.complete(ALICE, task.id, CompleteWanted())

    assert done.result is not None
    assert (done.result.crc64_verified, done.result.crc64) == (False, crc64(data))
    assert world.read(task.at) == data


async def test_crcs_that_redis_still_has_are_kept(world: World, redis_url: str) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    for number in (1, 2):
        await world.put_part(task, number, part_of(data, number))
    send_command(redis_url, "DEL", f"gw:{{{task.id}}}")

    await world.control.rebuild(ALICE, ticket_of(task))

    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), data)


@pytest.mark.promise(3)
async def test_the_crc_of_bytes_that_cos_holds_no_more_is_not_kept(world: World, redis_url: str) -> None:
    """A failover lost the last writes: of the part that replaced another COS alone knows."""
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    assert task.upload_id is not None
    for number in (1, 2):
        await world.put_part(task, number, part_of(data, number))
    other = random_bytes(MIB, seed=2)
    replaced = await world.objects.upload_part(task.at, task.upload_id, 2, BufferedBody([other]), {})
    send_command(redis_url, "DEL", f"gw:{{{task.id}}}")

    await world.control.rebuild(ALICE, ticket_of(task))

    first, second = await world.tasks.parts(task.id)
    assert (first.crc64, second.etag, second.crc64) == (crc64(data[:MIB]), replaced.etag, None)
    done = await world.control.complete(ALICE, task.id, CompleteWanted())
    assert (done.state, world.read(task.at)) == (TaskState.SUCCESS, data[:MIB] + other)


@pytest.mark.promise(2)
async def test_many_pages_of_parts_are_read_within_three_seconds_per_thousand(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    task = await world.create(size=1200 * MIB)
    held = [
        (StoredPart(number, MIB, ETag(f'"{number:032x}"'), None), "2026-11-22T00:00:00Z") for number in range(1, 1201)
    ]
    objects = _PagedObjects(held)
    lose_everything()

    began = time.monotonic()
    now = await rebuild(world.tasks, objects, ticket_of(task), time.time())  # type: ignore[arg-type]

    assert time.monotonic() - began < 3
    assert (now.stored_count, now.loaded, objects.pages) == (1200, 1200 * MIB, 2)


class _PagedObjects:
    """An upload of more parts than anybody wants to send in a test."""

    def __init__(self, held: list[tuple[StoredPart, str]]) -> None:
        self._held = held
        self.pages = 0

    async def list_parts(self, at: object, upload_id: object, *, marker: int = 0, limit: int = 1000) -> Any:
        self.pages += 1
        rest = [one for one in self._held if one[0].number > marker]
        page = rest[:limit]
        nobody = Person("", "")
        following = page[-1][0].number if len(rest) > limit else None
        return PartsPage(
            tuple(part for part, _ in page), following, "STANDARD", nobody, nobody, tuple(when for _, when in page)
        )


@pytest.mark.promise(13)
@pytest.mark.parametrize(
    ("mode", "sizes"),
    [
        (BodyMode.UNDECIDED, [5 << 30] * 10),
        (BodyMode.CONTENT, [5 << 30] * 10),
        (BodyMode.PARTS, [5 << 30] * 10),
        (BodyMode.UNDECIDED, [5 << 30]),
        (BodyMode.CONTENT, [5 << 30]),
        (BodyMode.PARTS, [MIB - 1]),
        (BodyMode.PARTS, [MIB] * 10_000 + [1]),
        (BodyMode.CONTENT, [MIB] * 10_000 + [1]),
    ],
)
async def test_f9_parts_that_cannot_be_the_task_s_are_not_believed(
    world: World, lose_everything: Callable[[], Any], mode: BodyMode, sizes: list[int]
) -> None:
    task = await world.create(size=10_000 * MIB)
    held = [(StoredPart(n, size, ETag('"e"'), None), "2026-11-22T00:00:00Z") for n, size in enumerate(sizes, 1)]
    lose_everything()
    lost = replace(ticket_of(task), mode=mode)

    outcome = await all_of(
        rebuild(world.tasks, _PagedObjects(held), lost, time.time()),  # type: ignore[arg-type]
        held_parts(_PagedObjects(held), lost),  # type: ignore[arg-type]
    )

    assert kinds(outcome) == [StorageBadAnswer.__name__] * 2
    assert await world.tasks.load(task.id) is None


@pytest.mark.parametrize(
    ("mode", "sizes"),
    [
        (BodyMode.UNDECIDED, [MIB, MIB, 5]),
        (BodyMode.PARTS, [MIB, MIB, 5]),
        (BodyMode.CONTENT, [MIB + 1, MIB, 4]),
        (BodyMode.CONTENT, [MIB - 1, MIB]),
        (BodyMode.CONTENT, []),
    ],
)
async def test_f9_parts_that_can_be_the_task_s_are_believed(
    world: World, lose_everything: Callable[[], Any], mode: BodyMode, sizes: list[int]
) -> None:
    task = await world.create(size=2 * MIB + 5)
    held = [(StoredPart(n, size, ETag('"e"'), None), "2026-11-22T00:00:00Z") for n, size in enumerate(sizes, 1)]
    lose_everything()

    lost = replace(ticket_of(task), mode=mode)
    now = await rebuild(world.tasks, _PagedObjects(held), lost, time.time())  # type: ignore[arg-type]

    assert (now.stored_count, now.loaded) == (len(sizes), sum(sizes))


async def test_rebuilding_twice_at_once_gives_one_task(world: World, lose_everything: Callable[[], Any]) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    await world.put_part(task, 1, part_of(data, 1))
    lose_everything()
    held = world.objects.hold("list_parts", after=True)

    lost = ticket_of(task)
    both = asyncio.gather(*(rebuild(world.tasks, world.objects, lost, time.time()) for _ in range(2)))
    await held.reached_by(2)
    held.open()
    first, second = await both

    assert first == second
    await world.put_part(task, 2, part_of(data, 2))
    assert await world.stored(task) == [(1, MIB), (2, MIB)]


async def test_cos_is_asked_once_for_all_who_miss_a_task_at_the_same_time(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    task = await world.create(size=2 * MIB)
    lose_everything()
    listing = world.objects.hold("list_parts")

    many = asyncio.gather(*(world.control.rebuild(ALICE, ticket_of(task)) for _ in range(20)))
    await listing.reached.wait()
    listing.open()
    await many

    assert world.objects.calls["list_parts"] == 1
    assert (await world.load(task)).upload_id == task.upload_id


async def test_b41_the_parts_that_cos_holds_of_a_task_fill_in_what_vanished(world: World) -> None:
    task = await world.create(size=2 * MIB, part_size=MIB)
    kept = await world.put_part(task, 1, random_bytes(MIB))
    assert task.upload_id is not None

    assert await held_parts(world.objects, task) == [replace(kept, crc64=None)]
    await world.objects.abort(task.at, task.upload_id)
    assert await held_parts(world.objects, task) == []
    assert await held_parts(world.objects, replace(task, upload_id=None)) == []


async def test_a_task_that_redis_knows_is_left_as_it_is(world: World) -> None:
    task = await world.create(size=2 * MIB)
    paused = await world.tasks.apply(task, PauseRequested())
    canceled = await world.create(size=2 * MIB)
    await world.control.cancel(ALICE, canceled.id, None)

    await world.control.rebuild(ALICE, ticket_of(task))
    await world.control.rebuild(ALICE, ticket_of(canceled))

    assert await world.load(task) == paused
    assert (await world.load(canceled)).state is TaskState.CANCELED


async def test_another_s_ticket_is_no_way_in(world: World, lose_everything: Callable[[], Any]) -> None:
    task = await world.create(size=2 * MIB)
    lose_everything()

    with pytest.raises(TaskNotFound):
        await world.control.rebuild(BOB, ticket_of(task))
    assert await world.tasks.load(task.id) is None


@pytest.mark.promise(3, 16)
@pytest.mark.parametrize("end", ["waiting", "canceled", "success"])
async def test_f3_a_task_without_an_upload_has_nothing_that_comes_back(
    world: World, lose_everything: Callable[[], Any], end: str
) -> None:
    """Nothing at COS could tell that it was canceled."""
    data = random_bytes(1000)
    task = await world.create(size=len(data))
    if end == "canceled":
        await world.control.cancel(ALICE, task.id, None)
    elif end == "success":
        await world.put_content(task, data)
    lose_everything()

    assert kinds(await all_of(world.control.rebuild(ALICE, ticket_of(task)))) == [TaskNotFound.__name__]
    assert await world.tasks.load(task.id) is None


@pytest.mark.promise(2, 3, 16)
@pytest.mark.parametrize("canceled", [False, True])
async def test_f3_a_part_of_a_small_file_comes_back_unless_it_was_canceled(
    world: World, lose_everything: Callable[[], Any], canceled: bool
) -> None:
    """Its upload was opened for the part, so the ticket of the part's answer knows of it."""
    data = random_bytes(1000)
    task = await world.create(size=len(data))
    receipt = await world.put_part(task, 1, data)
    late = await world.load(task)
    if canceled:
        await world.control.cancel(ALICE, task.id, None)
    lose_everything()

    await world.control.rebuild(ALICE, ticket_of(late))
    now = await world.load(task)

    if canceled:
        assert now.error is not None
        assert (now.state, now.error.code, now.loaded) == (TaskState.ERROR, "upload_lost", 0)
        assert kinds(await all_of(world.put_part(task, 1, data))) == [TaskInError.__name__]
    else:
        assert await world.tasks.parts(task.id) == [replace(receipt, crc64=None)]
        done = await world.control.complete(ALICE, task.id, CompleteWanted())
        assert (done.state, world.read(task.at)) == (TaskState.SUCCESS, data)


@pytest.mark.promise(3, 16)
async def test_f3_a_body_of_a_small_file_does_not_bring_its_task_back(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    """Whoever canceled it meanwhile is forgotten, too. Not 404: the door would ask for the body again."""
    data = random_bytes(1000)
    task = await world.create(size=len(data))
    client = Client(data[:500])
    sending = [asyncio.create_task(world.put_content(task, client, ContentRange(length=len(data))))]
    await client.taken()
    lose_everything()
    client.send(data[500:])
    client.end()

    assert kinds(await all_of(*sending)) == [StateStoreUnavailable.__name__]
    assert (await world.tasks.load(task.id), world.exists(task)) == (None, False)


async def test_a_task_whose_object_stands_has_succeeded(world: World, lose_everything: Callable[[], Any]) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    for number in (1, 2):
        await world.put_part(task, number, part_of(data, number))
    done = await world.control.complete(ALICE, task.id, CompleteWanted())
    lose_everything()

    await world.control.rebuild(ALICE, ticket_of(task))
    now = await world.control.complete(ALICE, task.id, CompleteWanted())

    assert done.result is not None
    assert (now.state, now.loaded) == (TaskState.SUCCESS, len(data))
    assert now.result == replace(done.result, crc64_verified=False)


@pytest.mark.parametrize("stands", ["nothing", "another size", "one put", "other parts", "an older object"])
async def test_a_task_whose_upload_is_gone_without_its_object_begins_anew_at_a_restart(
    world: World, lose_everything: Callable[[], Any], stands: str
) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    await world.control.cancel(ALICE, task.id, None)
    if stands == "another size":
        world.require_success(await _sent_whole(world, task, data[:-1]), data[:-1])
    elif stands == "one put":
        world.require_success(await _sent_whole(world, task, data, slice_size=4 * MIB), data)
    elif stands == "other parts":
        world.require_success(await _sent_whole(world, task, data, part_size=2 * MIB), data)
    elif stands == "an older object":
        world.require_success(await _sent_whole(world, task, data), data)
        task = replace(task, created_at=task.created_at + 3600)
    lose_everything()

    await world.control.rebuild(ALICE, replace(ticket_of(task), mode=BodyMode.PARTS))
    now = await world.load(task)

    assert now.error is not None
    assert (now.state, now.error.code) == (TaskState.ERROR, "upload_lost")
    restarted = await world.control.restart(ALICE, task.id, None)
    assert (restarted.state, restarted.upload_id != task.upload_id) == (TaskState.WAITING, True)
    world.require_success(await world.put_content(task, data), data)


async def _sent_whole(world: World, task: Task, data: bytes, **options: Any) -> Task:
    other = await world.create(key=task.at.key, size=len(data), **options)
    return await world.put_content(other, data)


async def test_an_unknown_size_is_no_proof_of_success(world: World, lose_everything: Callable[[], Any]) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create()
    world.require_success(await world.put_content(task, data), data)
    lose_everything()

    await world.control.rebuild(ALICE, ticket_of(task))

    assert (await world.load(task)).state is TaskState.ERROR


@pytest.mark.promise(2, 10)
async def test_a_part_after_success_is_not_said_to_differ_once_its_check_is_lost(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    """Neither a part nor a CRC-64 is left to compare it with, so that no byte of it is asked for."""
    data = random_bytes(2 * MIB)
    listed, gone = [await world.create(size=len(data)) for _ in range(2)]
    for task in (listed, gone):
        for number in (1, 2):
            await world.put_part(task, number, part_of(data, number))
    await world.control.complete(ALICE, gone.id, CompleteWanted())
    lose_everything()

    for task in (listed, gone):
        await world.control.rebuild(ALICE, ticket_of(task))
    await world.control.complete(ALICE, listed.id, CompleteWanted())

    for task in (listed, gone):
        with pytest.raises(TaskSucceeded) as refused:
            await world.put_part(task, 1, Client(b""), MIB)
        assert (refused.value.facts, refused.value.retryable) == ({"state": "success", "differs": None}, False)


# --- sequential bodies


async def test_a_sequential_body_goes_on_at_the_last_part(world: World, lose_everything: Callable[[], Any]) -> None:
    data = random_bytes(5 * MIB)
    task = await world.create(size=len(data))
    head = 2 * MIB + 500_000
    before = await world.put_content(task, data[:head], ContentRange(0, head, len(data), ends_file=False))
    assert (before.next_offset, before.tail_size) == (head, 500_000)
    lose_everything()

    await world.control.rebuild(ALICE, ticket_of(task))
    now = await world.load(task)
    assert (now.next_offset, now.tail_size, now.loaded) == (2 * MIB, 0, 2 * MIB)
    with pytest.raises(OffsetMismatch):
        await world.put_content(task, data[head:], ContentRange(head, len(data) - head, len(data)))
    rest = ContentRange(2 * MIB, len(data) - 2 * MIB, len(data))
    done = await world.put_content(task, data[2 * MIB :], rest)

    assert done.state is TaskState.SUCCESS
    assert world.read(task.at) == data


async def test_parts_of_uneven_lengths_come_back_in_order(world: World, lose_everything: Callable[[], Any]) -> None:
    """Each piece ends in a part of its own length; together they are all that was acknowledged."""
    data = random_bytes(7 * MIB + 5)
    task = await world.create(size=len(data), part_size=2 * MIB)
    for start in (0, 3 * MIB):
        await world.put_content(
            task, data[start : start + 3 * MIB], ContentRange(start, 3 * MIB, len(data), ends_file=False)
        )
    lose_everything()

    await world.control.rebuild(ALICE, ticket_of(task))
    now = await world.load(task)

    assert (now.next_offset, now.mode) == (6 * MIB, BodyMode.CONTENT)
    done = await world.put_content(task, data[6 * MIB :], ContentRange(6 * MIB, MIB + 5, len(data)))
    assert done.state is TaskState.SUCCESS
    assert world.read(task.at) == data


async def test_what_an_older_body_left_behind_a_short_part_is_not_taken_for_the_file_s(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    task = await world.create(size=9 * MIB, part_size=2 * MIB)
    old, new = "2026-11-22T10:00:00.000Z", "2026-11-22T10:05:00.000Z"
    sizes = [(1, 2 * MIB, old), (2, MIB, new), (3, 2 * MIB, old), (4, 2 * MIB, new)]
    held = [(StoredPart(number, size, ETag(f'"{number}"'), None), when) for number, size, when in sizes]
    lose_everything()

    now = await rebuild(world.tasks, _PagedObjects(held), ticket_of(task), time.time())  # type: ignore[arg-type]

    assert (now.next_offset, now.contiguous_count, now.stored_count) == (3 * MIB, 2, 3)


async def test_a_body_of_before_the_loss_is_fenced_off_by_the_first_that_came_after_it(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    task = await world.create(size=3 * MIB)
    older = (await world.tasks.begin_content(task.id, 0, None)).task
    lose_everything()

    await world.control.rebuild(ALICE, ticket_of(task))
    newer = (await world.tasks.begin_content(task.id, 0, None)).task

    with pytest.raises(BodySuperseded):
        await world.tasks.store_content_part(older, StoredPart(1, MIB, ETag('"older"'), 1))
    assert newer.writer > older.writer


# --- bodies that flow while Redis loses the task


async def test_a_part_under_way_is_recorded_in_the_task_made_again(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    await world.put_part(task, 1, part_of(data, 1))
    stored = world.objects.hold("upload_part", 2, after=True)

    sending = asyncio.create_task(world.put_part(task, 2, part_of(data, 2)))
    await stored.reached.wait()
    lose_everything()
    stored.open()

    assert (await sending).crc64 == crc64(part_of(data, 2))
    assert [part.crc64 is None for part in await world.tasks.parts(task.id)] == [True, False]


async def test_redis_that_keeps_losing_the_task_is_told_as_such(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    task = await world.create(size=2 * MIB)
    stored, listed = world.objects.hold("upload_part", after=True), world.objects.hold("list_parts", after=True)

    sending = asyncio.create_task(world.put_part(task, 1, random_bytes(MIB)))
    await stored.reached.wait()
    lose_everything()
    stored.open()
    for _ in range(RECORD_ATTEMPTS):
        await listed.reached_by(1)
        lose_everything()
        listed.opened.set()
        listed.opened.clear()

    assert kinds(await all_of(sending)) == [StateStoreUnavailable.__name__]


async def test_a_whole_body_flows_on_while_its_task_is_made_again(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    data = random_bytes(4 * MIB)
    task = await world.create(size=len(data))
    client = Client(data[: 2 * MIB])
    sending = asyncio.create_task(world.put_content(task, client, ContentRange(0, len(data), len(data))))
    await client.taken()
    lose_everything()
    client.send(data[2 * MIB :])
    client.end()

    done = await sending

    assert done.state is TaskState.SUCCESS
    assert world.read(task.at) == data


async def test_a_body_that_breaks_after_a_loss_keeps_its_tail(world: World, lose_everything: Callable[[], Any]) -> None:
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data))
    client = Client(data[: MIB + 77])
    sending = asyncio.create_task(world.put_content(task, client, ContentRange(0, len(data), len(data))))
    await client.taken()
    lose_everything()
    client.leave()
    await all_of(sending)

    now = await world.load(task)
    assert (now.next_offset, now.tail_size) == (MIB + 77, 77)
    span = ContentRange(MIB + 77, len(data) - MIB - 77, len(data))
    assert (await world.put_content(task, data[MIB + 77 :], span)).state is TaskState.SUCCESS
    assert world.read(task.at) == data


async def test_a_tail_that_would_stand_at_another_offset_is_dropped(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    """COS holds less than this body sent: the bytes behind do not follow what is there."""
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data))
    assert task.upload_id is not None
    client = Client(data[: MIB + 77])
    sending = asyncio.create_task(world.put_content(task, client, ContentRange(0, len(data), len(data))))
    await client.taken()
    async with asyncio.timeout(10):
        while await world.stored(task) != [(1, MIB)]:
            pass
    await world.objects.upload_part(task.at, task.upload_id, 1, BufferedBody([data[: MIB // 2]]), {})
    lose_everything()
    client.leave()
    await all_of(sending)

    now = await world.load(task)
    assert (now.next_offset, now.tail_size) == (MIB // 2, 0)


async def test_a_loss_while_cos_completes_is_settled_by_the_object(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data))
    held = world.objects.hold("complete", after=True)
    sending = asyncio.create_task(world.put_content(task, data))
    await held.reached.wait()
    lose_everything()
    held.open()

    done = await sending

    assert done.result is not None
    assert (done.state, done.result.crc64_verified) == (TaskState.SUCCESS, True)
    assert world.read(task.at) == data


def test_a_gap_ends_what_is_contiguous() -> None:
    parts = [StoredPart(number, MIB, ETag('"e"'), None) for number in (1, 2, 4)]
    task = with_parts(sample_task("t"), parts)

    assert (task.contiguous_count, task.next_offset, task.loaded) == (2, 2 * MIB, 3 * MIB)
    assert with_parts(task, []).state is TaskState.WAITING


async def test_a_loss_after_a_body_s_last_part_still_ends_in_success(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    data = random_bytes(3 * MIB)
    task = await world.create(size=len(data))
    last = world.objects.hold("upload_part", 3, after=True)
    sending = asyncio.create_task(world.put_content(task, data))
    await last.reached.wait()
    begun = world.objects.hold("list_parts", after=True)
    lose_everything()
    last.open()
    await begun.reached.wait()
    begun.open()

    assert (await sending).state is TaskState.SUCCESS
    assert world.read(task.at) == data


async def test_a_whole_file_whose_task_is_lost_on_its_way_ends_well(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    data = random_bytes(3 * MIB)
    task = await world.control.create_for_body(ALICE, new_task(size=len(data)))
    held = world.objects.hold("complete")
    sending = asyncio.create_task(world.sequential.receive_file(ALICE, task, sent(data), Digests()))
    await held.reached.wait()
    lose_everything()
    held.open()

    assert (await sending).state is TaskState.SUCCESS
    assert world.read(task.at) == data


async def test_a_small_file_whose_task_is_lost_on_its_way_is_to_be_sent_again(
    world: World, lose_everything: Callable[[], Any]
) -> None:
    data = random_bytes(1000)
    task = await world.control.create_for_body(ALICE, new_task(size=len(data)))
    client = Client(data)
    sending = asyncio.create_task(world.sequential.receive_file(ALICE, task, client, Digests()))
    await client.taken()
    lose_everything()
    client.end()

    assert kinds(await all_of(sending)) == [StateStoreUnavailable.__name__]


async def test_a_create_whose_task_is_lost_is_to_be_repeated(world: World, lose_everything: Callable[[], Any]) -> None:
    opened = world.objects.hold("initiate", after=True)
    creating = asyncio.create_task(world.create(key="t/lost", size=2 * MIB))
    await opened.reached.wait()
    lose_everything()
    opened.open()

    assert kinds(await all_of(creating)) == [StateStoreUnavailable.__name__]
    assert "t/lost" not in world.cos.open_uploads(BUCKET)


def losing(monkeypatch: pytest.MonkeyPatch, world: World, method: str, lose_everything: Callable[[], Any]) -> None:
    """Have Redis lose everything just before each call of *method*."""
    real = getattr(world.tasks, method)

    async def lost_first(*args: Any, **named: Any) -> Any:
        lose_everything()
        return await real(*args, **named)

    monkeypatch.setattr(world.tasks, method, lost_first)


async def test_a_task_that_is_lost_again_after_its_body_came_is_no_404(
    world: World, lose_everything: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door takes a 404 for leave to make the task again and to read the body once more, which is gone."""
    task = await world.create(size=3 * MIB)
    losing(monkeypatch, world, "apply", lose_everything)

    outcome = await all_of(world.put_content(task, random_bytes(3 * MIB)))

    assert kinds(outcome) == [StateStoreUnavailable.__name__]


async def test_a_task_that_is_lost_while_its_parts_are_read_is_not_told_to_have_none(
    world: World, lose_everything: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await world.create(size=2 * MIB)
    await world.put_part(task, 1, random_bytes(MIB))
    losing(monkeypatch, world, "parts", lose_everything)

    assert kinds(await all_of(world.control.parts(ALICE, task.id))) == [TaskNotFound.__name__]

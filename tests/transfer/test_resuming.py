"""A create with the file's fingerprint finds what is stored of the file, and nothing that is not the file's."""

import asyncio
import hashlib
import time
from typing import Any

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import GatewayError, QuotaExceeded, StorageUnavailable
from gateway.domain.fingerprint import Fingerprint
from gateway.domain.parts import MIB
from gateway.domain.task import BodyMode, Task, TaskState
from gateway.store.ledgers import Ledgers, Shares
from gateway.store.redis_address import connect
from gateway.store.task_quota import RedisTaskQuota
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.control import Control
from gateway.transfer.drafts import NewTask
from gateway.transfer.replay import BufferedBody
from gateway.transfer.sequential_flow import ContentRange
from tests.fakes.redis_server import send_command
from tests.transfer.kit import ALICE, BOB, PLACES, TTL_SECONDS, World, new_task, part_of, random_bytes

DATA = random_bytes(4 * MIB + 99)
PARTS = [part_of(DATA, number) for number in range(1, 6)]


def by_md5(data: bytes = DATA, part_size: int = MIB) -> Fingerprint:
    parts = (data[start : start + part_size] for start in range(0, len(data), part_size))
    md5s = [hashlib.md5(part, usedforsecurity=False).hexdigest() for part in parts]
    return Fingerprint(size=len(data), part_size=part_size, parts_md5=md5s)


def by_crc64(data: bytes = DATA) -> Fingerprint:
    crcs = [crc64(data[start : start + MIB]) for start in range(0, len(data), MIB)]
    return Fingerprint(size=len(data), part_size=MIB, parts_crc64=crcs)


def by_whole(data: bytes = DATA) -> Fingerprint:
    return Fingerprint(size=len(data), crc64=crc64(data))


KINDS = pytest.mark.parametrize("print_of", [by_md5, by_crc64, by_whole])


def wanted(fingerprint: Fingerprint | None = None, **new: Any) -> NewTask:
    fingerprint = fingerprint or by_md5()
    return new_task(size=fingerprint.size, fingerprint=fingerprint, **new)


async def begun(world: World, new: NewTask, *numbers: int) -> Task:
    """A task of *new* with the parts *numbers* of the file."""
    task = await world.control.create(ALICE, new)
    for number in numbers:
        await world.put_part(task, number, PARTS[number - 1])
    return await world.load(task)


async def finish(world: World, task: Task) -> Task:
    """Send what is missing and complete."""
    stored = {part.number for part in await world.tasks.parts(task.id)}
    for number in {1, 2, 3, 4, 5} - stored:
        await world.put_part(task, number, PARTS[number - 1])
    return await world.control.complete(ALICE, task.id, CompleteWanted())


@KINDS
async def test_an_unfinished_task_of_the_same_file_goes_on(world: World, print_of: Any) -> None:
    new = wanted(print_of())
    first = await begun(world, new, 1, 2, 4)

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert (found.id, found.upload_id, found.state, found.hash_percent) == (first.id, first.upload_id, "waiting", 1.0)
    assert (found.loaded, found.stored_count, found.next_offset) == (3 * MIB, 3, 2 * MIB)
    world.objects.calls.clear()
    world.require_success(await finish(world, found), DATA)
    assert world.objects.calls["upload_part"] == 2


@pytest.mark.parametrize(
    "other",
    [
        {"owner": BOB},
        {"key": "t/another key"},
        {"fingerprint": by_md5(DATA[:-1])},
        {"fingerprint": by_crc64()},
        {"object_headers": {"content-type": "text/plain"}},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_another_owner_key_file_or_kind_of_object_finds_nothing(world: World, other: dict[str, Any]) -> None:
    new = wanted(key=f"t/own/{sorted(other)}")
    await begun(world, new, 1)
    asker = other.pop("owner", ALICE)
    fingerprint = other.get("fingerprint", by_md5())

    asked = wanted(**{"key": new.key, "fingerprint": fingerprint, **other})

    assert await world.control.resume(asker, asked) is None


async def test_a_finished_task_is_not_gone_on_with(world: World) -> None:
    new = wanted()
    world.require_success(await finish(world, await begun(world, new)), DATA)
    assert await world.control.resume(ALICE, new) is None

    canceled = await begun(world, new, 1)
    await world.control.cancel(ALICE, canceled.id, None)
    assert await world.control.resume(ALICE, new) is None


async def test_without_a_fingerprint_nothing_is_looked_for(world: World) -> None:
    new = new_task(size=len(DATA))
    await begun(world, new, 1)

    assert await world.control.resume(ALICE, new) is None


async def test_every_page_of_what_cos_holds_is_compared(world: World) -> None:
    world.objects.parts_listed_most = 2
    new = wanted()
    await begun(world, new, 1, 2, 3, 4, 5)

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert (found.stored_count, found.hash_percent) == (5, 1.0)


@pytest.mark.parametrize("print_of", [by_md5, by_crc64])
async def test_parts_with_other_bytes_are_forgotten(world: World, print_of: Any) -> None:
    """The file changed under its sender: what was sent before does not belong to it."""
    new = wanted(print_of())
    task = await begun(world, new, 1, 2)
    await world.put_part(task, 3, random_bytes(MIB, seed=9))

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert (found.loaded, await world.stored(found)) == (2 * MIB, [(1, MIB), (2, MIB)])
    world.require_success(await finish(world, found), DATA)


async def test_parts_that_cos_does_not_hold_as_they_were_are_forgotten(world: World) -> None:
    """Somebody replaced one behind the gateway's back."""
    new = wanted(by_whole())
    task = await begun(world, new, 1, 2)
    assert task.upload_id is not None
    await _put_behind_our_back(world, task, 2)

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert await world.stored(found) == [(1, MIB)]


async def _put_behind_our_back(world: World, task: Task, number: int) -> None:
    assert task.upload_id is not None
    await world.objects.upload_part(task.at, task.upload_id, number, BufferedBody([random_bytes(MIB, seed=8)]), {})


async def test_checking_shows_while_cos_is_asked(world: World) -> None:
    new = wanted()
    task = await begun(world, new, 1)
    listing = world.objects.hold("list_parts")

    resuming = asyncio.create_task(world.control.resume(ALICE, new))
    await listing.reached.wait()
    now = await world.load(task)
    assert (now.state, now.hash_percent) == (TaskState.CHECKING, 0.0)
    listing.open()

    found = await resuming
    assert found is not None
    assert (found.state, found.hash_percent) == (TaskState.WAITING, 1.0)


async def test_bytes_that_come_while_it_is_checked_are_kept(world: World) -> None:
    new = wanted()
    task = await begun(world, new, 1)
    listing = world.objects.hold("list_parts", after=True)

    resuming = asyncio.create_task(world.control.resume(ALICE, new))
    await listing.reached.wait()
    await world.put_part(task, 2, PARTS[1])
    listing.open()

    found = await resuming
    assert found is not None
    assert (found.state, found.loaded) == (TaskState.UPLOADING, 2 * MIB)


async def test_a_pause_while_it_is_checked_stays(world: World) -> None:
    new = wanted()
    task = await begun(world, new, 1)
    listing = world.objects.hold("list_parts", after=True)

    resuming = asyncio.create_task(world.control.resume(ALICE, new))
    await listing.reached.wait()
    await world.control.pause(ALICE, task.id, None)
    listing.open()

    found = await resuming
    assert found is not None
    assert (found.state, found.loaded) == (TaskState.PAUSED, MIB)
    assert await world.control.resume(ALICE, new) == found


async def test_a_task_in_error_goes_on_if_its_parts_are_good(world: World) -> None:
    new = wanted()
    task = await begun(world, new, 1)
    await world.engine.fail(task, StorageUnavailable("COS was away."))

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert (found.id, found.state, found.error, found.loaded) == (task.id, TaskState.WAITING, None, MIB)


async def test_an_upload_that_cos_does_not_know_is_not_gone_on_with(world: World) -> None:
    new = wanted()
    task = await begun(world, new, 1)
    assert task.upload_id is not None
    await world.objects.abort(task.at, task.upload_id)

    assert await world.control.resume(ALICE, new) is None
    now = await world.load(task)
    assert now.error is not None
    assert now.error.code == "upload_lost"
    assert await world.control.resume(ALICE, new) is None, "nor is a task in that error"


async def test_a_cos_that_fails_is_no_reason_to_begin_anew(world: World) -> None:
    new = wanted()
    task = await begun(world, new, 1)
    world.cos.fault("error", operation="ListParts", key=task.at.key, code="SlowDown", times=None)

    with pytest.raises(GatewayError) as caught:
        await world.control.resume(ALICE, new)
    assert caught.value.retryable
    world.cos.clear_faults()

    found = await world.control.resume(ALICE, new)
    assert found is not None
    assert (found.id, found.loaded) == (task.id, MIB)


async def test_a_small_file_s_task_is_found_too(world: World) -> None:
    data = random_bytes(1000)
    new = wanted(Fingerprint(size=1000, md5=hashlib.md5(data, usedforsecurity=False).hexdigest()))
    task = await world.control.create(ALICE, new)

    found = await world.control.resume(ALICE, new)

    assert found == task
    world.require_success(await world.put_content(task, data), data)


async def test_a_sequential_body_goes_on_at_the_byte_where_it_broke_off(world: World) -> None:
    new = wanted()
    task = await world.control.create(ALICE, new)
    head = 2 * MIB + 300
    await world.put_content(task, DATA[:head], ContentRange(0, head, len(DATA), ends_file=False))

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert (found.mode, found.next_offset, found.tail_size) == (BodyMode.CONTENT, head, 300)
    done = await world.put_content(task, DATA[head:], ContentRange(head, len(DATA) - head, len(DATA)))
    world.require_success(done, DATA)


async def test_uneven_parts_of_a_sequential_body_are_not_taken_for_other_bytes(world: World) -> None:
    new = wanted(by_md5(DATA, 2 * MIB), part_size=2 * MIB)
    task = await world.control.create(ALICE, new)
    for start, end in ((0, 3 * MIB), (3 * MIB, 4 * MIB)):
        await world.put_content(task, DATA[start:end], ContentRange(start, end - start, len(DATA), ends_file=False))
    assert await world.stored(task) == [(1, 2 * MIB), (2, MIB), (3, MIB)]

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert found.next_offset == 4 * MIB


# --- after Redis lost everything


async def test_an_open_upload_of_the_file_is_adopted(world: World, redis_url: str) -> None:
    new = wanted()
    lost = await begun(world, new, 1, 3)
    send_command(redis_url, "FLUSHALL")

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert (found.upload_id, found.state, found.loaded) == (lost.upload_id, TaskState.WAITING, 2 * MIB)
    assert await world.control.resume(ALICE, new) is not None
    done = await finish(world, found)
    assert done.state is TaskState.SUCCESS
    assert world.read(done.at) == DATA
    assert not world.has_open_upload(done)


async def test_s2_an_adopted_upload_counts_as_a_new_task_does(world: World, redis_url: str) -> None:
    new, another = wanted(), wanted()
    for one in (new, another):
        await begun(world, one, 1)
    send_command(redis_url, "FLUSHALL")
    redis = connect(redis_url)
    quota = RedisTaskQuota(redis, Ledgers(Shares(tasks=2), TTL_SECONDS, time.time), world.tasks.load_many)
    control = Control(
        world.engine, world.completion, world.sequential, PLACES, task_ttl_seconds=TTL_SECONDS, quota=quota
    )

    assert await control.resume(ALICE, new) is not None
    with pytest.raises(QuotaExceeded):
        await control.resume(ALICE, another)
    assert len((await world.tasks.list_tasks("alice")).tasks) == 1
    await redis.aclose()


@pytest.mark.parametrize("print_of", [by_crc64, by_whole])
async def test_only_md5s_of_parts_can_be_compared_with_cos_alone(world: World, redis_url: str, print_of: Any) -> None:
    new = wanted(print_of())
    await begun(world, new, 1)
    send_command(redis_url, "FLUSHALL")

    assert await world.control.resume(ALICE, new) is None


async def test_of_several_the_newest_that_holds_the_file_s_parts_is_adopted(world: World, redis_url: str) -> None:
    new = wanted()
    older = await begun(world, new, 1)
    other = await world.control.create(ALICE, new_task(key=new.key, size=len(DATA)))
    await world.put_part(other, 1, random_bytes(MIB, seed=7))
    empty = await world.control.create(ALICE, new_task(key=new.key, size=len(DATA)))
    send_command(redis_url, "FLUSHALL")

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert found.upload_id == older.upload_id
    assert {other.upload_id, empty.upload_id}.isdisjoint({found.upload_id})


async def test_parts_of_an_adopted_upload_that_differ_are_sent_again(world: World, redis_url: str) -> None:
    new = wanted()
    lost = await begun(world, new, 1)
    await world.put_part(lost, 2, random_bytes(MIB, seed=7))
    send_command(redis_url, "FLUSHALL")

    found = await world.control.resume(ALICE, new)

    assert found is not None
    assert await world.stored(found) == [(1, MIB)]
    done = await finish(world, found)
    assert done.state is TaskState.SUCCESS
    assert world.read(done.at) == DATA


async def test_an_upload_that_a_task_has_is_nobody_else_s(world: World) -> None:
    """The same bytes, key and all: another owner's upload stays that owner's."""
    new = wanted()
    await begun(world, new, 1)

    assert await world.control.resume(BOB, new) is None


async def test_uploads_of_keys_that_only_begin_alike_are_left_alone(world: World, redis_url: str) -> None:
    new = wanted(key="t/alike")
    await begun(world, wanted(key="t/alike.bin"), 1)
    send_command(redis_url, "FLUSHALL")

    assert await world.control.resume(ALICE, new) is None

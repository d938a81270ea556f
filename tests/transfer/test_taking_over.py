"""A completion whose process is dead or frozen is ended by another, once and with the same verdict."""

import asyncio
import itertools
import time

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import PartsMissing, Storage, TaskCompleting
from gateway.domain.parts import MIB
from gateway.domain.task import BodyMode, BodyStarted, CompleteRequested, Intent, Task, TaskState
from gateway.transfer import completion, merging
from gateway.transfer.completion_plan import ClaimedPart, CompleteWanted
from gateway.transfer.sequential_flow import ContentRange
from tests.fakes.local_cos import RunningCos
from tests.transfer.kit import ALICE, World, part_of, random_bytes, running_world

DATA = random_bytes(2 * MIB + 500)
NOTHING_SAID = CompleteWanted()
pytestmark = pytest.mark.promise(1, 12, 13)


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, seconds in (
        (completion, "POLL_SECONDS", 0.02),
        (completion, "RENEW_SECONDS", 0.05),
        (completion, "LEASE_SECONDS", 0.3),
        (merging, "MERGE_PAUSE_SECONDS", 0.02),
        (merging, "OUTAGE_SECONDS", 0.2),
        (merging, "ANSWERED_SECONDS", 0.2),
    ):
        monkeypatch.setattr(module, name, seconds)


async def uploaded(world: World, data: bytes = DATA, size: int | None = len(DATA)) -> Task:
    """A task whose parts are all stored."""
    task = await world.create(size=size)
    for number in range(1, -(-len(data) // MIB) + 1):
        await world.put_part(task, number, part_of(data, number))
    return await world.load(task)


async def complete(world: World, task: Task, wanted: CompleteWanted = NOTHING_SAID) -> Task:
    return await world.control.complete(ALICE, task.id, wanted)


async def abandoned(world: World, task: Task, intent: Intent = Intent.COMPLETE) -> Task:
    """*task*, ``completing`` in a process that is dead."""
    return await world.tasks.apply(task, CompleteRequested(intent))


@pytest.mark.parametrize("size", [len(DATA), None])
@pytest.mark.parametrize("merged", [False, True])
async def test_a_completion_is_taken_over_before_and_after_cos_merged(
    world: World, size: int | None, *, merged: bool
) -> None:
    task = await abandoned(world, await uploaded(world, size=size))
    if merged:
        assert task.upload_id is not None
        parts = [(part.number, part.etag) for part in await world.tasks.parts(task.id)]
        await world.objects.complete(task.at, task.upload_id, parts, {})

    done = await asyncio.gather(*(complete(world, task) for _ in range(3)))

    for one in done:
        world.require_success(one, DATA)
    assert world.objects.calls["complete"] == (2 if merged else 1)


async def test_looking_at_the_task_is_enough(world: World) -> None:
    task = await abandoned(world, await uploaded(world))
    async with asyncio.timeout(10):
        while task.state is not TaskState.SUCCESS:
            task = await world.control.get(ALICE, task.id)

    world.require_success(task, DATA)


@pytest.mark.parametrize("clock", ["right", "fast"])
async def test_b54_a_slow_completion_that_lives_is_left_alone(
    redis_url: str, cos: RunningCos, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    if clock == "fast":  # each look at it is most of a lease later, whatever the time
        moments = itertools.count(time.time(), 0.2)
        monkeypatch.setattr(time, "time", lambda: next(moments))
    async with running_world(redis_url, cos) as here, running_world(redis_url, cos, wait_seconds=0.7) as there:
        task = await uploaded(here)
        gate = here.objects.hold("complete")
        first = asyncio.create_task(complete(here, task))
        await gate.reached.wait()

        assert (await complete(there, task)).state is TaskState.COMPLETING, "twice the lease went by"
        gate.open()

        here.require_success(await first, DATA)
        assert there.objects.calls["complete"] == 0


@pytest.mark.promise(5)
@pytest.mark.parametrize("after", [False, True])
async def test_a_process_that_thaws_after_it_was_taken_over_agrees(
    redis_url: str, cos: RunningCos, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    async with running_world(redis_url, cos) as frozen, running_world(redis_url, cos) as living:
        task = await uploaded(frozen)
        monkeypatch.setattr(completion, "RENEW_SECONDS", 60)
        gate = frozen.objects.hold("complete", after=after)
        first = asyncio.create_task(complete(frozen, task))
        await gate.reached.wait()

        taken = await complete(living, task)
        living.require_success(taken, DATA)
        gate.open()

        assert (await first).result == taken.result
        assert await living.load(task) == taken


async def test_who_takes_over_completes_what_was_listed(world: World) -> None:
    """Of a file of unknown size the caller lists the first two parts; the process dies before COS hears of it."""
    task = await uploaded(world, size=None)
    listed = [ClaimedPart(part.number) for part in (await world.tasks.parts(task.id))[:2]]
    gate = world.objects.hold("complete")
    asking = asyncio.create_task(complete(world, task, CompleteWanted(parts=listed)))
    await gate.reached.wait()

    assert await world.stored(task) == [(1, MIB), (2, MIB)]
    gate.open()
    world.require_success(await asking, DATA[: 2 * MIB])


async def test_a_file_that_a_dead_process_was_putting_is_asked_for_again(world: World) -> None:
    data = random_bytes(1000)
    task = await world.create(size=len(data))
    await abandoned(world, await world.tasks.apply(task, BodyStarted(BodyMode.CONTENT)), Intent.PUT)
    async with asyncio.timeout(10):
        while True:
            try:
                done = await world.put_content(task, data)
                break
            except TaskCompleting:
                await asyncio.sleep(0)

    world.require_success(done, data)


async def test_completing_what_a_dead_process_was_putting_tells_where_to_go_on(world: World) -> None:
    task = await world.create(size=1000)
    await abandoned(world, task, Intent.PUT)

    with pytest.raises(PartsMissing) as refused:
        await complete(world, task)
    assert refused.value.facts["next_offset"] == 0
    assert (await world.load(task)).state is TaskState.UPLOADING


async def test_a_part_of_a_file_of_unknown_size_is_taken_again_after_cos_lost_it(world: World) -> None:
    """Its size was known only while it completed: the parts follow no plan."""
    parts = [random_bytes(size, seed) for seed, size in enumerate((MIB + 7, MIB + 300, 99))]
    task = await world.create(size=None)
    for number, data in enumerate(parts, 1):
        await world.put_part(task, number, data)
    task = await world.load(task)
    assert task.upload_id is not None
    body = world.objects
    await world.control.pause(ALICE, task.id, None)
    await world.control.restart(ALICE, task.id, None)
    await world.tasks.forget_parts(await world.load(task), [2])
    with pytest.raises(PartsMissing):
        await complete(world, task)
    await abandoned(world, await world.load(task))
    with pytest.raises(PartsMissing):
        await complete(world, task)

    await world.put_part(task, 2, parts[1])
    world.require_success(await complete(world, task), b"".join(parts))
    assert body.calls["complete"] == 1


async def test_a_tail_that_became_a_part_before_its_process_died_is_completed(world: World) -> None:
    data = random_bytes(MIB + 10)
    task = await world.create(size=None)
    task = await world.put_content(task, data, ContentRange(0, len(data), None, ends_file=False))
    assert task.tail_size
    task = await world.sequential.flush_tail(ALICE, task, None)
    assert (await world.load(task)).tail_size == 0

    world.require_success(await complete(world, task), data)


@pytest.mark.promise(13)
async def test_a_completion_that_failed_for_a_while_succeeds_when_it_is_repeated(world: World) -> None:
    """The answer was retryable: the retry needs no restart in between."""
    task = await uploaded(world)
    world.cos.fault("error", operation="CompleteMultipartUpload", key=task.at.key, times=None)
    with pytest.raises(Storage):
        await complete(world, task)
    assert (await world.load(task)).state is TaskState.ERROR
    world.cos.clear_faults()

    world.require_success(await complete(world, task), DATA)


async def test_a_small_file_whose_put_failed_for_a_while_succeeds_when_it_is_sent_again(world: World) -> None:
    data = random_bytes(1000)
    task = await world.create(size=len(data))
    world.cos.fault("error", operation="PutObject", key=task.at.key, times=None)
    with pytest.raises(Storage):
        await world.put_content(task, data)
    world.cos.clear_faults()

    done = await world.put_content(task, data)
    world.require_success(done, data)
    assert done.result is not None
    assert done.result.crc64 == crc64(data)

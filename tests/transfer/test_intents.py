import asyncio
import time
from dataclasses import replace

import pytest

from gateway.domain.task import BodyMode, CancelRequested, CompleteRequested, Intent, Task, TaskState
from gateway.store.redis_keys import task_keys
from gateway.telemetry import Metrics
from gateway.transfer import completion
from gateway.transfer.intents import Intents
from tests.fakes.redis_server import send_command
from tests.transfer.kit import ALICE, World, new_task, part_of, random_bytes

DATA = random_bytes(3 << 20)
TERM = 60.0


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(completion, "LEASE_SECONDS", 0.1)


def _intents(
    world: World, *, later: float = TERM + 1, term_seconds: float = TERM, metrics: Metrics | None = None
) -> Intents:
    """As another process sees it *later*."""
    due, engine = world.tasks.intents, world.engine
    clock = lambda: time.time() + later  # noqa: E731 -- a clock
    return Intents(due, engine, world.completion, metrics or Metrics(), term_seconds=term_seconds, clock=clock)


async def _settled(world: World, task: Task, later: float) -> Task:
    """After *later* seconds somebody looks at *task*; it is not listed any more."""
    await _intents(world, later=later).round()
    assert await world.engine.owned.drain(10) == 0
    now = await world.load(task)
    await _intents(world, later=2 * later + TERM).round()
    assert not await world.tasks.intents.lists(task.id)
    return now


@pytest.mark.promise(12)
async def test_b6_a_completion_that_its_process_did_not_survive_is_finished(world: World) -> None:
    task = await world.create(size=len(DATA))
    for number in (1, 2, 3):
        await world.put_part(task, number, part_of(DATA, number))
    begun = await world.tasks.apply(await world.load(task), CompleteRequested(Intent.COMPLETE))
    await asyncio.sleep(0.15)  # its lease

    now = await _settled(world, begun, TERM + 1)

    world.require_success(now, DATA)


@pytest.mark.promise(12)
async def test_b7_a_completion_that_cos_carried_out_is_found_and_not_failed(world: World) -> None:
    task = await world.create(size=len(DATA))
    for number in (1, 2, 3):
        await world.put_part(task, number, part_of(DATA, number))
    begun = await world.tasks.apply(await world.load(task), CompleteRequested(Intent.COMPLETE))
    assert begun.upload_id is not None
    parts = [(part.number, part.etag) for part in await world.tasks.parts(task.id)]
    await world.objects.complete(task.at, begun.upload_id, parts, {})
    await asyncio.sleep(0.15)

    world.require_success(await _settled(world, begun, TERM + 1), DATA)


@pytest.mark.promise(16)
async def test_b8_a_cancel_that_its_process_did_not_survive_is_finished(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.put_part(task, 1, part_of(DATA, 1))
    canceled = await world.tasks.apply(await world.load(task), CancelRequested())
    assert world.has_open_upload(task)

    now = await _settled(world, canceled, TERM + 1)

    assert (now.state, now.intent) == (TaskState.CANCELED, Intent.NONE)
    assert not world.has_open_upload(task)


@pytest.mark.promise(14)
async def test_b5_a_task_whose_upload_was_never_noted_gets_one(world: World) -> None:
    """The one that the dead process opened is nobody's: the sweeper ends it."""
    draft = await world.create(size=len(DATA))
    orphan = draft.upload_id
    await world.tasks.apply(draft, CancelRequested())
    lost = world.control.draft_for_whole(ALICE, new_task(), len(DATA))
    waiting = await world.tasks.create(_initiating(lost))

    now = await _settled(world, waiting, TERM + 1)

    assert now.upload_id not in (None, orphan)
    assert (now.state, now.intent) == (TaskState.WAITING, Intent.NONE)
    assert world.has_open_upload(now)


def _initiating(task: Task) -> Task:
    return replace(task, state=TaskState.WAITING, intent=Intent.INITIATE, mode=BodyMode.UNDECIDED, slice_size=1 << 20)


async def test_what_its_process_still_has_time_for_is_left_alone(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.tasks.apply(task, CancelRequested())

    assert await _intents(world, later=0).round() == 0
    assert world.has_open_upload(task)


async def test_a_cos_that_refuses_leaves_the_intent_for_the_next_term(world: World) -> None:
    task = await world.create(size=len(DATA))
    canceled = await world.tasks.apply(task, CancelRequested())
    world.cos.fault("early_error", operation="AbortMultipartUpload", status=403, code="AccessDenied", times=None)
    metrics = Metrics()
    assert await _intents(world, metrics=metrics).round() == 1
    assert b"gateway_intents_finished_total{" not in metrics.exposition()
    world.cos.clear_faults()
    assert await _intents(world).round() == 0  # not before its new time

    now = await _settled(world, canceled, 3 * TERM)

    assert now.intent is Intent.NONE
    assert not world.has_open_upload(task)


async def test_two_processes_at_once_do_no_harm(world: World) -> None:
    tasks = [await world.create(size=len(DATA)) for _ in range(6)]
    for task in tasks:
        await world.tasks.apply(task, CancelRequested())

    looked = await asyncio.gather(*(_intents(world).round() for _ in range(3)))

    assert sum(looked) == len(tasks)
    assert not any(world.has_open_upload(task) for task in tasks)


async def test_a_hint_without_a_task_is_forgotten(world: World, redis_url: str) -> None:
    task = await world.create(size=len(DATA))
    await world.tasks.apply(task, CancelRequested())
    send_command(redis_url, "DEL", task_keys(task.id).task)

    await _intents(world).round()

    assert not await world.tasks.intents.lists(task.id)


async def test_it_looks_as_long_as_it_runs(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.tasks.apply(task, CancelRequested())
    running = asyncio.create_task(_intents(world, term_seconds=0.05).run())

    async with asyncio.timeout(10):
        while (await world.load(task)).intent is not Intent.NONE:  # noqa: ASYNC110 -- Redis has no event for it
            await asyncio.sleep(0.01)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

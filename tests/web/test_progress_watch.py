import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.batch import BatchId, BatchTotals
from gateway.domain.task import AbortFinished, CancelRequested, Task, TaskId
from gateway.web.progress_watch import SNAPSHOT_FINISHED_COUNT, Pace, Watch
from tests.fakes.store import MemoryTaskStore
from tests.web.sample_tasks import MIB, grow, new_task, told


async def test_a_snapshot_tells_every_unfinished_task_and_the_last_finished() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    old = await store.create(new_task("old", created_at=1.0))
    for n in range(SNAPSHOT_FINISHED_COUNT + 5):
        canceled = await store.create(new_task(f"done{n}", created_at=2.0 + n))
        await store.apply(await store.apply(canceled, CancelRequested()), AbortFinished())
    await store.create(new_task("foreign", owner="bob"))

    [message] = await Watch(store, told, "alice").snapshot()

    ids = [task["id"] for task in message["tasks"]]
    assert message["type"] == "snapshot"
    assert ids == [f"done{n}" for n in range(SNAPSHOT_FINISHED_COUNT + 4, 4, -1)] + [old.id]


async def test_an_unfinished_task_that_is_known_stays_in_the_snapshot_however_many_are_newer() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    old = await store.create(new_task("old", created_at=1.0))
    watch = Watch(store, told, "alice")
    await watch.snapshot()
    for n in range(1000):
        await store.create(new_task(f"new{n}", created_at=2.0 + n))

    [message] = await watch.snapshot()

    assert message["tasks"][-1]["id"] == old.id
    assert len(message["tasks"]) == 1001


async def test_others_have_their_turns_while_a_large_snapshot_is_made() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    for n in range(1000):
        await store.create(new_task(f"new{n}", created_at=2.0 + n))
    rendered, seen = 0, set()

    def render(task: Task) -> dict[str, Any]:
        nonlocal rendered
        rendered += 1
        return told(task)

    async def look() -> None:
        while rendered < 1000:
            seen.add(rendered)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    [message] = await Watch(store, render, "alice").snapshot()
    await looking

    assert len(message["tasks"]) == 1000
    assert {100, 200, 900} <= seen


async def test_a_change_is_told_once_and_as_it_is_now() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    task = await store.create(new_task("t1"))
    watch = Watch(store, told, "alice")
    await watch.snapshot()
    await grow(store, task, 1)
    latest = await grow(store, task, 2)

    assert await watch.changes([task.id]) == [{"type": "task", "task": told(latest)}]
    assert await watch.changes([task.id]) == []
    assert await watch.changes([TaskId("unknown")]) == []


async def test_loaded_falls_only_with_a_part_lost_message() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    task = await grow(store, await grow(store, await store.create(new_task("t1")), 1), 2)
    by_change, by_snapshot = Watch(store, told, "alice"), Watch(store, told, "alice")
    for watch in (by_change, by_snapshot):
        await watch.snapshot()

    fallen = await store.forget_parts(task, [2])

    lost = {"type": "part_lost", "task": told(fallen)}
    assert await by_change.changes([task.id]) == [lost]
    assert await by_snapshot.snapshot() == [lost, {"type": "snapshot", "tasks": [told(fallen)]}]
    assert (await by_snapshot.snapshot())[0]["type"] == "snapshot"


async def test_a_task_rebuilt_with_the_same_version_is_a_change() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    task = await store.create(new_task("t1"))
    watch = Watch(store, told, "alice")
    await watch.snapshot()
    store.lose(task.id)

    await store.create(replace(task, updated_at=1500.0))

    assert [message["type"] for message in await watch.changes([task.id])] == ["task"]


async def test_a_watch_of_one_task_is_of_no_other() -> None:
    store = MemoryTaskStore()
    await store.create(new_task("t1"))
    await store.create(new_task("t2"))
    watch = Watch(store, told, "alice", TaskId("t1"))

    [message] = await watch.snapshot()

    assert [task["id"] for task in message["tasks"]] == ["t1"]
    assert (watch.concerns(TaskId("t1")), watch.concerns(TaskId("t2"))) == (True, False)
    store.lose(TaskId("t1"))
    assert await watch.snapshot() == [{"type": "snapshot", "tasks": []}]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200)), max_size=60))
def test_no_task_is_told_more_than_once_in_a_gap_and_no_last_change_is_forgotten(
    steps: list[tuple[str, int]],
) -> None:
    pace, now = Pace(250), 0
    taken: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    last_change: dict[str, int] = {}

    def take_until(end: int) -> None:
        nonlocal now
        while (turn := pace.next_turn(now)) is not None and turn <= end:
            now = max(now, int(turn))
            for task_id in pace.take(now, 20):
                taken[task_id].append(now)
        now = end

    for task_id, pause in steps:
        pace.note([TaskId(task_id)])
        last_change[task_id] = now
        take_until(now + pause)
    take_until(now + 250)

    for task_id, at in last_change.items():
        assert taken[task_id][-1] >= at
        assert taken[task_id][-1] - at <= 250
        assert all(b - a >= 250 for a, b in pairwise(taken[task_id]))


def test_what_is_over_the_most_waits_for_the_next_turn() -> None:
    pace = Pace(0.25)
    pace.note([TaskId("a"), TaskId("b"), TaskId("c")])

    assert pace.take(0.0, 2) == ["a", "b"]
    assert pace.next_turn(0.0) == 0.0
    assert pace.take(0.0, 2) == ["c"]
    assert pace.next_turn(0.0) is None


async def test_a_batch_is_told_when_its_totals_are_others() -> None:
    store = MemoryTaskStore()
    task = await store.create(replace(new_task("t1"), batch_id="b1"))
    alone = await store.create(new_task("t2"))

    async def add_up(batch_id: BatchId) -> BatchTotals | None:
        return BatchTotals.of([await store.load(task.id) or task]) if batch_id == "b1" else None

    watch = Watch(store, told, "alice", add_up=add_up)
    await watch.snapshot()
    moved = watch.take_moved()
    first = await watch.batches(moved)
    again = await watch.batches(moved)
    await grow(store, task, 1)
    await grow(store, alone, 1)
    await watch.changes([task.id, alone.id])
    after = await watch.batches(watch.take_moved())

    assert (moved, watch.take_moved(), again) == ({"b1"}, set(), [])
    assert [message["type"] for message in first + after] == ["batch", "batch"]
    assert [message["batch"]["loaded"] for message in first + after] == [0, MIB]
    assert await watch.batches([BatchId("unknown")]) == []


async def test_without_totals_nothing_is_told_of_batches() -> None:
    store = MemoryTaskStore()
    await store.create(replace(new_task("t1"), batch_id="b1"))
    watch = Watch(store, told, "alice")
    await watch.snapshot()

    assert watch.take_moved() == set()

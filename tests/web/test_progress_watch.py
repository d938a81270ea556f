from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.task import AbortFinished, CancelRequested, TaskId
from gateway.web.progress_watch import SNAPSHOT_FINISHED_COUNT, Seen, Watch
from tests.fakes.store import MemoryTaskStore
from tests.web.sample_tasks import grow, new_task, told


async def everything(watch: Watch) -> list[Seen]:
    return [one async for seen in watch.everything() for one in seen]


def names(seen: Sequence[Seen]) -> list[str]:
    return [one.task.id for one in seen]


async def test_a_snapshot_tells_every_unfinished_task_and_the_last_finished() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    await store.create(new_task("old", created_at=1.0))
    for n in range(SNAPSHOT_FINISHED_COUNT + 5):
        canceled = await store.create(new_task(f"done{n}", created_at=2.0 + n))
        await store.apply(await store.apply(canceled, CancelRequested()), AbortFinished())
    await store.create(new_task("foreign", owner="bob"))

    seen = await everything(Watch(store, told, "alice"))

    assert names(seen) == [f"done{n}" for n in range(SNAPSHOT_FINISHED_COUNT + 4, 4, -1)] + ["old"]


async def test_an_unfinished_task_that_is_known_stays_in_the_snapshot_however_many_are_newer() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    await store.create(new_task("old", created_at=1.0))
    watch = Watch(store, told, "alice")
    await everything(watch)
    for n in range(1000):
        await store.create(new_task(f"new{n}", created_at=2.0 + n))

    seen = names(await everything(watch))

    assert (len(seen), seen[-1]) == (1001, "old")


async def test_a_thousand_tasks_are_read_and_rendered_some_at_a_time() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    for n in range(1000):
        await store.create(new_task(f"new{n}", created_at=2.0 + n))

    assert [len(seen) async for seen in Watch(store, told, "alice").everything()] == [100] * 10


async def test_a_change_is_told_once_and_as_it_is_now() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    task = await store.create(new_task("t1"))
    watch = Watch(store, told, "alice")
    await everything(watch)
    await grow(store, task, 1)
    latest = await grow(store, task, 2)

    [seen] = await watch.changes([task.id])

    assert seen.task == latest
    assert seen.message.text == (
        f'{{"type":"task","task":{{"id":"t1","version":{latest.version},"loaded":2097152,"state":"uploading"}}}}'
    )
    assert await watch.changes([task.id]) == []
    assert await watch.changes([TaskId("unknown")]) == []


async def test_loaded_falls_only_with_a_loss() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    task = await grow(store, await grow(store, await store.create(new_task("t1")), 1), 2)
    by_change, by_snapshot = Watch(store, told, "alice"), Watch(store, told, "alice")
    for watch in (by_change, by_snapshot):
        await everything(watch)

    await store.forget_parts(task, [2])

    for seen in (await by_change.changes([task.id]), await everything(by_snapshot)):
        assert [(one.is_news, one.is_loss) for one in seen] == [(True, True)]
        assert seen[0].message.text.startswith('{"type":"part_lost",')
    assert [(one.is_news, one.is_loss) for one in await everything(by_snapshot)] == [(False, False)]


async def test_a_task_rebuilt_with_the_same_version_is_a_change() -> None:
    store = MemoryTaskStore(clock=lambda: 1000.0)
    task = await store.create(new_task("t1"))
    watch = Watch(store, told, "alice")
    await everything(watch)
    store.lose(task.id)

    await store.create(replace(task, updated_at=1500.0))

    assert names(await watch.changes([task.id])) == ["t1"]


async def test_a_watch_of_one_task_is_of_no_other() -> None:
    store = MemoryTaskStore()
    await store.create(new_task("t1"))
    await store.create(new_task("t2"))
    watch = Watch(store, told, "alice", TaskId("t1"))

    assert names(await everything(watch)) == ["t1"]
    store.lose(TaskId("t1"))
    assert await everything(watch) == []


async def test_the_batches_of_what_moves_are_named_once() -> None:
    store = MemoryTaskStore()
    task = await store.create(replace(new_task("t1"), batch_id="b1"))
    await store.create(new_task("t2"))
    watch = Watch(store, told, "alice")

    await everything(watch)
    assert (watch.take_moved(), watch.take_moved()) == ({"b1"}, set())
    await grow(store, task, 1)
    await watch.changes([task.id])
    assert watch.take_moved() == {"b1"}

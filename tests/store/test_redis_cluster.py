"""A real cluster of three masters: every script is single-slot, and no reshard or lost node is noticed for long."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.crc import key_slot

from gateway.domain.batch import Batch, BatchFile, BatchId
from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.task import CancelRequested, PauseRequested, Task, TaskId, TaskState
from gateway.store.batch_store import RedisBatchStore
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_address import connect
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import task_keys
from gateway.store.task_store import RedisTaskStore
from gateway.transfer.ports import Idempotency
from tests.store.conftest import TTL_SECONDS, new_task, part
from tests.system.redis_topologies import ClusterSet, running_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def client(cluster: ClusterSet) -> AsyncIterator[Any]:
    for node in cluster.nodes:
        node.say("FLUSHALL")
        node.say("SCRIPT", "FLUSH")
    client = connect(cluster.url)
    yield client
    await client.aclose()


@pytest.fixture
def store(client: Any) -> RedisTaskStore:
    return RedisTaskStore(client, ttl_seconds=TTL_SECONDS)


def _slot(task: Task) -> int:
    return key_slot(task_keys(task.id).task.encode())


async def _with_parts(store: RedisTaskStore, task: Task, *numbers: int) -> Task:
    for number in numbers:
        await store.begin_part(task.id, number, f"a{number}")
        task = await store.store_part(task, part(number), attempt=f"a{number}")
    return task


async def test_f3_a_wait_goes_where_its_write_went(cluster: ClusterSet, client: Any, store: RedisTaskStore) -> None:
    calls = RedisCalls(client)
    for number in range(6):
        task = await store.create(new_task(number))
        for node in cluster.nodes:
            node.say("CONFIG", "RESETSTAT")

        await calls.together("wait", [("PERSIST", task_keys(task.id).task), ("WAIT", 0, 1)])

        waited = [node for node in cluster.nodes if "cmdstat_wait" in node.info("commandstats")]
        assert waited == [cluster.holder(_slot(task))]


async def test_f3_a_cluster_without_replicas_is_not_waited_for(cluster: ClusterSet, store: RedisTaskStore) -> None:
    for node in cluster.nodes:
        node.say("CONFIG", "RESETSTAT")
    task = await store.create(new_task())

    assert (await store.apply(task, CancelRequested())).state is TaskState.CANCELED

    assert not any("cmdstat_wait" in node.info("commandstats") for node in cluster.nodes)


async def test_a_store_s_whole_work_is_done_across_the_nodes(cluster: ClusterSet, store: RedisTaskStore) -> None:
    tasks = [await store.create(new_task(n), Idempotency(f"key {n}", "digest")) for n in range(24)]
    assert [await store.create(new_task(n + 100), Idempotency(f"key {n}", "digest")) for n in range(3)] == tasks[:3]
    assert len({cluster.holder(_slot(task)) for task in tasks}) == 3

    for task in tasks:
        await _with_parts(store, task, 2, 1)
        assert [stored.number for stored in await store.parts(task.id)] == [1, 2]
    await store.apply(await _loaded(store, tasks[0].id), PauseRequested())

    assert {task.id for task in (await store.list_tasks("alice")).tasks} == {task.id for task in tasks}
    assert [task and task.stored_count for task in await store.load_many([task.id for task in tasks])] == [2] * 24
    assert await store.find_uploads([], None) == []
    await store.ping()


async def _loaded(store: RedisTaskStore, task_id: TaskId) -> Task:
    task = await store.load(task_id)
    assert task is not None
    return task


async def test_a_batch_and_its_slots_are_in_one_place(client: Any) -> None:
    batches = RedisBatchStore(client, ttl_seconds=TTL_SECONDS)
    for number in range(6):
        batch_id, task_ids = BatchId(f"{number:032x}"), [TaskId(f"{n:032x}") for n in range(3)]
        await batches.claim("alice", batch_id, Idempotency(f"batch {number}", "digest"))
        await batches.save(Batch(batch_id, "alice", 2, 1.0, tuple(BatchFile(task_id) for task_id in task_ids)))

        assert [await batches.take_slot(batch_id, task_id) for task_id in task_ids] == [[], [], task_ids[:2]]
        await batches.renew_slots([(batch_id, task_ids[0])])
        await batches.free_slots(batch_id, task_ids[:1])
        assert await batches.take_slot(batch_id, task_ids[2]) == []
        loaded = await batches.load(batch_id)
        assert loaded is not None
        assert len(loaded.files) == 3


async def test_what_any_node_publishes_reaches_a_watcher(client: Any, store: RedisTaskStore) -> None:
    bus = RedisProgressBus(client)
    await bus.start()
    try:
        async with bus.watch_owner("bob") as feed:
            tasks = [await store.create(new_task(n, owner="bob")) for n in range(9)]
            seen: dict[TaskId, int] = {}
            while len(seen) < 9:
                told = await feed.next(5)
                assert told
                seen |= told
            assert seen == {task.id: task.version for task in tasks}
    finally:
        await bus.aclose()


async def test_a_slot_that_moves_while_parts_are_stored_is_followed(cluster: ClusterSet, store: RedisTaskStore) -> None:
    task = await _with_parts(store, await store.create(new_task(1)), 1)
    old, new = cluster.begin_to_move(_slot(task))

    storing = asyncio.create_task(_with_parts(store, task, 2))
    assert await store.load(_in_slot_of(task)) is None
    assert not storing.done()
    await asyncio.to_thread(cluster.finish_moving, _slot(task), old, new)

    assert (await _with_parts(store, await storing, 3)).stored_count == 3
    assert [stored.number for stored in await store.parts(task.id)] == [1, 2, 3]
    assert cluster.holder(_slot(task)) is new


def _in_slot_of(task: Task) -> TaskId:
    """An id whose keys lie in the same slot: asked of the old holder, they are to be asked of the new."""
    for number in range(1 << 20):
        other = TaskId(f"x{number:031x}")
        if key_slot(task_keys(other).task.encode()) == _slot(task):
            return other
    raise AssertionError("no such id")


async def test_b49_a_node_that_stops_fails_its_own_tasks_fast_and_no_others(
    cluster: ClusterSet, store: RedisTaskStore, client: Any
) -> None:
    tasks = [await store.create(new_task(n)) for n in range(24)]
    victim = cluster.holder(_slot(tasks[0]))
    others = [task for task in tasks if cluster.holder(_slot(task)) is not victim]
    victim.program.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StateStoreUnavailable):
            await store.load(tasks[0].id)
        first = time.monotonic() - began
        with pytest.raises(StateStoreUnavailable):
            await store.load(tasks[0].id)
        second = time.monotonic() - began - first
        found = await asyncio.gather(*(store.load(task.id) for task in others))
        first_there, then_here = (f"{task_keys(task.id).task}:x" for task in (tasks[0], others[0]))
        with pytest.raises(StateStoreUnavailable):
            await RedisCalls(client).together("both", [("SET", first_there, "1"), ("SET", then_here, "1")])
        assert await RedisCalls(client).command("EXISTS", then_here) == 0  # what comes second is not done alone
    finally:
        victim.program.signal(signal.SIGCONT)

    assert first < 2.2
    assert second < 0.1
    assert all(found)
    began = time.monotonic()
    while not await _is_back(store, tasks[0].id):
        assert time.monotonic() - began < 2
        await asyncio.sleep(0.02)


async def _is_back(store: RedisTaskStore, task_id: TaskId) -> bool:
    try:
        return await store.load(task_id) is not None
    except StateStoreUnavailable:
        return False


async def test_keys_that_share_no_tag_are_refused_and_nothing_else_is(client: Any) -> None:
    """-CROSSSLOT would be our mistake: it is told as any refusal, not repeated, and breaks nothing."""
    calls = RedisCalls(client)
    with pytest.raises(StateStoreUnavailable):
        await calls.command("MGET", "gw:{a}", "gw:{b}")
    assert await calls.command("GET", "gw:{a}") is None

"""A real master with its replica: a cancel is answered once the replica has it, and holds nobody else up."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from gateway.domain.task import CancelRequested, PauseRequested, Task, TaskState
from gateway.store import replication
from gateway.store.redis_address import connect
from gateway.store.redis_keys import task_keys
from gateway.store.task_store import RedisTaskStore
from tests.store.conftest import TTL_SECONDS, new_task
from tests.system.processes import free_port, wait_until
from tests.system.redis_topologies import RedisNode


@dataclass
class Pair:
    master: RedisNode
    replica: RedisNode


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("replica")
    with closing(RedisNode(folder, free_port())) as master, closing(RedisNode(folder, free_port())) as replica:
        replica.say("REPLICAOF", "127.0.0.1", master.port)
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica")
        yield Pair(master, replica)


@pytest.fixture
async def client(pair: Pair) -> AsyncIterator[Redis]:
    pair.master.say("FLUSHALL")
    client = connect(f"redis://127.0.0.1:{pair.master.port}")
    yield client
    await client.aclose()


@pytest.fixture
def store(client: Redis) -> RedisTaskStore:
    return RedisTaskStore(client, ttl_seconds=TTL_SECONDS)


@pytest.fixture
def frozen(pair: Pair) -> Iterator[RedisNode]:
    """The replica, which has everything so far and takes nothing more until it is let go on."""
    assert pair.master.say("WAIT", 1, 1000) == 1
    pair.replica.program.signal(signal.SIGSTOP)
    yield pair.replica
    pair.replica.program.signal(signal.SIGCONT)


def _knows_the_cancel(server: RedisNode, task: Task) -> bool:
    return b"canceled" in server.client.hgetall(task_keys(task.id).task).values()


@pytest.mark.promise(3, 16)
async def test_f3_a_cancel_waits_for_the_replica(
    pair: Pair, store: RedisTaskStore, frozen: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "WAIT_MILLISECONDS", 900)
    task = await store.create(new_task())

    canceling = asyncio.create_task(store.apply(task, CancelRequested()))
    await asyncio.to_thread(wait_until, lambda: _knows_the_cancel(pair.master, task), "the cancel", 5)
    await asyncio.sleep(0.05)
    assert not canceling.done()
    frozen.program.signal(signal.SIGCONT)

    assert (await canceling).state is TaskState.CANCELED
    assert _knows_the_cancel(frozen, task)


async def test_f3_a_replica_that_lags_holds_cancels_up_for_a_moment_and_nobody_else(
    store: RedisTaskStore, frozen: RedisNode
) -> None:
    tasks = [await store.create(new_task(number)) for number in range(4 * replication.WAITING_MOST)]
    began = time.monotonic()
    canceling = asyncio.gather(*(store.apply(task, CancelRequested()) for task in tasks))
    waits = []
    while not canceling.done():
        asked = time.monotonic()
        await store.load(tasks[0].id)
        waits.append(time.monotonic() - asked)
        await asyncio.sleep(0.005)

    assert {task.state for task in await canceling} == {TaskState.CANCELED}
    assert 0.4 <= time.monotonic() - began < 2
    assert sorted(waits)[len(waits) // 2] < 0.05


async def test_f3_what_is_no_cancel_waits_for_no_replica(pair: Pair, store: RedisTaskStore, frozen: RedisNode) -> None:
    pair.master.say("CONFIG", "RESETSTAT")
    await store.apply(await store.create(new_task()), PauseRequested())

    assert "cmdstat_wait" not in pair.master.info("commandstats")


async def test_f3_where_an_acl_forbids_to_ask_a_cancel_goes_on(pair: Pair, client: Redis) -> None:
    pair.master.say("ACL", "SETUSER", "gateway", "on", ">pass", "~*", "&*", "+@all", "-info", "-wait")
    client = connect(f"redis://gateway:pass@127.0.0.1:{pair.master.port}")
    store = RedisTaskStore(client, ttl_seconds=TTL_SECONDS)
    try:
        task = await store.create(new_task())
        assert (await store.apply(task, CancelRequested())).state is TaskState.CANCELED
    finally:
        await client.aclose()

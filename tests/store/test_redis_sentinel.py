"""A real master with its replica behind three Sentinels: a failover is a pause of seconds, and costs nothing else."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.task import Task
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_address import connect
from gateway.store.redis_calls import RedisCalls
from gateway.store.task_store import RedisTaskStore
from tests.fakes.scripted_redis import ScriptedRedis
from tests.store.conftest import TTL_SECONDS, new_task, part
from tests.system.redis_topologies import SentinelSet, running_sentinels


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    with running_sentinels(tmp_path_factory.mktemp("sentinels")) as running:
        yield running


@pytest.fixture
async def client(sentinels: SentinelSet) -> AsyncIterator[Redis]:
    client = connect(sentinels.url)
    yield client
    await client.aclose()


@pytest.fixture
def store(client: Redis) -> RedisTaskStore:
    return RedisTaskStore(client, ttl_seconds=TTL_SECONDS)


async def _store_part_until_taken(store: RedisTaskStore, task: Task, number: int) -> float:
    """As the relay's client does: the part again until it is taken. The seconds it took."""
    began = time.monotonic()
    while True:
        assert time.monotonic() - began < 15
        try:
            await store.begin_part(task.id, number, f"a{number}")
            await store.store_part(task, part(number), attempt=f"a{number}")
            return time.monotonic() - began
        except StateStoreUnavailable:
            await asyncio.sleep(0.05)


async def _pings(calls: RedisCalls) -> None:
    """Several at once, each over a connection of its own, and each answered soon."""
    async with asyncio.timeout(0.9):
        await asyncio.gather(*(calls.command("PING") for _ in range(8)))


async def test_sentinels_that_are_gone_or_know_nothing_are_passed_over(sentinels: SentinelSet) -> None:
    place = f"127.0.0.1:{sentinels.sentinels[2].port}"
    client = connect(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinels.master.port},{place}/main/0")
    assert await RedisCalls(client).command("SET", "a", "1") == b"OK"
    await client.aclose()

    stranger = connect(sentinels.url.replace("/main/", "/other/"))
    with pytest.raises(StateStoreUnavailable):
        await RedisCalls(stranger).command("GET", "a")
    await stranger.aclose()


async def test_a_sentinel_that_names_a_replica_is_not_believed(sentinels: SentinelSet) -> None:
    (replica,) = [server for server in sentinels.servers if server is not sentinels.master]
    port = str(replica.port).encode()
    liar = ScriptedRedis("")
    liar.replies.extend([b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)] * 10)
    async with await asyncio.start_server(liar.serve, "127.0.0.1", 0) as server:
        places = (server.sockets[0].getsockname()[1], sentinels.sentinels[0].port)
        client = connect(f"redis+sentinel://{','.join(f'127.0.0.1:{place}' for place in places)}/main/0")

        assert await RedisCalls(client).command("SET", "a", "1") == b"OK"
        assert len(liar.asked) == 1  # and it is asked last from now on
        await client.aclose()
        await liar.aclose()


@pytest.mark.promise(3, 24)
async def test_b44_a_master_that_stops_for_ever_is_replaced_within_seconds(
    sentinels: SentinelSet, client: Redis, store: RedisTaskStore
) -> None:
    """For calls, and for watchers, whose connection to it is just silent."""
    bus = RedisProgressBus(client)
    await bus.start()
    task = await store.create(new_task(3))
    await _store_part_until_taken(store, task, 1)
    calls = RedisCalls(client)
    await _pings(calls)
    old = sentinels.master
    assert old.say("WAIT", 1, 1000) == 1
    async with bus.watch_owner("alice") as feed:
        old.program.signal(signal.SIGSTOP)
        try:
            failover = asyncio.create_task(asyncio.to_thread(sentinels.wait_for_failover, old))
            took = await _store_part_until_taken(store, task, 2)
            assert took - await failover < 2
            await _pings(calls)  # over no connection to the old master
            async with asyncio.timeout(3):
                while await feed.next(3) != {}:  # watchers are told to look for themselves
                    pass
            await store.create(new_task(4))
            while not (told := await feed.next(2)) or new_task(4).id not in told:
                assert told is not None
        finally:
            old.program.signal(signal.SIGCONT)

    assert [stored.number for stored in await store.parts(task.id)] == [1, 2]
    found: Any = await store.load(task.id)
    assert (found.stored_count, found.loaded) == (2, 2000)
    await bus.aclose()

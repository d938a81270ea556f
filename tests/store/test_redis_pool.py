"""Asking over a lent connection: what is an answer, what breaks the connection off, and what opens the breaker."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from gateway.domain.errors import StateStoreUnavailable
from gateway.store.redis_address import connect
from gateway.store.redis_breaker import RedisDown
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_pool import LendingPool, packed
from tests.fakes.redis_proxy import running_proxy
from tests.fakes.scripted_redis import ScriptedRedis, running_script
from tests.store.conftest import answers_again

REFUSALS = [
    b"-BUSY Redis is busy running a script.\r\n",
    b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    b"-MOVED 3999 127.0.0.1:6381\r\n",
    b"-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-NOREPLICAS Not enough good replicas to write.\r\n",
    b"-MISCONF Redis is configured to save RDB snapshots\r\n",
    b"-NOPERM this user has no permissions to run the 'set' command\r\n",
]
OF_ANOTHER_SERVER = [
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
]


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedRedis]:
    async with running_script() as running:
        yield running


@pytest.fixture
async def pool(scripted: ScriptedRedis) -> AsyncIterator[LendingPool]:
    client = connect(scripted.url)
    assert isinstance(client.connection_pool, LendingPool)
    yield client.connection_pool
    await client.aclose()


@pytest.mark.parametrize("reply", REFUSALS, ids=lambda reply: reply.split()[0].decode())
async def test_b46_a_refusal_is_an_answer_and_the_connection_stays(
    scripted: ScriptedRedis, pool: LendingPool, reply: bytes
) -> None:
    scripted.replies.extend([reply, b"+fine\r\n"])

    refused, fine = await pool.ask([("SET", "a", "1"), ("PING",)])

    assert isinstance(refused, ResponseError)
    assert (fine, scripted.connection_count) == (b"fine", 1)
    assert not pool.breaker.is_open


@pytest.mark.parametrize("reply", REFUSALS, ids=lambda reply: reply.split()[0].decode())
async def test_b46_a_refusal_is_a_503_that_was_asked_for_once(scripted: ScriptedRedis, reply: bytes) -> None:
    client = connect(scripted.url)
    scripted.replies.append(reply)

    with pytest.raises(StateStoreUnavailable) as caught:
        await RedisCalls(client).command("SET", "a", "1")

    assert (caught.value.retryable, len(scripted.asked)) == (True, 1)
    await client.aclose()


@pytest.mark.parametrize("reply", OF_ANOTHER_SERVER, ids=lambda reply: reply.split()[0].decode())
async def test_b46_what_no_master_says_is_asked_again_over_a_new_connection(
    scripted: ScriptedRedis, reply: bytes
) -> None:
    """Behind an address that moves with the master the new connection finds it."""
    client = connect(scripted.url)
    scripted.replies.append(reply)

    assert await RedisCalls(client).command("SET", "a", "1") == b"OK"

    assert [words[0] for words in scripted.asked if words[0] != b"PING"] == [b"SET", b"SET"]
    assert scripted.connection_count >= 2
    await client.aclose()


async def test_b46_a_master_that_stays_away_is_a_503(scripted: ScriptedRedis) -> None:
    client = connect(scripted.url)
    scripted.replies.extend([OF_ANOTHER_SERVER[0]] * 2)

    with pytest.raises(StateStoreUnavailable) as caught:
        await RedisCalls(client).command("SET", "a", "1")

    assert isinstance(caught.value.__cause__, ReadOnlyError)
    assert len(scripted.asked) == 2
    await client.aclose()


async def test_an_answer_cut_off_closes_the_connection(scripted: ScriptedRedis, pool: LendingPool) -> None:
    scripted.replies.append(b"$10\r\nhalf")
    asking = asyncio.create_task(pool.ask([("GET", "a")]))
    await scripted.was_asked.wait()
    asking.cancel()
    await asyncio.wait([asking])

    assert await pool.ask([("GET", "a")]) == [b"OK"]
    assert scripted.connection_count == 2


async def test_b49_a_server_that_refuses_is_refused_at_once_until_it_is_back(redis_url: str) -> None:
    async with running_proxy(redis_url) as proxy:
        client: Any = connect(proxy.url)
        pool = client.connection_pool
        proxy.answer_delay_seconds = 30
        with pytest.raises(TimeoutError):
            await pool.ask([("PING",)])
        async with asyncio.timeout(1):
            while not pool.breaker.is_open:  # noqa: ASYNC110 -- it tells nobody
                await asyncio.sleep(0.01)
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(RedisDown):
                pool.admit()
        assert time.monotonic() - began < 0.9

        proxy.answer_delay_seconds = 0
        await proxy.aclose()
        await answers_again(client)
        await client.aclose()


async def test_f2_a_call_that_is_given_up_after_its_time_counts_as_one_that_waited_in_vain(redis_url: str) -> None:
    """Its own deadline had been put off, since the loop stood still."""
    async with running_proxy(redis_url) as proxy:
        client: Any = connect(proxy.url)
        pool = client.connection_pool
        proxy.answer_delay_seconds = 30
        asking = asyncio.create_task(pool.ask([("PING",)]))
        await asyncio.sleep(0.8)
        time.sleep(0.5)  # noqa: ASYNC251 -- the loop stands still
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        async with asyncio.timeout(1):
            while not pool.breaker.is_open:  # noqa: ASYNC110 -- it tells nobody
                await asyncio.sleep(0.01)

        proxy.answer_delay_seconds = 0
        await proxy.aclose()
        await client.aclose()


async def test_b49_too_many_clients_is_no_answer(redis_url: str) -> None:
    client, guard = connect(redis_url), connect(redis_url)
    await guard.config_set("maxclients", "1")
    try:
        with pytest.raises(StateStoreUnavailable):
            await RedisCalls(client).command("PING")
        began = time.monotonic()
        with pytest.raises(StateStoreUnavailable):
            await RedisCalls(client).command("PING")
        assert time.monotonic() - began < 0.9
    finally:
        await guard.config_set("maxclients", "10000")
    await answers_again(client)
    await guard.aclose()
    await client.aclose()


async def test_b49_a_name_that_no_dns_knows_fails_fast() -> None:
    client = connect("redis://no-such-host.invalid:6379/0")
    began = time.monotonic()
    with pytest.raises(StateStoreUnavailable) as caught:
        await RedisCalls(client).command("PING")
    assert time.monotonic() - began < 3
    assert isinstance(caught.value.__cause__, RedisConnectionError)
    await client.aclose()


async def test_an_old_connection_that_is_dead_says_nothing_of_redis(redis_url: str) -> None:
    async with running_proxy(redis_url) as proxy:
        client: Any = connect(proxy.url)
        pool = client.connection_pool
        await pool.ask([("PING",)])
        await proxy.aclose()
        with pytest.raises(RedisConnectionError):
            await pool.ask([("PING",)])
        assert not pool.breaker.is_open
        assert await pool.ask([("PING",)]) == [b"PONG"]
        await client.aclose()


def test_b39_a_connection_that_was_reset_while_idle_is_not_noticed_on_the_loop_of_production() -> None:
    uvloop.run(_ask_over_a_reset_connection())


async def _ask_over_a_reset_connection() -> None:
    scripted = ScriptedRedis("")
    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        await scripted.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    pool: Any = client.connection_pool
    try:
        await RedisCalls(client).command("PING")
        _reset(served[0])
        (idle,) = pool._available_connections
        async with asyncio.timeout(5):
            while not idle._writer.transport.is_closing():  # noqa: ASYNC110 -- nothing tells
                await asyncio.sleep(0.001)

        assert await RedisCalls(client).command("PING") == b"OK"
        assert scripted.connection_count == 2
    finally:
        await client.aclose()
        await scripted.aclose()
        server.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN, as a host that came up again does."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_commands_are_packed_as_redis_py_packs_them() -> None:
    commands = [("SET", "gw:键", b"\x00\r\n$", "EX", 604_800), ("PING",), ("ZADD", "k", 1.5, "m", "")]

    assert packed(commands) == b"".join(Connection().pack_commands(commands))

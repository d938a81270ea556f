"""Every call has a deadline and one repeat; every failure is StateStoreUnavailable."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.task import PauseRequested
from gateway.store.redis_address import connect
from gateway.store.redis_calls import RedisCalls, Script
from gateway.store.redis_pool import CONNECTIONS
from gateway.store.task_store import RedisTaskStore
from tests.fakes.redis_proxy import running_proxy
from tests.fakes.redis_server import running_redis
from tests.store.conftest import TTL_SECONDS, answers_again, new_task, part


@pytest.fixture
def calls(redis: Redis) -> RedisCalls:
    return RedisCalls(redis)


async def test_a_redis_that_is_not_there_fails_at_once() -> None:
    client = connect("unix:///nowhere/redis.sock")

    began = time.monotonic()
    with pytest.raises(StateStoreUnavailable) as caught:
        await RedisCalls(client).command("PING")

    assert time.monotonic() - began < 1.5
    assert isinstance(caught.value.__cause__, Exception)
    await client.aclose()


async def test_f2_bytes_that_cos_holds_are_written_down_once_redis_answers_again() -> None:
    """While others are refused unsent, the call that follows a stored part waits."""
    with running_redis() as url:
        client = connect(url)
        store = RedisTaskStore(client, ttl_seconds=TTL_SECONDS)
        task = await store.create(new_task())
        await store.begin_part(task.id, 1, "a")
        server: Any = await client.info("server")
        os.kill(server["process_id"], signal.SIGSTOP)
        try:
            with pytest.raises(StateStoreUnavailable):
                await store.ping()
            began = time.monotonic()
            with pytest.raises(StateStoreUnavailable):
                await store.ping()
            assert time.monotonic() - began < 0.2, "refused unsent"
            storing = asyncio.create_task(store.store_part(task, part(1), attempt="a"))
            await asyncio.sleep(0.1)
            assert not storing.done()
        finally:
            os.kill(server["process_id"], signal.SIGCONT)

        assert (await storing).loaded == part(1).size
        await client.aclose()


async def test_a_redis_that_stopped_fails_every_call_within_its_budget() -> None:
    with running_redis() as url:
        client = connect(url)
        store = RedisTaskStore(client, ttl_seconds=TTL_SECONDS)
        task = await store.create(new_task())
        server: Any = await client.info("server")
        os.kill(server["process_id"], signal.SIGSTOP)
        try:
            work: list[Awaitable[object]] = [
                store.ping(), store.load(task.id), store.load_many([task.id]), store.create(new_task(2)),
                store.apply(task, PauseRequested()), store.begin_part(task.id, 1, "a"), store.parts(task.id),
                store.list_tasks("alice"),
            ]  # fmt: skip
            began = time.monotonic()
            outcomes = await asyncio.gather(*work, return_exceptions=True)
            took = time.monotonic() - began
        finally:
            os.kill(server["process_id"], signal.SIGCONT)

        assert [type(outcome) for outcome in outcomes] == [StateStoreUnavailable] * len(work)
        assert 1.9 < took < 4
        await answers_again(client)
        await client.aclose()


async def test_a_late_answer_is_never_taken_for_another_calls(redis_url: str) -> None:
    async with running_proxy(redis_url) as proxy:
        client = connect(proxy.url)
        calls = RedisCalls(client)
        await calls.command("SET", "a", "answer of a")
        await calls.command("SET", "b", "answer of b")
        proxy.answer_delay_seconds = 1.2
        with pytest.raises(StateStoreUnavailable):
            await calls.command("GET", "a")
        proxy.answer_delay_seconds = 0
        await answers_again(client)

        assert await calls.command("GET", "b") == b"answer of b"
        await client.aclose()


async def test_a_call_that_came_to_nothing_is_made_once_more(redis_url: str) -> None:
    async with running_proxy(redis_url) as proxy:
        client = connect(proxy.url)
        calls = RedisCalls(client)
        await calls.command("PING")

        proxy.swallow_count = 1
        assert await calls.command("ECHO", "a") == b"a"
        proxy.swallow_count = 9
        with pytest.raises(StateStoreUnavailable):
            await calls.command("PING")
        assert proxy.swallow_count == 7
        proxy.swallow_count = 0
        await client.aclose()


async def test_a_refusal_of_redis_is_not_repeated(redis_url: str, calls: RedisCalls) -> None:
    await calls.command("SET", "text", "x")

    with pytest.raises(StateStoreUnavailable, match="incr"):
        await calls.command("INCR", "text")
    with pytest.raises(StateStoreUnavailable):
        await calls.together("both", [("PING",), ("INCR", "text")])


async def test_more_calls_than_connections_wait_for_their_turn(redis: Redis, calls: RedisCalls) -> None:
    answers = await asyncio.gather(*(calls.command("ECHO", str(n)) for n in range(500)))

    assert answers == [str(n).encode() for n in range(500)]
    clients: Any = await redis.client_list()
    assert len(clients) <= CONNECTIONS


async def test_calls_after_a_restart_of_redis_do_not_notice_the_dead_connections(
    redis_url: str, calls: RedisCalls
) -> None:
    await asyncio.gather(*(calls.command("ECHO", str(n)) for n in range(CONNECTIONS)))
    other = connect(redis_url)
    await other.client_kill_filter(_type="normal", skipme=True)
    await other.aclose()

    for _ in range(3):
        assert await calls.command("ECHO", "one") == b"one"
    answers = await asyncio.gather(*(calls.command("ECHO", str(n)) for n in range(CONNECTIONS * 2)))
    assert answers == [str(n).encode() for n in range(CONNECTIONS * 2)]


async def test_cancelled_calls_leave_the_pool_whole(calls: RedisCalls) -> None:
    rng = random.Random(5)
    for _ in range(10):
        running = [asyncio.create_task(calls.command("ECHO", str(n))) for n in range(60)]
        for _ in range(rng.randrange(6)):
            await asyncio.sleep(0)
        for task in rng.sample(running, 40):
            task.cancel()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        for n, outcome in enumerate(outcomes):
            assert isinstance(outcome, asyncio.CancelledError) or outcome == str(n).encode()

    answers = await asyncio.gather(*(calls.command("ECHO", str(n)) for n in range(CONNECTIONS * 2)))
    assert answers == [str(n).encode() for n in range(CONNECTIONS * 2)]


async def test_an_observer_is_told_of_every_call_and_failure(redis: Redis) -> None:
    seen: list[tuple[str, float, bool]] = []
    calls = RedisCalls(redis, lambda *told: seen.append(told))

    await RedisCalls(redis).run(Script("read_hash"), ["none"], [])
    await calls.run(Script("read_hash"), ["none"], [])
    with pytest.raises(StateStoreUnavailable):
        await calls.command("NONSENSE")

    assert [(name, was_done) for name, _, was_done in seen] == [("read_hash", True), ("nonsense", False)]
    assert all(0 < seconds < 1 for _, seconds, _ in seen)


async def test_a_script_runs_where_it_is_not_loaded(redis: Any, calls: RedisCalls) -> None:
    script = Script("read_hash")
    await redis.hset("h", mapping={"a": "1"})
    work: list[Callable[[], Awaitable[Any]]] = [
        lambda: calls.run(script, ["h"], []),
        lambda: calls.run_each(script, [(["h"], []), (["h"], [])]),
    ]
    for one, expected in zip(work, [b'["a","1"]', [b'["a","1"]'] * 2], strict=True):
        await redis.script_flush()
        assert await one() == expected
        assert await redis.script_exists(script.sha) == [True]

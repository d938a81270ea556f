"""Changes reach every process, coalesced; a lost connection is remade and admitted."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.task import TaskId
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_address import connect
from gateway.store.redis_keys import CONTROL_CHANNEL, progress_channel
from gateway.store.redis_pool import CALL_SECONDS
from tests.fakes.redis_server import running_redis


@pytest.fixture
async def bus(redis: Redis) -> AsyncIterator[RedisProgressBus]:
    running = RedisProgressBus(redis)
    await running.start()
    yield running
    await running.aclose()


async def _publish(redis: Any, owner: str, message: str) -> None:
    await redis.publish(progress_channel(owner), message)


async def _channels(redis: Any) -> set[bytes]:
    return set(await redis.execute_command("PUBSUB", "CHANNELS"))


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await condition():  # noqa: ASYNC110 -- it is Redis that changes
            await asyncio.sleep(0.01)


async def test_one_connection_serves_every_watcher(redis: Redis, bus: RedisProgressBus) -> None:
    async with bus.watch_owner("alice") as one, bus.watch_owner("alice") as two, bus.watch_owner("bob") as bobs:
        await _publish(redis, "alice", "a 1")
        assert (await one.next(1), await two.next(1)) == ({"a": 1}, {"a": 1})
        assert await bobs.next(0.05) is None
        clients: Any = await redis.client_list(_type="pubsub")
        assert len(clients) == 1


async def test_a_channel_is_subscribed_only_while_someone_watches(redis: Redis, bus: RedisProgressBus) -> None:
    assert await _channels(redis) == set()
    async with bus.watch_owner("alice"):
        async with bus.watch_owner("alice"), bus.watch_control():
            assert await _channels(redis) == {progress_channel("alice").encode(), CONTROL_CHANNEL.encode()}
        await _until(lambda: _is(redis, {progress_channel("alice").encode()}))
    await _until(lambda: _is(redis, set()))
    async with bus.watch_owner("alice") as feed:
        await _publish(redis, "alice", "a 1")
        assert await feed.next(10) == {"a": 1}


async def _is(redis: Any, channels: set[bytes]) -> bool:
    return await _channels(redis) == channels


async def test_watchers_that_come_and_go_quickly_miss_nothing(redis: Redis, bus: RedisProgressBus) -> None:
    async def watch(number: int) -> None:
        for turn in range(30):
            async with bus.watch_owner(f"owner {number % 3}") as feed:
                await _publish(redis, f"owner {number % 3}", f"{number}-{turn} 1")
                seen: dict[TaskId, int] = {}
                while f"{number}-{turn}" not in seen:
                    changed = await feed.next(1)
                    assert changed
                    seen.update(changed)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(watch(number))


async def test_a_killed_connection_is_remade_within_two_seconds_and_admitted(
    redis: Redis, bus: RedisProgressBus
) -> None:
    async with bus.watch_owner("alice") as alices, bus.watch_owner("bob") as bobs, bus.watch_control() as control:
        for _ in range(3):
            await _publish(redis, "alice", "unread 1")
            killed_at = time.monotonic()
            await redis.client_kill_filter(_type="pubsub", skipme=True)

            while (changed := await alices.next(10)) != {}:
                assert changed == {"unread": 1}
            assert await bobs.next(10) == {}
            assert time.monotonic() - killed_at < 2
            await _publish(redis, "alice", "a 7")
            assert await alices.next(10) == {"a": 7}
            await redis.publish(CONTROL_CHANNEL, "b")
            assert await anext(control) == "b"


async def test_a_watcher_who_comes_while_redis_is_away_is_told_once_it_is_back() -> None:
    client = connect("unix:///nowhere/redis.sock")
    bus = RedisProgressBus(client)
    await bus.start()
    began = time.monotonic()

    async with bus.watch_owner("alice") as feed:
        assert time.monotonic() - began < 3 * CALL_SECONDS
        assert await feed.next(0.01) is None
        with running_redis() as url:
            bus._pool.connection_kwargs["path"] = url.removeprefix("unix://")
            assert await feed.next(10) == {}
            await bus.aclose()
    await client.aclose()


async def test_a_redis_that_falls_silent_is_left() -> None:
    with running_redis() as url:
        client = connect(url)
        bus = RedisProgressBus(client, ping_seconds=0.1, silence_seconds=0.4)
        await bus.start()
        async with bus.watch_owner("alice") as feed:
            server: Any = await client.info("server")
            assert await feed.next(1) is None  # PING is answered, so nothing is lost
            os.kill(server["process_id"], signal.SIGSTOP)
            try:
                await _until(lambda: _unsubscribed(bus))
            finally:
                os.kill(server["process_id"], signal.SIGCONT)
            assert await feed.next(10) == {}
        await bus.aclose()
        await client.aclose()


async def _unsubscribed(bus: RedisProgressBus) -> bool:
    return not any(channel.confirmed.is_set() for channel in bus._channels.values())


async def test_closing_ends_everything_and_may_come_first(redis: Redis) -> None:
    before = asyncio.all_tasks()
    bus = RedisProgressBus(redis)
    await bus.aclose()
    for rounds in range(20):
        await bus.start()
        for _ in range(rounds):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await bus.aclose()

    assert asyncio.all_tasks() == before

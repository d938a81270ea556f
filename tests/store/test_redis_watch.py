"""What is wrong with a Redis is said in one line, once; what it evicts is counted."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.domain.errors import StateStoreUnavailable
from gateway.store.ledgers import LEAST_SHARE_BYTES, Shares
from gateway.store.redis_address import connect
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_watch import RedisWatch, memory_share, shortcomings
from tests.fakes.redis_server import running_redis, send_command
from tests.fakes.scripted_redis import running_script

GOOD = {
    "redis_version": "6.2.14",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "cluster_enabled": "0",
    "role": "master",
}
WRONG = [
    ({"redis_version": "6.0.16"}, "its version is 6.0.16, expected 6.2 or newer"),
    ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru, expected noeviction"),
    ({"aof_enabled": "0"}, "appendonly is off"),
    ({"cluster_enabled": "1"}, "it is a node of a cluster"),
    ({"role": "slave"}, "it is a replica"),
]


@asynccontextmanager
async def watching(url: str, evicted: list[int]) -> AsyncIterator[None]:
    client = connect(url)
    running = asyncio.create_task(RedisWatch(client, evicted.append, look_seconds=0.02).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        await client.aclose()


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in caplog.text:  # noqa: ASYNC110 -- logging tells no event
            await asyncio.sleep(0.01)


async def test_a_server_is_down_from_the_call_that_it_did_not_answer_until_it_answers() -> None:
    with running_redis() as url:
        client = connect(url)
        watch = RedisWatch(client, lambda _: None)
        assert watch.servers_down() == 0
        await RedisCalls(client).command("PING")
        assert watch.servers_down() == 0
    with pytest.raises(StateStoreUnavailable):
        await RedisCalls(client).command("PING")

    assert watch.servers_down() == 1
    await client.aclose()


@pytest.mark.parametrize(("facts", "expected"), WRONG)
def test_each_shortcoming_is_named(facts: dict[str, str], expected: str) -> None:
    (said,) = shortcomings(GOOD | facts, is_cluster=False)
    assert said.startswith(expected)


def test_nothing_is_said_of_a_good_one() -> None:
    assert list(shortcomings(GOOD, is_cluster=False)) == []
    assert list(shortcomings(GOOD | {"redis_version": "7.4.1", "cluster_enabled": "1"}, is_cluster=True)) == []
    assert list(shortcomings(GOOD | {"redis_version": "10.0"}, is_cluster=False)) == []


async def test_b48_an_evicting_redis_is_warned_about_and_its_evictions_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    evicted: list[int] = []
    with running_redis(None, "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as url:
        async with watching(url, evicted):
            await until_logged(caplog, "not set up as it should be")
            for number in range(400):
                await asyncio.to_thread(send_command, url, "SET", f"k{number}", "x" * 10_000)
            async with asyncio.timeout(3):
                while not evicted:  # noqa: ASYNC110 -- the watch looks every 20 ms
                    await asyncio.sleep(0.01)

    (warning,) = [record.getMessage() for record in caplog.records if "set up" in record.getMessage()]
    assert "maxmemory-policy is allkeys-lru, expected noeviction" in warning
    assert "appendonly is off" in warning
    assert sum(evicted) > 0


async def test_one_that_is_not_there_yet_is_looked_at_once_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async with running_script() as scripted:
        scripted.replies.extend([b"-LOADING Redis is loading the dataset in memory\r\n"] * 2)
        scripted.replies.append(b"$22\r\nredis_version:5.0.14\r\n\r\n")
        async with watching(scripted.url, []):
            await until_logged(caplog, "its version is 5.0.14")


async def test_what_an_acl_forbids_to_ask_is_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    async with running_script() as scripted:
        scripted.replies.extend([b"-NOPERM this user has no permissions to run the 'info' command\r\n"] * 3)
        async with watching(scripted.url, []), asyncio.timeout(3):
            while len(scripted.asked) < 3:  # noqa: ASYNC110 -- the watch looks every 20 ms
                await asyncio.sleep(0.01)
    assert "set up" not in caplog.text


async def test_f12_how_full_redis_is_shows_and_bounds_what_an_owner_may_have() -> None:
    with running_redis(None, "--maxmemory", "64mb") as url:
        client, shares = connect(url), Shares()
        watch = RedisWatch(client, lambda _: None, shares, look_seconds=0.01)
        running = asyncio.create_task(watch.run())

        async with asyncio.timeout(10):
            while not 0 < watch.memory_share() < 0.5:  # noqa: ASYNC110 -- INFO tells no event
                await asyncio.sleep(0.01)
            assert (watch.state(), shares.ended) == ("ok", 4 * 1024 * 1024)
            send_command(url, "CONFIG", "SET", "maxmemory", "1")
            while watch.state() != "full":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert shares.ended == LEAST_SHARE_BYTES

        running.cancel()
        await asyncio.wait([running])
        await client.aclose()


@pytest.mark.parametrize(("facts", "share"), [({}, 0), ({"maxmemory": "0"}, 0), ({"maxmemory": "8"}, 0.25)])
def test_f12_a_server_without_a_limit_is_never_full(facts: dict[str, str], share: float) -> None:
    assert memory_share({"used_memory": "2"} | facts) == share

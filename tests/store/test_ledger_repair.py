"""A ledger that Redis lost lists again what there is, and strikes off what is gone."""

from typing import Any

from redis.asyncio import Redis

from gateway.domain.task import CancelRequested
from gateway.store.redis_keys import ALL_TAILS, ledger_keys, owner_key, task_keys
from gateway.store.task_index import YOUNG_SECONDS
from gateway.store.task_store import RedisTaskStore
from tests.store.conftest import START, TTL_SECONDS, TurnedClock, new_task

KEYS = ledger_keys(owner_key("alice"))


async def ledgers(redis: Redis) -> dict[str, dict[Any, Any]]:
    listed: dict[str, Any] = {key: await redis.zrange(key, 0, -1, withscores=True) for key in (*KEYS, ALL_TAILS)}
    return {key: dict(names) for key, names in listed.items()}


async def test_s5_a_lost_ledger_is_what_it_was_after_the_next_walk(redis: Redis, clock: TurnedClock) -> None:
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)
    clock.now = START + 10
    for number in range(1, 4):
        task = await store.restore(new_task(number), ())
    await store.apply(task, CancelRequested())
    clock.now += 1
    claim = await store.begin_content(new_task(1).id, 0, None)
    await store.keep_tail(claim.task, b"tail" * 1000)
    before = await ledgers(redis)
    for key in before:
        await redis.delete(key)

    await store.repair.page(None, 100)

    after = await ledgers(redis)
    assert {key: set(names) for key, names in after.items()} == {key: set(names) for key, names in before.items()}
    assert {key: names[b""] for key, names in after.items()} == {key: names[b""] for key, names in before.items()}
    assert len(after[KEYS.open]) == 3


async def test_s5_a_task_that_is_gone_counts_no_longer(redis: Redis, clock: TurnedClock) -> None:
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)
    await store.restore(new_task(1), ())
    await redis.delete(task_keys(new_task(1).id).task)
    clock.now = START + 10 + YOUNG_SECONDS

    await store.repair.page(None, 100)

    assert await redis.zrange(KEYS.open, 1, -1) == []

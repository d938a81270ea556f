"""A ledger of unfinished tasks that is full lists no more than there are."""

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import QuotaExceeded
from gateway.store.ledgers import Ledgers, Shares
from gateway.store.open_tasks import FULL_SECONDS, OpenTasks
from gateway.store.part_room import PartRoom
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import task_keys
from gateway.store.task_store import RedisTaskStore
from tests.store.conftest import START, TTL_SECONDS, TurnedClock, new_task


async def test_s5_what_ends_makes_room_for_parts(redis: Redis, clock: TurnedClock) -> None:
    seconds = [0.0]
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)
    shares = Shares(256 * 1024, tasks=64)
    ledgers, redis_calls = Ledgers(shares, TTL_SECONDS, clock), RedisCalls(redis)
    open_tasks = OpenTasks(redis_calls, ledgers, store.load_many, clock=clock, monotonic=lambda: seconds[0])
    room = PartRoom(open_tasks, shares)
    full = await store.create(new_task(1, size=None))
    await room.require(full, 1000)
    other = new_task(2, size=None)
    with pytest.raises(QuotaExceeded):
        await room.require(other, 1000)

    await redis.delete(task_keys(full.id).task)  # without a word to the ledger
    clock.now = START + 3600
    with pytest.raises(QuotaExceeded):
        await room.require(other, 1000)
    seconds[0] += FULL_SECONDS

    await room.require(other, 1000)

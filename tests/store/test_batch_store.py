"""Batches in a real Redis, and the slots in which their files move."""

import pytest
from redis.asyncio import Redis

from gateway.domain.batch import Batch, BatchFile, BatchId
from gateway.domain.errors import CosAnswer, IdempotencyConflict, InvalidKey, StorageUnavailable
from gateway.domain.task import TaskError, TaskId
from gateway.store.batch_store import SLOT_IDLE_SECONDS, RedisBatchStore
from gateway.store.redis_keys import batch_keys
from gateway.transfer.ports import Idempotency
from tests.store.conftest import START, TTL_SECONDS, TurnedClock

ID = BatchId("b1")
A, B, C, D = (TaskId(name) for name in "abcd")


@pytest.fixture
def batches(redis: Redis, clock: TurnedClock) -> RedisBatchStore:
    return RedisBatchStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)


def batch_of(limit: int = 2) -> Batch:
    denied = StorageUnavailable("COS answered 503", cos=CosAnswer(503, "SlowDown", "r1"))
    files = (BatchFile(A), BatchFile(None, TaskError.of(InvalidKey("1 byte"))), BatchFile(None, TaskError.of(denied)))
    return Batch(ID, "阿丽丝", limit, START, files)


async def test_a_batch_comes_back_as_it_was_saved(batches: RedisBatchStore) -> None:
    await batches.save(batch_of())

    assert await batches.load(ID) == batch_of()
    assert await batches.load(BatchId("other")) is None


async def test_a_batch_lives_as_long_as_it_is_looked_at(batches: RedisBatchStore, redis: Redis) -> None:
    await batches.save(batch_of())
    await redis.expire(batch_keys(ID).batch, 5)
    await batches.load(ID)

    assert await redis.ttl(batch_keys(ID).batch) > 5


async def test_an_idempotency_key_stands_for_the_first_batch(batches: RedisBatchStore) -> None:
    asked = Idempotency("key", "digest")

    assert await batches.claim("alice", ID, asked) == ID
    assert await batches.claim("alice", BatchId("b2"), asked) == ID
    assert await batches.claim("bob", BatchId("b2"), asked) == "b2"
    with pytest.raises(IdempotencyConflict):
        await batches.claim("alice", BatchId("b3"), Idempotency("key", "another"))


async def test_so_many_files_as_the_limit_says_have_a_slot(batches: RedisBatchStore) -> None:
    await batches.save(batch_of(limit=2))

    assert [await batches.take_slot(ID, task_id) for task_id in (A, B, A)] == [[], [], []]
    assert sorted(await batches.take_slot(ID, C)) == [A, B]
    await batches.free_slots(ID, [A, D])
    assert await batches.take_slot(ID, C) == []
    assert sorted(await batches.take_slot(ID, A)) == [B, C]


async def test_an_idle_file_gives_its_slot_to_another(batches: RedisBatchStore, clock: TurnedClock) -> None:
    await batches.save(batch_of(limit=1))
    await batches.take_slot(ID, A)
    clock.now += SLOT_IDLE_SECONDS - 0.5
    assert await batches.take_slot(ID, B) == [A]

    clock.now += 1
    assert await batches.take_slot(ID, B) == []


async def test_a_body_that_flows_keeps_its_slot_and_gains_none(batches: RedisBatchStore, clock: TurnedClock) -> None:
    await batches.save(batch_of(limit=1))
    await batches.take_slot(ID, A)
    for _ in range(3):
        clock.now += SLOT_IDLE_SECONDS - 1
        await batches.renew_slots([(ID, A), (ID, B)])

    assert await batches.take_slot(ID, B) == [A]


async def test_a_batch_that_redis_lost_stops_nobody(batches: RedisBatchStore) -> None:
    assert [await batches.take_slot(ID, task_id) for task_id in (A, B, C)] == [[], [], []]

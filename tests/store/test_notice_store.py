from redis.asyncio import Redis

from gateway.domain.errors import StorageDenied
from gateway.domain.task import CancelRequested, Failed, RestartRequested, TaskError, TaskId
from gateway.store.duties import NOTICES_MOST
from gateway.store.ledgers import TASK_BYTES, UNIT_BYTES
from gateway.store.redis_keys import ledger_keys, owner_key, task_keys
from gateway.store.task_store import RedisTaskStore
from tests.store.conftest import TTL_SECONDS, TurnedClock, new_task


async def test_a_task_that_is_gone_has_no_notices(redis_store: RedisTaskStore) -> None:
    assert await redis_store.notices.pending(TaskId("gone")) == []
    await redis_store.notices.forget(TaskId("gone"), "evt_1")


async def test_another_process_finds_what_one_stored(redis: Redis, clock: TurnedClock) -> None:
    task = new_task()
    stores = [
        RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock, announced=frozenset({task.at.bucket}))
        for _ in range(2)
    ]
    await stores[0].apply(await stores[0].create(task), CancelRequested())
    clock.now += 3600

    assert await stores[1].notices.due.take(clock.now, clock.now + 10, 10) == [task.id]
    (notice,) = await stores[1].notices.pending(task.id)
    assert (notice.task.at, notice.task.owner, notice.task.version) == (task.at, "alice", 2)


async def test_s5_a_task_that_fails_again_and_again_keeps_the_latest_notices_which_count(
    redis: Redis, clock: TurnedClock
) -> None:
    """Its receiver is away."""
    task = new_task(object_headers={"x-cos-acl": "private"})
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock, announced=frozenset({task.at.bucket}))
    task = await store.restore(task, ())
    for _ in range(10):
        clock.now += 1
        failed = await store.apply(task, Failed(TaskError.of(StorageDenied("COS said no."))))
        task = await store.apply(failed, RestartRequested())

    pending = await store.notices.pending(task.id)

    assert [notice.at for notice in pending] == [clock.now - age for age in range(NOTICES_MOST - 1, -1, -1)]
    assert pending[-1].task.object_headers == {}
    [weight] = await redis.zmscore(ledger_keys(owner_key("alice")).open, [""])
    kept = sum(len(text) for name, text in (await redis.hgetall(task_keys(task.id).task)).items() if b"notice" in name)
    assert -float(weight or 0) * UNIT_BYTES >= TASK_BYTES + kept

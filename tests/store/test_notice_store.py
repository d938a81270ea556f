from redis.asyncio import Redis

from gateway.domain.task import CancelRequested, TaskId
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

from redis.asyncio import Redis

from gateway.domain.task import CancelRequested
from gateway.store.redis_keys import EVERY_OWNER, owner_index, owner_key, task_keys
from gateway.store.task_index import YOUNG_SECONDS
from gateway.store.task_store import RedisTaskStore
from tests.store.conftest import START, TTL_SECONDS, TurnedClock, new_task


async def _mend(store: RedisTaskStore, limit: int = 100) -> int:
    cursor, pages = await store.repair.page(None, limit), 1
    while cursor is not None:
        cursor, pages = await store.repair.page(cursor, limit), pages + 1
    return pages


async def test_entries_whose_task_is_gone_go_from_every_index(redis: Redis, clock: TurnedClock) -> None:
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)
    tasks = [await store.create(new_task(number)) for number in range(1, 8)]
    for task in tasks[::2]:
        await redis.delete(task_keys(task.id).task)
    clock.now = START + 10 + YOUNG_SECONDS

    assert await _mend(store, limit=2) == 4

    for index in (EVERY_OWNER, owner_index(owner_key("alice"))):
        assert await redis.zcard(index) == 3


async def test_an_entry_just_made_is_left_alone(redis: Redis, clock: TurnedClock) -> None:
    """Its task may be about to be written."""
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)
    task = await store.create(new_task())
    await redis.delete(task_keys(task.id).task)
    clock.now = START + YOUNG_SECONDS / 2

    await _mend(store)

    assert await redis.zcard(EVERY_OWNER) == 1


async def test_b41_tasks_that_their_owners_index_lost_are_listed_again(redis: Redis, clock: TurnedClock) -> None:
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)
    tasks = [await store.create(new_task(number)) for number in range(1, 8)]
    await redis.delete(owner_index(owner_key("alice")))
    assert (await store.list_tasks("alice")).tasks == ()

    await _mend(store, limit=3)

    assert (await store.list_tasks("alice")).tasks == tuple(reversed(tasks))


async def test_open_intents_and_notices_that_are_not_listed_are_listed_again(redis: Redis, clock: TurnedClock) -> None:
    task = new_task()
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock, announced=frozenset({task.at.bucket}))
    await store.apply(await store.create(task), CancelRequested())
    await store.create(new_task(2))
    for key in await redis.keys("gw:due:*"):
        await redis.delete(key)

    await _mend(store)

    clock.now += 3600
    assert await store.intents.take(clock.now, clock.now + 60, 10) == [task.id]
    assert await store.notices.due.take(clock.now, clock.now + 60, 10) == [task.id]


async def test_an_empty_index_is_one_page(redis_store: RedisTaskStore) -> None:
    assert await redis_store.repair.page(None, 10) is None

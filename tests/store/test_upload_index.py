"""Which uploads an owner has open: never fewer than there are, and few of those that are gone."""

import pytest
from redis.asyncio import Redis

from gateway.domain.objects import Bucket, ObjectAddress, UploadId
from gateway.domain.task import CancelRequested, Task, UploadOpened
from gateway.store.redis_keys import owner_key, task_keys, upload_key, uploads_index
from gateway.store.task_store import RedisTaskStore
from gateway.store.upload_index import GROWN, LOOKED_AT, UNKNOWN, WHOLE_SECONDS
from tests.store.conftest import TTL_SECONDS, TurnedClock, new_task

BUCKET = new_task().at.bucket
INDEX = uploads_index(owner_key("alice"), BUCKET.name)


async def opened(store: RedisTaskStore, number: int, key: str = "") -> Task:
    at = ObjectAddress(BUCKET, key or f"films/{number:04}")
    draft = new_task(number, upload_id=None, at=at)
    return await store.apply(await store.create(draft), UploadOpened(UploadId(f"upload {number}")))


async def expire(redis: Redis, *tasks: Task) -> None:
    for task in tasks:
        assert task.upload_id is not None
        await redis.delete(*task_keys(task.id), upload_key(task.upload_id))


async def first(store: RedisTaskStore, prefix: str = "", after: str = "") -> str | None:
    return await store.next_upload("alice", BUCKET, prefix, after)


@pytest.mark.parametrize("what", ["all of it", "an entry", "the mark"])
async def test_s11_no_upload_is_hidden_by_an_index_that_lacks_it(
    redis: Redis, redis_store: RedisTaskStore, clock: TurnedClock, what: str
) -> None:
    """As one that an older version opened, or that Redis lost."""
    for number in range(LOOKED_AT + 5):
        await opened(redis_store, number)
    assert await first(redis_store) == "films/0000"

    if what == "all of it":
        await redis.delete(INDEX)
    elif what == "an entry":
        await redis.zremrangebylex(INDEX, "[films/0000", "(films/0001")
        clock.now += WHOLE_SECONDS
    else:
        await redis.zremrangebylex(INDEX, "-", "(films/0001")

    found, after = [], ""
    while (key := await first(redis_store, after=after)) is not None:
        found.append(after := key)
    assert found == [f"films/{number:04}" for number in range(LOOKED_AT + 5)]


async def test_s11_an_index_that_is_whole_asks_no_task(redis: Redis, redis_store: RedisTaskStore) -> None:
    await opened(redis_store, 1)
    await first(redis_store)
    await redis.config_resetstat()

    assert await first(redis_store) == "films/0001"

    commands = await redis.info("commandstats")
    assert "cmdstat_hmget" not in commands
    assert commands["cmdstat_exists"]["calls"] == 1


async def test_s11_an_owner_with_too_many_tasks_to_look_at_is_told_so(
    redis_store: RedisTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.upload_index.TASKS_MOST", 1)
    await opened(redis_store, 1)
    assert await first(redis_store) == "films/0001"
    await opened(redis_store, 2)

    assert await redis_store.next_upload("alice", Bucket("other-1250000000", "ap-guangzhou"), "", "") == UNKNOWN


async def test_s5_what_expired_is_struck_off_as_it_is_read(redis: Redis, redis_store: RedisTaskStore) -> None:
    tasks = [await opened(redis_store, number) for number in range(250)]
    await first(redis_store)
    await expire(redis, *tasks[:249])

    assert await first(redis_store) == "films/0249"
    assert await first(redis_store, prefix="films/0249") == "films/0249"
    assert await first(redis_store, prefix="gone/") is None

    assert await redis.zcard(INDEX) == 2  # with the mark
    assert await first(redis_store, after="films/0249") is None


async def test_s5_the_index_of_an_active_owner_does_not_keep_what_expired(
    redis: Redis, redis_store: RedisTaskStore
) -> None:
    """Nobody reads it, and it never ends by itself."""
    numbers = range(16 * GROWN)
    for number in numbers:
        task = await opened(redis_store, number)
        if number % 10:
            await expire(redis, task)
        elif number % 20:
            await redis_store.apply(task, CancelRequested())

    living = len(numbers[::20])
    assert living <= await redis.zcard(INDEX) < 2 * living + GROWN
    assert 0 < await redis.ttl(INDEX) <= TTL_SECONDS
    for number in numbers[::20]:
        assert await redis.zlexcount(INDEX, f"[films/{number:04}", f"(films/{number:04}\1") == 1


async def test_s5_a_task_leaves_its_upload_whichever_way_it_ends(redis: Redis, redis_store: RedisTaskStore) -> None:
    kept, canceled = await opened(redis_store, 1), await opened(redis_store, 2)
    other = await redis_store.apply(kept, UploadOpened(UploadId("another")))
    await redis_store.apply(canceled, CancelRequested())

    assert await redis.zrange(INDEX, 0, -1) == [f"films/0001\0{other.upload_id}".encode()]

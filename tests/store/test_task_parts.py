"""The key of a task's parts vanishes and the task does not: COS tells them, or they count no longer."""

from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import OffsetMismatch
from gateway.domain.objects import StoredPart
from gateway.domain.task import CancelRequested, Task
from gateway.store.redis_keys import task_keys
from gateway.store.task_parts import restored_records
from gateway.store.task_store import RedisTaskStore
from tests.store.conftest import TTL_SECONDS, new_task, part


async def _words(redis: Any, *words: str) -> Any:
    return await redis.execute_command(*words)


async def _without_parts(redis: Redis, store: RedisTaskStore) -> Task:
    """A task that counts three parts whose key has vanished."""
    task = await store.create(new_task())
    for number in (1, 2, 3):
        await store.begin_part(task.id, number, "a")
        task = await store.store_part(task, part(number), attempt="a")
    await store.begin_part(task.id, 2, "underway")
    await _words(redis, "DEL", task_keys(task.id).parts)
    return task


async def test_where_nobody_can_tell_parts_that_vanish_count_no_longer(
    redis: Redis, redis_store: RedisTaskStore
) -> None:
    task = await _without_parts(redis, redis_store)

    task = await redis_store.store_part(task, part(2), attempt="underway")

    assert (task.loaded, task.stored_count, task.contiguous_count, task.next_offset) == (1000, 1, 0, 0)


def _asking_cos(redis: Redis, *held: StoredPart) -> RedisTaskStore:
    """A store that is told what COS holds."""

    async def tell(task: Task) -> list[StoredPart]:
        assert task.upload_id is not None
        return list(held)

    return RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, held=tell)


@pytest.mark.promise(2)
@pytest.mark.parametrize("call", ["begin", "store", "parts"])
async def test_b41_parts_whose_key_vanishes_are_filled_in_from_cos(
    redis: Redis, redis_store: RedisTaskStore, call: str
) -> None:
    task = await _without_parts(redis, redis_store)
    store = _asking_cos(redis, part(1), part(2), part(3), part(5))

    if call == "begin":
        assert (await store.begin_part(task.id, 2, "b")).stored == part(2)
    elif call == "store":
        await store.store_part(task, part(2), attempt="underway")
    assert [one.number for one in await store.parts(task.id)] == [1, 2, 3, 5]

    now = await store.load(task.id)
    assert now is not None
    assert (now.loaded, now.stored_count, now.contiguous_count, now.next_offset) == (4000, 4, 3, 3000)
    assert now.version > task.version


async def test_b41_a_sequential_body_goes_on_behind_the_parts_that_cos_holds(redis: Redis) -> None:
    store = _asking_cos(redis, part(1), part(2))
    claim = await store.begin_content((await store.create(new_task())).id, 0, None)
    await store.store_content_part(claim.task, part(1))
    task = await store.store_content_part(claim.task, part(2))
    await store.keep_tail(task, b"tail")
    await _words(redis, "DEL", task_keys(claim.task.id).parts)

    with pytest.raises(OffsetMismatch) as caught:
        await store.begin_content(claim.task.id, 2004, None)
    assert caught.value.facts == {"next_offset": 2000}
    again = await store.begin_content(claim.task.id, 2000, None)
    await _words(redis, "DEL", task_keys(claim.task.id).parts)
    assert (await store.store_content_part(again.task, part(3))).next_offset == 3000
    assert await store.parts(claim.task.id) == [part(1), part(2), part(3)]


async def test_b41_parts_that_are_back_while_cos_is_asked_are_left_as_they_are(
    redis: Redis, redis_store: RedisTaskStore
) -> None:
    task = await _without_parts(redis, redis_store)
    elsewhere, newer = _asking_cos(redis, part(1), part(2), part(3)), part(2, etag='"newer"')

    async def tell(task: Task) -> list[StoredPart]:
        await elsewhere.parts(task.id)
        await elsewhere.store_part(task, newer, attempt="underway")
        return [part(1), part(2), part(3)]

    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, held=tell)

    assert await store.parts(task.id) == [part(1), newer, part(3)]


async def test_a_canceled_task_has_no_parts_to_fill_in(redis: Redis) -> None:
    store = _asking_cos(redis, part(1))
    task = await store.create(new_task())
    await store.begin_part(task.id, 1, "a")
    task = await store.apply(await store.store_part(task, part(1), attempt="a"), CancelRequested())

    assert await store.parts(task.id) == []
    assert (await store.begin_part(task.id, 1, "b")).stored is None


async def test_ten_thousand_parts_are_filled_in_at_once(redis: Redis) -> None:
    everything = [part(number) for number in range(1, 10_001)]
    store = _asking_cos(redis, *everything)
    task = await store.create(new_task(size=None))
    await store.begin_part(task.id, 1, "a")
    await store.store_part(task, part(1), attempt="a")
    await _words(redis, "DEL", task_keys(task.id).parts)

    assert await store.parts(task.id) == everything


def test_records_are_cut_into_runs_that_lua_can_unpack() -> None:
    assert restored_records([]) == "[]"
    assert restored_records([part(number) for number in range(1, 1002)]).count("]") == 3

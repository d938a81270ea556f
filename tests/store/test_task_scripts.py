"""What only a real Redis can show: lost answers, lost scripts, lost keys, lifetimes and what each part costs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import BodySuperseded, OffsetMismatch, TaskNotFound
from gateway.domain.task import CancelRequested, PauseRequested, RestartRequested, Task, TaskId, TaskState
from gateway.store.redis_address import connect
from gateway.store.redis_calls import Script
from gateway.store.redis_keys import EVERY_OWNER, owner_index, owner_key, task_keys
from gateway.store.redis_pool import CALL_SECONDS
from gateway.store.task_index import member_of
from gateway.store.task_store import TOMBSTONE_SECONDS, RedisTaskStore
from gateway.transfer.ports import Idempotency
from tests.fakes.redis_proxy import RedisProxy, running_proxy
from tests.fakes.redis_server import running_redis
from tests.store.conftest import TTL_SECONDS, TurnedClock, new_task, part

Work = Callable[[], Awaitable[Any]]


async def _words(redis: Any, *words: str | int) -> Any:
    return await redis.execute_command(*words)


# --- the answer is lost after Redis did the work ---


@pytest.fixture
async def proxy(redis: Redis, redis_url: str) -> AsyncIterator[RedisProxy]:
    """A proxy before a Redis that has every script, so that the answers it swallows are those of work done."""
    for file in (files("gateway.store") / "scripts").iterdir():
        if file.name != "_shared.lua":
            script = Script(file.name.removesuffix(".lua"))
            assert await _words(redis, "SCRIPT", "LOAD", script.source) == script.sha.encode()
    async with running_proxy(redis_url) as running:
        yield running


@pytest.fixture
async def lossy_store(proxy: RedisProxy, clock: TurnedClock) -> AsyncIterator[RedisTaskStore]:
    """A store that reaches Redis through the proxy."""
    client = connect(proxy.url)
    yield RedisTaskStore(client, ttl_seconds=TTL_SECONDS, clock=clock)
    await client.aclose()


async def _after_a_lost_answer(proxy: RedisProxy, store: RedisTaskStore, work: Work) -> Any:
    await store.ping()
    proxy.swallow_count = 1
    done = await work()
    assert proxy.swallow_count == 0
    return done


async def test_b45_what_was_done_before_the_answer_was_lost_is_not_done_twice(
    proxy: RedisProxy, lossy_store: RedisTaskStore
) -> None:
    store = lossy_store

    async def lossy(work: Work) -> Any:
        return await _after_a_lost_answer(proxy, store, work)

    parts = await lossy(lambda: store.create(new_task(1), Idempotency("key", "digest")))
    claim = await lossy(lambda: store.begin_part(parts.id, 1, "a"))
    assert not claim.contested
    parts = await lossy(lambda: store.store_part(parts, part(1), attempt="a"))
    assert (parts.version, parts.loaded, parts.stored_count) == (2, 1000, 1)
    parts = await lossy(lambda: store.apply(parts, PauseRequested()))
    assert (parts.version, await store.load(parts.id)) == (3, parts)
    parts = await lossy(lambda: store.forget_parts(parts, [1]))
    assert (parts.version, parts.loaded) == (4, 0)

    content = await lossy(lambda: store.create(new_task(2)))
    claim = await lossy(lambda: store.begin_content(content.id, 0, None))
    assert (claim.task.writer, claim.task.version) == (1, 2)
    content = await lossy(lambda: store.store_content_part(claim.task, part(1)))
    assert (content.version, content.loaded) == (3, 1000)
    content = await lossy(lambda: store.keep_tail(content, b"tail"))
    assert (content.version, content.loaded) == (4, 1004)
    await lossy(lambda: store.list_tasks("alice"))


async def test_b45_an_answer_later_than_the_deadline_leaves_one_part_and_one_version(
    proxy: RedisProxy, redis_store: RedisTaskStore
) -> None:
    """It was carried out and nobody heard: the repetition finds it done."""
    client = connect(proxy.url)
    there = RedisTaskStore(client, ttl_seconds=TTL_SECONDS)
    task = await there.create(new_task())
    await there.begin_part(task.id, 1, "a")
    proxy.answer_delay_seconds = CALL_SECONDS + 0.2
    storing = asyncio.create_task(there.store_part(task, part(1), attempt="a"))
    while (await _loaded(redis_store, task.id)).version == task.version:  # noqa: ASYNC110 -- Redis tells no event
        await asyncio.sleep(0.01)
    proxy.answer_delay_seconds = 0

    stored = await storing
    assert (stored.version, stored.stored_count, stored.loaded) == (task.version + 1, 1, 1000)
    await client.aclose()


async def _loaded(store: RedisTaskStore, task_id: TaskId) -> Task:
    task = await store.load(task_id)
    assert task is not None
    return task


async def test_a_change_whose_answer_was_lost_tells_its_own_version_after_others_came(
    redis_store: RedisTaskStore, proxy: RedisProxy, lossy_store: RedisTaskStore
) -> None:
    task = await redis_store.create(new_task())
    proxy.meanwhile = lambda: redis_store.apply(task, RestartRequested())

    work = lossy_store.apply(task, PauseRequested(), expected_version=1)
    paused = await _after_a_lost_answer(proxy, lossy_store, lambda: work)

    assert (paused.state, paused.version) == (TaskState.PAUSED, 2)
    assert (await redis_store.load(task.id) or task).version == 3


async def test_a_part_that_came_again_meanwhile_is_not_forgotten_by_a_repetition(
    redis_store: RedisTaskStore, proxy: RedisProxy, lossy_store: RedisTaskStore
) -> None:
    task = await redis_store.create(new_task())

    async def sent(attempt: str) -> None:
        await redis_store.begin_part(task.id, 1, attempt)
        await redis_store.store_part(task, part(1), attempt=attempt)

    await sent("first")
    proxy.meanwhile = lambda: sent("again")
    await _after_a_lost_answer(proxy, lossy_store, lambda: lossy_store.forget_parts(task, [1]))

    assert await redis_store.parts(task.id) == [part(1)]


async def test_the_last_sixteen_changes_are_remembered_and_no_more(redis: Redis, redis_store: RedisTaskStore) -> None:
    task = await redis_store.create(new_task())
    for _ in range(40):
        task = await redis_store.apply(task, PauseRequested())

    ops = (await _words(redis, "HGET", task_keys(task.id).task, "ops")).decode().split()

    assert [int(op.partition("=")[2]) for op in ops] == list(range(26, 42))


async def test_a_writer_whose_answer_was_lost_does_not_take_over_again(
    redis_store: RedisTaskStore, proxy: RedisProxy, lossy_store: RedisTaskStore
) -> None:
    task = await redis_store.create(new_task())
    proxy.meanwhile = lambda: redis_store.begin_content(task.id, 0, None)

    with pytest.raises(BodySuperseded):
        await _after_a_lost_answer(proxy, lossy_store, lambda: lossy_store.begin_content(task.id, 0, None))

    assert (await redis_store.load(task.id) or task).writer == 2


# --- scripts, keys and fields vanish ---


async def test_lost_scripts_are_loaded_again(redis: Redis, redis_store: RedisTaskStore) -> None:
    async def forget() -> None:
        await _words(redis, "SCRIPT", "FLUSH")

    task = await redis_store.create(new_task())
    await forget()
    await redis_store.begin_part(task.id, 1, "a")
    await forget()
    task = await redis_store.store_part(task, part(1), attempt="a")
    await forget()
    assert await redis_store.load_many([task.id, task.id]) == [task, task]
    await forget()
    assert await redis_store.create(new_task(2)) == await redis_store.load(new_task(2).id)


async def test_a_deleted_task_is_not_found_and_never_half_alive(redis: Redis, redis_store: RedisTaskStore) -> None:
    task = await redis_store.create(new_task())
    await redis_store.begin_part(task.id, 1, "a")
    claim = await redis_store.begin_content((await redis_store.create(new_task(2))).id, 0, None)
    await _words(redis, "FLUSHALL")

    late: list[Work] = [
        lambda: redis_store.store_part(task, part(1), attempt="a", decided=True),
        lambda: redis_store.begin_part(task.id, 1, "b"),
        lambda: redis_store.apply(task, CancelRequested()),
        lambda: redis_store.store_content_part(claim.task, part(1)),
        lambda: redis_store.keep_tail(claim.task, b"tail"),
        lambda: redis_store.begin_content(task.id, 0, None),
        lambda: redis_store.forget_parts(task, [1]),
    ]
    for work in late:
        with pytest.raises(TaskNotFound):
            await work()
    await redis_store.end_part(task.id, 1, "a")

    left = await _words(redis, "KEYS", "*")
    hints = (b"gw:due:", b"gw:ledger:")  # settled when looked at
    assert [key for key in left if not key.startswith(hints)] == []


async def test_when_the_tail_vanishes_a_body_begins_before_it(redis: Redis, redis_store: RedisTaskStore) -> None:
    claim = await redis_store.begin_content((await redis_store.create(new_task())).id, 0, None)
    task = await redis_store.store_content_part(claim.task, part(1))
    task = await redis_store.keep_tail(task, b"tail")
    await _words(redis, "DEL", task_keys(task.id).tail)

    with pytest.raises(OffsetMismatch) as caught:
        await redis_store.begin_content(task.id, 1004, None)

    assert caught.value.facts == {"next_offset": 1000}
    again = await redis_store.begin_content(task.id, 1000, None)
    assert (again.tail, again.task.loaded, again.task.tail_size) == (b"", 1000, 0)


@pytest.mark.promise(31)
async def test_fields_of_another_version_survive_every_change(redis: Redis, redis_store: RedisTaskStore) -> None:
    task = await redis_store.create(new_task())
    key = task_keys(task.id).task
    await _words(redis, "HSET", key, "of_tomorrow", "kept")

    task = await redis_store.apply(task, PauseRequested())
    task = await redis_store.apply(task, RestartRequested())
    await redis_store.begin_part(task.id, 1, "a")
    await redis_store.store_part(task, part(1), attempt="a")

    assert await _words(redis, "HGET", key, "of_tomorrow") == b"kept"
    assert (await redis_store.load(task.id) or task).loaded == 1000


async def test_only_what_changed_is_written(redis: Redis, redis_store: RedisTaskStore) -> None:
    task = await redis_store.create(new_task())
    await _words(redis, "HSET", task_keys(task.id).task, "client_ref", "changed by another version")

    await redis_store.apply(task, PauseRequested())

    assert (await redis_store.load(task.id) or task).client_ref == "changed by another version"


# --- lifetimes ---


async def test_every_key_of_a_task_lives_as_long_as_the_task(redis: Redis, redis_store: RedisTaskStore) -> None:
    claim = await redis_store.begin_content((await redis_store.create(new_task())).id, 0, None)
    task = await redis_store.store_content_part(claim.task, part(1))
    task = await redis_store.keep_tail(task, b"tail")
    await redis_store.begin_part(task.id, 7, "a")
    for key in task_keys(task.id):
        assert await _words(redis, "TTL", key) >= TTL_SECONDS
        await _words(redis, "EXPIRE", key, 100)

    await redis_store.apply(task, PauseRequested())

    lives = [await _words(redis, "TTL", key) for key in task_keys(task.id)]
    assert all(TTL_SECONDS <= left <= TTL_SECONDS * 1.01 for left in lives)


async def test_a_lifetime_is_not_written_again_for_every_change(redis: Redis, redis_store: RedisTaskStore) -> None:
    task = await redis_store.create(new_task())
    await _words(redis, "EXPIRE", task_keys(task.id).task, TTL_SECONDS + 10)

    await redis_store.apply(task, PauseRequested())

    assert await _words(redis, "TTL", task_keys(task.id).task) <= TTL_SECONDS + 10


async def test_a_canceled_task_stays_known_as_canceled(redis: Redis, redis_store: RedisTaskStore) -> None:
    task = await redis_store.apply(await redis_store.create(new_task()), CancelRequested())

    assert await _words(redis, "TTL", task_keys(task.id).task) >= TTL_SECONDS + TOMBSTONE_SECONDS
    assert await redis_store.create(new_task()) == task


async def test_a_listed_task_that_is_gone_is_removed_from_both_indexes(
    redis: Redis, redis_store: RedisTaskStore, clock: TurnedClock
) -> None:
    for number in (1, 2, 3):
        await redis_store.create(new_task(number))
    for number in (1, 2):
        await _words(redis, "DEL", *task_keys(new_task(number).id))
    clock.now += 61.5  # task 2 began 59.5 s ago and might still be on its way

    page = await redis_store.list_tasks(None)

    assert [task.id for task in page.tasks] == [new_task(3).id]
    for index in (EVERY_OWNER, owner_index(owner_key("alice"))):
        assert await _words(redis, "ZCARD", index) == 2


async def test_an_index_that_names_another_s_task_does_not_show_it(redis: Redis, redis_store: RedisTaskStore) -> None:
    theirs = await redis_store.create(new_task(1, owner="bob"))
    await _words(redis, "ZADD", owner_index(owner_key("alice")), 0, member_of(theirs))

    assert (await redis_store.list_tasks("alice")).tasks == ()


def test_b54_no_script_asks_redis_for_the_time() -> None:
    for script in (files("gateway.store") / "scripts").iterdir():
        assert "'TIME'" not in script.read_text().upper(), script.name


# --- cost ---


async def test_a_part_costs_the_same_whatever_the_size_of_its_task(tmp_path: Path, clock: TurnedClock) -> None:
    """Bytes in Redis's append-only file per part: 10,000 parts within 1.5 times of 100 parts."""
    with running_redis(tmp_path) as url:
        client = connect(url)
        store = RedisTaskStore(client, ttl_seconds=TTL_SECONDS, clock=clock)
        small = await _written_per_part(client, store, await store.create(new_task(1, size=None)), 100)
        large = await _written_per_part(client, store, await store.create(new_task(2, size=None)), 10_000)
        await client.aclose()

    assert large < 1.5 * small
    assert large < 1500


async def _written_per_part(redis: Redis, store: RedisTaskStore, task: Task, count: int) -> float:
    before = (await redis.info("persistence"))["aof_current_size"]
    for number in range(1, count + 1):
        await store.begin_part(task.id, number, f"attempt{number}")
        task = await store.store_part(
            task, part(number, 4 << 20, '"0123456789abcdef0123456789abcdef"'), attempt=f"attempt{number}"
        )
    assert task.contiguous_count == count
    return float(((await redis.info("persistence"))["aof_current_size"] - before) / count)


async def test_parts_in_reverse_are_counted_when_the_first_one_comes(redis_store: RedisTaskStore) -> None:
    task = await redis_store.create(new_task(size=None))
    for number in range(2000, 0, -1):
        await redis_store.begin_part(task.id, number, "a")
        task = await redis_store.store_part(task, part(number, 5 << 30), attempt="a")

    assert (task.contiguous_count, task.next_offset) == (2000, 2000 * (5 << 30))

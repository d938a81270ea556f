import asyncio

import pytest
from redis.asyncio import Redis

from gateway.domain.task import TaskId
from gateway.store.due_index import SHARDS, DueIndex
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_pool import Command

TASKS = [TaskId(f"task-{number}") for number in range(40)]


@pytest.fixture
def calls(redis: Redis) -> RedisCalls:
    return RedisCalls(redis)


@pytest.fixture
def index(calls: RedisCalls) -> DueIndex:
    return DueIndex(calls, "tests")


async def _do(calls: RedisCalls, *commands: Command) -> None:
    await calls.together("test", list(commands))


async def test_what_is_due_is_taken_once_until_it_is_due_again(calls: RedisCalls, index: DueIndex) -> None:
    await _do(calls, index.noting(TASKS[0], 10.5), index.noting(TASKS[1], 20.0))

    assert await index.take(10.0, 100.0, 8) == []
    assert await index.take(10.5, 100.0, 8) == [TASKS[0]]
    assert await index.take(99.0, 200.0, 8) == [TASKS[1]]
    assert await index.take(100.0, 200.0, 8) == [TASKS[0]]


async def test_two_processes_never_take_the_same(calls: RedisCalls, index: DueIndex) -> None:
    await _do(calls, *(index.noting(task_id, 1.0) for task_id in TASKS))

    takes = await asyncio.gather(*(index.take(2.0, 100.0, 16) for _ in range(8)))

    taken = [task_id for take in takes for task_id in take]
    assert sorted(taken) == sorted(TASKS)


async def test_a_take_is_bounded_and_the_longest_due_go_first(calls: RedisCalls, index: DueIndex) -> None:
    await _do(calls, *(index.noting(task_id, float(number)) for number, task_id in enumerate(TASKS)))

    first = await index.take(100.0, 200.0, SHARDS)

    assert len(first) <= SHARDS
    assert TASKS[0] in first


async def test_what_was_noted_anew_since_it_was_taken_stays(calls: RedisCalls, index: DueIndex) -> None:
    """Else a notice that comes while an earlier one is told would be forgotten."""
    await _do(calls, index.noting(TASKS[0], 1.0), index.noting(TASKS[1], 1.0))
    until = 1_763_848_000.123456
    await index.take(2.0, until, 16)
    await _do(calls, index.noting(TASKS[0], 5.0))

    await index.settle(TASKS[0], until)
    await index.settle(TASKS[1], until)

    assert (await index.lists(TASKS[0]), await index.lists(TASKS[1]), await index.count()) == (True, False, 1)


async def test_only_what_is_still_due_as_it_was_is_moved(calls: RedisCalls, index: DueIndex) -> None:
    await _do(calls, index.noting(TASKS[0], 1.0))

    assert not await index.move(TASKS[0], 2.0, 40.0)
    assert not await index.move(TASKS[1], 1.0, 40.0)
    assert await index.move(TASKS[0], 1.0, 50.0)
    assert await index.move(TASKS[0], 1.0, 50.0)  # repeated after a lost answer

    assert await index.count() == 1
    assert await index.take(49.0, 100.0, 8) == []
    assert await index.take(50.0, 100.0, 8) == [TASKS[0]]


async def test_a_listing_is_kept_dropped_and_mended(calls: RedisCalls, index: DueIndex) -> None:
    await _do(calls, index.noting(TASKS[0], 1.0), index.noting_if_missing(TASKS[0], 99.0))
    assert await index.take(1.0, 100.0, 8) == [TASKS[0]]

    await _do(calls, index.dropping(TASKS[0]), index.noting_if_missing(TASKS[0], 7.0))
    assert await index.take(7.0, 100.0, 8) == [TASKS[0]]

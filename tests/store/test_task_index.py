"""Members sort by age and say whose task they list."""

import random

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import BadQuery
from gateway.store.redis_calls import RedisCalls
from gateway.store.task_index import TaskIndex, member_of, require_cursor
from tests.store.conftest import START, new_task


def test_members_sort_by_creation_time() -> None:
    tasks = [new_task(number, created_at=START + number * 0.000_01) for number in range(1, 500)]
    shuffled = random.Random(1).sample(tasks, len(tasks))

    assert sorted(shuffled, key=member_of) == tasks


def test_a_member_is_a_cursor() -> None:
    require_cursor(member_of(new_task()))
    with pytest.raises(BadQuery):
        require_cursor(member_of(new_task())[:14])


async def test_a_page_follows_its_cursor_even_when_the_member_is_gone(redis: Redis) -> None:
    index, calls = TaskIndex(RedisCalls(redis)), RedisCalls(redis)
    tasks = [new_task(number) for number in range(1, 6)]
    for task in tasks:
        await calls.together("add", index.adding(task, 60))
        await calls.together("add", index.adding(task, 60))

    first = await index.page("alice", None, 2)
    await index.forget(first, now=START + 1000)
    rest = await index.page("alice", first[-1].text, 10)

    assert [member.task_id for member in first + rest] == [task.id for task in reversed(tasks)]
    assert [member.created_at for member in rest] == [START + 3, START + 2, START + 1]
    assert await index.page(None, None, 10) == rest

"""What the parts of an owner's unfinished tasks take in Redis is bounded, and large files do not feel it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task, TaskId
from gateway.store.ledgers import PART_BYTES, TASK_BYTES, Ledgers, Shares
from gateway.store.open_tasks import OpenTasks
from gateway.store.part_room import FREE_PARTS, PartRoom
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import task_keys
from gateway.store.task_store import RedisTaskStore
from tests.store.conftest import TTL_SECONDS, TurnedClock, new_task, part

SHARE_BYTES = 256 * 1024


@dataclass
class Calls:
    """What was asked of Redis."""

    names: list[str]

    def __call__(self, name: str, seconds: float, done: bool) -> None:
        del seconds, done
        self.names.append(name)


@pytest.fixture
def calls() -> Calls:
    return Calls([])


@pytest.fixture
def bounded(redis: Redis, clock: TurnedClock, calls: Calls) -> RedisTaskStore:
    shares = Shares(SHARE_BYTES, tasks=64)
    return RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock, observe=calls, shares=shares)


async def stored(store: RedisTaskStore, task: Task, number: int) -> Task:
    claim = await store.begin_part(task.id, number, f"a{number}")
    return await store.store_part(claim.task, part(number, 1), attempt=f"a{number}")


async def filled(store: RedisTaskStore, task: Task) -> int:
    """Store parts of one byte, eight at once, until there is no room; how many."""
    for first in range(1, 10_000, 8):
        each = [stored(store, task, number) for number in range(first, first + 8)]
        if any(isinstance(answer, QuotaExceeded) for answer in await asyncio.gather(*each, return_exceptions=True)):
            break
    return len(await store.parts(task.id))


async def test_s5_parts_of_one_byte_end_at_their_owners_share(redis: Redis, bounded: RedisTaskStore) -> None:
    tasks = [await bounded.create(new_task(number, size=None)) for number in range(1, 4)]

    counts = [await filled(bounded, task) for task in tasks]

    most = (SHARE_BYTES + 64 * TASK_BYTES) // PART_BYTES
    assert most // 2 < sum(counts) <= most + len(tasks) * FREE_PARTS
    assert counts[-1] <= FREE_PARTS + 8
    memory = sum([await redis.memory_usage(key) or 0 for task in tasks for key in task_keys(task.id)])
    assert memory < 2 * (SHARE_BYTES + 64 * TASK_BYTES)
    assert not await redis.hlen(task_keys(tasks[0].id).bodies)  # what was refused is no body in flight


async def test_s5_one_owners_parts_are_no_other_owners(bounded: RedisTaskStore) -> None:
    await filled(bounded, await bounded.create(new_task(1, size=None)))
    theirs = await bounded.create(new_task(2, size=None, owner="bob"))

    for number in range(1, 101):
        theirs = await stored(bounded, theirs, number)

    assert theirs.stored_count == 100


async def test_s5_a_part_that_is_there_may_come_again_where_there_is_no_room(bounded: RedisTaskStore) -> None:
    task = await bounded.create(new_task(1, size=None))
    count = await filled(bounded, task)

    with pytest.raises(QuotaExceeded, match="complete or cancel some"):
        await bounded.begin_part(task.id, 10_000, "more")
    claim = await bounded.begin_part(task.id, 1, "again")

    assert (await bounded.store_part(claim.task, part(1, 2), attempt="again")).stored_count == count


async def test_s5_a_sequential_body_needs_room_when_it_begins(bounded: RedisTaskStore) -> None:
    await filled(bounded, await bounded.create(new_task(1, size=None)))
    task = (await bounded.begin_content((await bounded.create(new_task(2, size=None))).id, 0, None)).task
    for number in range(1, FREE_PARTS + 1):
        task = await bounded.store_content_part(task, part(number))

    with pytest.raises(QuotaExceeded):
        await bounded.begin_content(task.id, task.next_offset, None)


async def test_s5_large_files_of_ten_thousand_parts_have_room_by_default(redis: Redis, clock: TurnedClock) -> None:
    ledgers, redis_calls = Ledgers(Shares(), TTL_SECONDS, clock), RedisCalls(redis)

    async def none_loaded(ids: Sequence[TaskId]) -> list[Task | None]:
        raise AssertionError(ids)

    room = PartRoom(OpenTasks(redis_calls, ledgers, none_loaded, clock=clock), ledgers.shares)
    for number in range(100):
        await room.require(replace(new_task(number, size=None), stored_count=9_999), 1)


async def test_s5_room_costs_hardly_a_call(bounded: RedisTaskStore, calls: Calls) -> None:
    async def asked(task: Task, count: int) -> int:
        """How many calls more than two a part it takes to store *count* parts of *task*."""
        await bounded.create(task)
        calls.names.clear()
        for number in range(1, count + 1):
            await stored(bounded, task, number)
        return len(calls.names) - 2 * count

    await asked(new_task(1, size=None), FREE_PARTS + 1)  # loads the scripts
    assert await asked(new_task(2, size=None), FREE_PARTS) == 0
    assert await asked(new_task(3, size=100 * 4 * 1024 * 1024), 100) == 3  # for parts 17, 35 and 71
    assert await asked(new_task(4, size=None), 1000) == 7

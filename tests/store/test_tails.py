"""A tail is kept where its owner's share has room, else not: then its bytes are sent again, and nobody is wrong."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.domain.task import CancelRequested, Task
from gateway.store.ledgers import UNIT_BYTES, Shares
from gateway.store.redis_address import connect
from gateway.store.redis_keys import ALL_TAILS, ledger_keys, owner_key, task_keys
from gateway.store.tails import YOUNG_SECONDS
from gateway.store.task_store import RedisTaskStore
from tests.fakes.redis_server import running_redis
from tests.store.conftest import TTL_SECONDS, TurnedClock, new_task, part

FULL_BYTES = 32 * 1024 * 1024
TAIL = b"t" * 100_000


class Bodies:
    """Sequential bodies that break off before their first part is whole."""

    def __init__(self, store: RedisTaskStore) -> None:
        self.store = store

    async def broken(self, number: int, owner: str = "alice", tail: bytes = TAIL) -> Task:
        task = await self.store.create(new_task(number, owner=owner))
        claim = await self.store.begin_content(task.id, 0, None)
        return await self.store.keep_tail(claim.task, tail)


@pytest.fixture
def bodies(redis: Redis, clock: TurnedClock) -> Bodies:
    return Bodies(RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock, shares=Shares(4 * 126_000)))


@pytest.fixture
async def small() -> AsyncIterator[Bodies]:
    with running_redis(None, "--maxmemory", str(FULL_BYTES)) as url:
        redis, shares = connect(url), Shares()
        shares.learn(FULL_BYTES)
        yield Bodies(RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, shares=shares))
        await redis.aclose()


async def test_s5_one_owners_broken_bodies_leave_room_for_anothers(small: Bodies) -> None:
    shares = small.store.ledgers.shares
    for start in range(0, 600, 20):
        await asyncio.gather(
            *(small.broken(number, tail=bytes(1024 * 1024 - 1)) for number in range(start, start + 20))
        )

    bobs = await small.broken(1000, "bob")

    assert bobs.tail_size == len(TAIL)
    page = await small.store.list_tasks("alice", limit=600)
    assert 0 < sum(task.tail_size for task in page.tasks) <= shares.tails


async def test_s5_beyond_the_share_next_offset_moves_back_and_the_rest_is_taken_again(bodies: Bodies) -> None:
    kept = [await bodies.broken(number) for number in range(4)]
    last = await bodies.broken(5)

    assert [task.next_offset for task in kept] == [len(TAIL)] * 4
    assert (last.next_offset, last.loaded, last.tail_size) == (0, 0, 0)
    claim = await bodies.store.begin_content(last.id, 0, None)
    assert claim.tail == b""


async def test_s5_a_tail_that_grows_beyond_the_share_stays_as_it_was(bodies: Bodies) -> None:
    tasks = [await bodies.broken(number) for number in range(4)]
    claim = await bodies.store.begin_content(tasks[0].id, len(TAIL), None)

    task = await bodies.store.keep_tail(claim.task, TAIL + TAIL)

    assert (task.next_offset, task.tail_size) == (len(TAIL), len(TAIL))
    assert (await bodies.store.begin_content(task.id, len(TAIL), None)).tail == TAIL


@pytest.mark.parametrize("how", ["consumed", "ended", "lost"])
async def test_s5_a_tail_that_is_gone_makes_room(bodies: Bodies, redis: Redis, clock: TurnedClock, how: str) -> None:
    tasks = [await bodies.broken(number) for number in range(4)]
    store, gone = bodies.store, tasks[2]
    if how == "consumed":
        claim = await store.begin_content(gone.id, len(TAIL), None)
        await store.store_content_part(claim.task, part(1, 200_000))
    elif how == "ended":
        await store.apply(gone, CancelRequested())
    else:
        await redis.delete(task_keys(gone.id).tail)
        clock.now += YOUNG_SECONDS + 1

    assert (await bodies.broken(5)).tail_size == len(TAIL)
    assert (await bodies.broken(6)).tail_size == 0


async def test_s5_tails_of_all_owners_together_have_a_bound_too(bodies: Bodies, redis: Redis) -> None:
    shares = bodies.store.ledgers.shares
    shares.learn(2 * 1024 * 1024)  # a quarter for all tails, and no owner may have less than half of that
    owners = [f"owner {number}" for number in range(8)]

    kept = [(await bodies.broken(number, owner)).tail_size for number, owner in enumerate(owners)]

    assert kept == [len(TAIL)] * 4 + [0] * 4
    assert -float(await redis.zscore(ALL_TAILS, "") or 0) * UNIT_BYTES <= shares.all_tails
    own = ledger_keys(owner_key(owners[-1])).tails
    assert await redis.zcard(own) in (0, 1), "what was not kept is not counted"


async def test_s5_of_many_that_break_off_at_once_no_more_are_kept_than_there_is_room_for(bodies: Bodies) -> None:
    tasks = await asyncio.gather(*(bodies.broken(number) for number in range(40)))

    assert sum(task.tail_size for task in tasks) == 4 * len(TAIL)

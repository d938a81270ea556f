"""A ledger's sum is that of its names, whatever is repeated, lost or expired."""

import random

import pytest
from redis.asyncio import Redis

from gateway.store.ledgers import (
    LEAST_SHARE_BYTES,
    OWNERS_PER_REDIS,
    TASK_BYTES,
    UNIT_BYTES,
    Ledgers,
    Noted,
    Shares,
    noted,
    open_bytes,
    tail_bytes,
)
from gateway.store.redis_calls import RedisCalls, ScriptCall
from gateway.store.redis_keys import ledger_keys, ledger_owner, owner_index, owner_key
from gateway.store.task_codec import encode_task
from tests.store.conftest import START, TurnedClock, new_task

ALICE = owner_key("alice")
KEYS = ledger_keys(ALICE)
LIFE_SECONDS = 1000


def counted(size: int) -> int:
    """*size* as a ledger counts it."""
    return -(-size // UNIT_BYTES) * UNIT_BYTES


@pytest.fixture
def ledgers(clock: TurnedClock) -> Ledgers:
    return Ledgers(Shares(100 * 1024, tasks=3), LIFE_SECONDS, clock)


async def run(redis: Redis, call: ScriptCall) -> Noted:
    return noted((await RedisCalls(redis).in_turn("ledger", [call]))[0])


async def test_s5_the_sum_is_that_of_the_names_after_any_history(redis: Redis, ledgers: Ledgers) -> None:
    chance, sizes = random.Random(5), dict[str, int]()
    for _ in range(500):
        name = f"name{chance.randrange(20)}"
        if chance.random() < 0.3:
            sizes.pop(name, None)
            found = await run(redis, ledgers.striking(KEYS.tails, name))
        else:
            size = chance.randrange(1, 5000)
            found = await run(redis, ledgers.keeping_tail(KEYS.tails, name, size))
            assert found.before_bytes == counted(sizes.get(name, 0))
            sizes[name] = size if found.fits else sizes.get(name, 0)
        assert found.total_bytes == sum(map(counted, sizes.values()))
        assert found.total_bytes <= ledgers.shares.tails


async def test_s5_the_same_name_again_counts_once(redis: Redis, ledgers: Ledgers) -> None:
    """A call whose answer was lost is repeated."""
    totals = [(await run(redis, ledgers.leaving(ALICE, "batch:1", 2048))).total_bytes for _ in range(3)]

    assert totals == [2048] * 3


async def test_s5_what_does_not_fit_changes_nothing(redis: Redis, ledgers: Ledgers) -> None:
    tasks = [new_task(number) for number in range(4)]

    fits = [(await run(redis, ledgers.opening(task, must_fit=True))).fits for task in tasks]

    assert fits == [True, True, True, False]
    assert (await run(redis, ledgers.opening(tasks[0], must_fit=True))).total_bytes == 3 * TASK_BYTES


async def test_s5_the_oldest_are_too_many_first_and_a_sixteenth_more(
    redis: Redis, ledgers: Ledgers, clock: TurnedClock
) -> None:
    for number in range(100):
        clock.now = START + number
        assert (await run(redis, ledgers.leaving(ALICE, f"{number}", 1024))).oldest == ()
    clock.now += 1

    found = await run(redis, ledgers.leaving(ALICE, "new", 1024))

    assert found.oldest == tuple(map(str, range(8)))  # 101 KiB, and 93.75 may stay


async def test_s5_an_end_is_noted_where_it_is_and_struck_off_where_it_was(redis: Redis, ledgers: Ledgers) -> None:
    task = new_task()
    await run(redis, ledgers.opening(task, must_fit=True))
    await run(redis, ledgers.keeping_tail(KEYS.tails, task.id, 5000))

    await run(redis, ledgers.ending(task, encode_task(task)))

    kept = {key: await redis.zrange(key, 1, -1) for key in KEYS}
    assert kept == {KEYS.open: [], KEYS.tails: [], KEYS.ended: [task.id.encode()]}


async def test_s5_a_name_whose_life_is_over_counts_no_longer(
    redis: Redis, ledgers: Ledgers, clock: TurnedClock
) -> None:
    await run(redis, ledgers.leaving(ALICE, "old", ledgers.shares.ended))
    clock.now += LIFE_SECONDS + 1

    found = await run(redis, ledgers.leaving(ALICE, "new", 2048))

    assert (found.total_bytes, found.oldest) == (2048, ())
    assert await redis.zrange(KEYS.ended, 1, -1) == [b"new"]
    assert 0 < await redis.ttl(KEYS.ended) <= LIFE_SECONDS


async def test_s5_a_ledger_lies_in_the_slot_of_its_owners_index(redis: Redis) -> None:
    """So that in a cluster it costs no round trip of its own."""
    assert {ledger_owner(key) for key in KEYS} == {ALICE}
    assert all("{" + owner_index(ALICE) + "}" in key for key in KEYS)


@pytest.mark.parametrize("redis_bytes", [0, 1, 10_000_000, 10**12])
def test_s5_no_share_is_more_than_its_part_of_what_redis_may_take(redis_bytes: int) -> None:
    shares = Shares(10**9, tasks=10**6)
    shares.learn(redis_bytes)

    each = max(redis_bytes // OWNERS_PER_REDIS, LEAST_SHARE_BYTES) if redis_bytes else 10**9
    assert shares.ended == shares.tails == min(10**9, each)
    assert shares.open <= (max(each // 2, LEAST_SHARE_BYTES) if redis_bytes else 10**6 * TASK_BYTES)


def test_s5_a_task_counts_one_and_more_with_its_options_and_parts() -> None:
    plain = open_bytes(encode_task(new_task(owner="a" * 200)))
    laden = open_bytes(encode_task(new_task(object_headers={f"x-cos-meta-{n}": "v" * 500 for n in range(8)})))

    assert plain == TASK_BYTES
    assert laden > TASK_BYTES + 4000
    assert open_bytes(encode_task(new_task(stored_count=64))) > TASK_BYTES + 64 * 128
    assert tail_bytes(0) == 0

"""What was made first under a key is what everybody gets who uses it again."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import IdempotencyConflict
from gateway.store.idempotency import IDEMPOTENCY_SECONDS, IdempotencyNotes, Made
from gateway.store.ledgers import Ledgers, Shares
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import idempotency_key
from gateway.transfer.ports import Idempotency

ONCE = Idempotency("key", "digest")


@pytest.fixture
def notes(redis: Redis) -> IdempotencyNotes:
    return IdempotencyNotes(RedisCalls(redis), Ledgers(Shares(), IDEMPOTENCY_SECONDS, time.time))


async def test_what_was_made_first_stays(notes: IdempotencyNotes) -> None:
    one, two = Made("one", 1_795_000_000.123457), Made("two", 1_795_000_001.5)

    assert await notes.first("alice", ONCE, one) == one
    assert await notes.first("alice", ONCE, two) == one
    assert await notes.find("alice", "key") == one


async def test_of_many_at_once_all_get_the_same(notes: IdempotencyNotes) -> None:
    made = [Made(str(number), float(number)) for number in range(20)]

    first = await asyncio.gather(*(notes.first("alice", ONCE, each) for each in made))

    assert len(set(first)) == 1


async def test_a_key_is_its_owner_s_own(notes: IdempotencyNotes) -> None:
    await notes.first("alice", ONCE, Made("one", 1.0))

    assert await notes.find("bob", "key") is None
    assert await notes.first("bob", Idempotency("key", "other"), Made("two", 2.0)) == Made("two", 2.0)


async def test_another_request_under_the_key_is_refused(notes: IdempotencyNotes) -> None:
    await notes.first("alice", ONCE, Made("one", 1.0))

    with pytest.raises(IdempotencyConflict):
        await notes.first("alice", Idempotency("key", "other"), Made("two", 2.0))


async def test_a_note_lasts_a_day_from_the_first_request_on(notes: IdempotencyNotes, redis: Redis) -> None:
    name = idempotency_key("alice", "key")
    await notes.first("alice", ONCE, Made("one", 1.0))
    assert 0 <= IDEMPOTENCY_SECONDS - await redis.ttl(name) < 60
    await redis.expire(name, 100)

    await notes.first("alice", ONCE, Made("two", 2.0))

    assert await redis.ttl(name) <= 100

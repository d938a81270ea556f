"""Bodies between client and COS, and the budget of bytes that may be kept."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import BodyIncomplete, DigestMismatch, Overloaded, PartTooLarge, TaskPaused
from gateway.transfer.replay import STREAM_WINDOW_BYTES, BufferedBody, IncomingBody, Lease, ReplayBudget
from tests.transfer.kit import ClientLeft, random_bytes, sent


async def read(body: BufferedBody | IncomingBody) -> bytes:
    return b"".join([chunk async for chunk in body.chunks()])


# --- the budget ---------------------------------------------------------------------------------------------------


def test_a_lease_holds_its_bytes_until_it_is_released_once() -> None:
    budget = ReplayBudget(10)
    lease = budget.try_take(7, "alice")
    assert lease is not None

    assert budget.try_take(4, "alice") is None
    lease.release()
    lease.release()

    assert budget.used_bytes == 0
    assert budget.try_take(10, "alice") is not None


def test_whoever_gets_no_memory_is_counted() -> None:
    short: list[bool] = []
    budget = ReplayBudget(10, on_short=lambda: short.append(True))

    assert budget.try_take(10, "alice") is not None
    assert short == []
    assert budget.try_take(1, "bob") is None
    assert short == [True]


async def test_waiters_get_their_bytes_first_come_first_served() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None
    order: list[int] = []

    async def wait(size: int) -> None:
        lease = await budget.take(size, "alice", 5)
        order.append(size)
        lease.release()

    waiting = [asyncio.create_task(wait(size)) for size in (8, 1, 2)]
    await asyncio.sleep(0)
    assert budget.try_take(0, "alice") is None, "nobody overtakes who waits"
    held.release()
    await asyncio.gather(*waiting)

    assert order == [8, 1, 2]
    assert budget.used_bytes == 0


async def test_bytes_that_do_not_become_free_in_time_are_overload() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None

    with pytest.raises(Overloaded):
        await budget.take(1, "alice", 0.01)
    held.release()

    assert (await budget.take(10, "alice", 1)).size == 10


async def test_who_gives_up_waiting_lets_the_next_through() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(6, "mallory")
    assert held is not None
    large = asyncio.create_task(budget.take(9, "alice", 5))
    await asyncio.sleep(0)
    small = asyncio.create_task(budget.take(4, "bob", 5))
    await asyncio.sleep(0)

    large.cancel()

    (await small).release()
    held.release()
    assert budget.used_bytes == 0


async def test_a_waiter_cancelled_in_the_moment_it_is_served_gives_its_bytes_back() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None
    waiting = asyncio.create_task(budget.take(5, "alice", 5))
    await asyncio.sleep(0)

    held.release()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert budget.used_bytes == 0


async def test_a_waiter_cancelled_in_the_moment_before_it_is_served_takes_nothing() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None
    waiting = asyncio.create_task(budget.take(5, "alice", 5))
    await asyncio.sleep(0)

    waiting.cancel()
    held.release()
    (outcome,) = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(outcome, asyncio.CancelledError)
    assert budget.used_bytes == 0
    assert budget.try_take(10, "alice") is not None


@pytest.mark.promise(30)
def test_however_much_one_owner_asks_for_there_is_some_left_for_another() -> None:
    budget = ReplayBudget(100)
    owners = ("mallory", "alice", "bob", "carol")

    held = dict.fromkeys(owners, 0)
    for owner in owners:
        while budget.try_take(1, owner) is not None:
            held[owner] += 1

    assert held["mallory"] == 75
    assert all(held.values())
    assert budget.used_bytes == sum(held.values()) <= 100


@pytest.mark.promise(30)
def test_after_a_while_owners_who_all_ask_without_end_hold_the_same() -> None:
    budget = ReplayBudget(100)
    leases: dict[str, list[Lease]] = {"mallory": [], "alice": []}
    for owner in [*(["mallory"] * 100), *(["mallory", "alice"] * 300)]:
        if len(leases[owner]) > 1 and owner == "mallory":
            leases[owner].pop().release()
        while (lease := budget.try_take(1, owner)) is not None:
            leases[owner].append(lease)

    assert {owner: len(held) for owner, held in leases.items()} == {"mallory": 43, "alice": 42}


def test_an_owner_who_holds_nothing_may_take_whatever_is_free() -> None:
    budget = ReplayBudget(10)

    assert budget.try_take(5, "mallory") is not None
    assert budget.try_take(5, "alice") is not None
    assert budget.try_take(1, "bob") is None


async def test_of_all_who_wait_the_one_who_holds_least_is_served_first() -> None:
    budget = ReplayBudget(12)
    first, second = budget.try_take(6, "mallory"), budget.try_take(6, "mallory too")
    assert first is not None
    assert second is not None
    order: list[str] = []

    async def wait(owner: str) -> None:
        await budget.take(3, owner, 5)
        order.append(owner)

    waiting = [asyncio.create_task(wait(owner)) for owner in ("mallory too", "alice")]
    await asyncio.sleep(0)
    first.release()
    await waiting[1]
    assert order == ["alice"]
    second.release()
    await asyncio.gather(*waiting)


async def test_nobody_overtakes_one_who_waits_and_holds_no_more() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(8, "mallory")
    assert held is not None
    waiting = asyncio.create_task(budget.take(4, "alice", 5))
    await asyncio.sleep(0)

    assert budget.try_take(1, "bob") is None
    held.release()
    await waiting
    assert budget.try_take(1, "bob") is not None


async def test_who_waits_for_their_own_share_holds_up_nobody_who_has_less() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(7, "mallory")
    waiting = asyncio.create_task(budget.take(3, "mallory", 5))
    await asyncio.sleep(0)

    assert budget.try_take(1, "alice") is not None
    assert budget.try_take(1, "mallory") is None

    assert held is not None
    held.release()
    await waiting


# --- bodies that are here -----------------------------------------------------------------------------------------


async def test_a_buffered_body_may_be_read_again_and_again() -> None:
    body = BufferedBody([b"one", b"two"])

    assert [await read(body), await read(body)] == [b"onetwo", b"onetwo"]
    assert (body.size, body.crc64, body.replayable) == (6, crc64(b"onetwo"), True)


# --- bodies that are coming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("replayable", [True, False])
async def test_bytes_are_read_as_they_come(*, replayable: bool) -> None:
    data = random_bytes(1_000_000)
    body = IncomingBody(len(data), replayable=replayable)
    reading = asyncio.create_task(read(body))

    await body.pump(sent(data, 9_999))

    assert await reading == data
    assert (body.received, body.crc64, body.whole) == (len(data), crc64(data), True)


async def test_a_replayable_body_is_read_from_the_first_byte_again_also_while_it_comes() -> None:
    body = IncomingBody(6, replayable=True)
    await body.feed(b"abc")
    first = body.chunks()
    assert await anext(first) == b"abc"
    assert isinstance(first, AsyncIterator)

    again = asyncio.create_task(read(body))
    await asyncio.sleep(0)
    await body.feed(b"def")

    assert await again == b"abcdef"


async def test_a_body_without_memory_holds_its_client_back() -> None:
    chunk = bytes(STREAM_WINDOW_BYTES // 2)
    body = IncomingBody(4 * len(chunk), replayable=False)
    await body.feed(chunk)
    await body.feed(chunk)
    third = asyncio.create_task(body.feed(chunk))
    await asyncio.sleep(0)
    assert not third.done()

    reader = body.chunks()
    await anext(reader)
    await third


@pytest.mark.parametrize("replayable", [True, False])
async def test_the_chunk_that_shows_a_wrong_crc_is_never_read(*, replayable: bool) -> None:
    body = IncomingBody(6, replayable=replayable, expected_crc64=crc64(b"abcdeX"))
    reader = body.chunks()
    await body.feed(b"abc")
    assert await anext(reader) == b"abc"

    with pytest.raises(DigestMismatch):
        await body.feed(b"def")

    with pytest.raises(DigestMismatch):
        await anext(reader)
    assert not body.whole


async def test_a_body_that_grows_too_long_ends_for_its_reader_too() -> None:
    body = IncomingBody(3, replayable=True)

    with pytest.raises(PartTooLarge):
        await body.feed(b"abcd")

    with pytest.raises(PartTooLarge):
        await read(body)


async def test_a_body_that_ends_early_tells_both_numbers() -> None:
    body = IncomingBody(10, replayable=True)

    with pytest.raises(BodyIncomplete, match="3 bytes, expected 10"):
        await body.pump(sent(b"abc"))


async def test_whoever_reads_gets_the_reason_why_a_body_ended() -> None:
    body = IncomingBody(10, replayable=False)
    reading = asyncio.create_task(read(body))
    await asyncio.sleep(0)

    body.fail(TaskPaused("Paused."))

    with pytest.raises(TaskPaused):
        await reading
    with pytest.raises(TaskPaused):
        await body.feed(b"abc")


@pytest.mark.parametrize("error", [ClientLeft(), asyncio.CancelledError()])
async def test_what_is_no_error_of_ours_reaches_cos_as_an_incomplete_body(error: BaseException) -> None:
    """A CancelledError raised inside the request to COS would look like the request's own cancellation."""
    body = IncomingBody(10, replayable=True)

    body.fail(error)

    with pytest.raises(BodyIncomplete):
        await read(body)


async def test_a_whole_body_cannot_fail_any_more() -> None:
    body = IncomingBody(3, replayable=True)
    await body.feed(b"abc")

    body.fail(ClientLeft())

    assert await read(body) == b"abc"


async def test_a_feeder_that_waits_for_room_is_let_go_when_the_body_ends() -> None:
    body = IncomingBody(10 * STREAM_WINDOW_BYTES, replayable=False)
    feeding = asyncio.create_task(body.feed(bytes(2 * STREAM_WINDOW_BYTES)))
    await asyncio.sleep(0)
    assert not feeding.done()

    body.fail(TaskPaused("Paused."))

    await feeding
    with pytest.raises(TaskPaused):
        await body.feed(b"x")

"""Bodies between client and COS, and the budget of bytes that may be kept."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import BodyIncomplete, DigestMismatch, Overloaded, PartTooLarge, TaskPaused
from gateway.transfer.replay import BufferedBody, IncomingBody, ReplayBudget
from tests.transfer.kit import ClientLeft, random_bytes, sent


async def read(body: BufferedBody | IncomingBody) -> bytes:
    return b"".join([chunk async for chunk in body.chunks()])


# --- the budget ---------------------------------------------------------------------------------------------------


async def test_a_body_that_cannot_be_kept_is_overload_whoever_holds_the_memory() -> None:
    budget = ReplayBudget(10)
    held = budget.try_take(7, "alice")
    assert held is not None

    for owner in ("alice", "bob"):
        with pytest.raises(Overloaded, match="replay memory"):
            await budget.take(5, owner, 0.01)


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


async def test_f1_a_body_without_memory_takes_the_next_chunk_once_the_one_before_is_gone() -> None:
    body = IncomingBody(4, replayable=False)
    reader = body.chunks()
    feeding = asyncio.create_task(body.feed(b"ab"))
    assert await anext(reader) == b"ab"
    await asyncio.sleep(0)
    assert not feeding.done(), "whoever got the chunk has not sent it before asking for more"

    more = asyncio.ensure_future(anext(reader))
    await feeding
    feeding = asyncio.create_task(body.feed(b"cd"))

    assert await more == b"cd"
    assert await anext(reader, None) is None
    await feeding


@pytest.mark.parametrize("replayable", [True, False])
async def test_the_chunk_that_shows_a_wrong_crc_is_never_read(*, replayable: bool) -> None:
    body = IncomingBody(6, replayable=replayable, expected_crc64=crc64(b"abcdeX"))
    reader = body.chunks()
    feeding = asyncio.create_task(body.feed(b"abc"))
    assert await anext(reader) == b"abc"
    more = asyncio.ensure_future(anext(reader))
    await feeding

    with pytest.raises(DigestMismatch):
        await body.feed(b"def")

    with pytest.raises(DigestMismatch):
        await more
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
    body = IncomingBody(10, replayable=False)
    feeding = asyncio.create_task(body.feed(b"ab"))
    await asyncio.sleep(0)
    assert not feeding.done()

    body.fail(TaskPaused("Paused."))

    await feeding
    with pytest.raises(TaskPaused):
        await body.feed(b"x")

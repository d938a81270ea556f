"""A deadline ends in time, but not while the loop itself could not look."""

import asyncio
import time

import pytest

from gateway.fair_timeout import EXTRA_STEPS, LATE_SECONDS, LEAST_STEP_SECONDS, FairTimeout, FairTimer


async def test_it_ends_in_time_when_the_loop_turns() -> None:
    began = time.monotonic()
    timeout = FairTimeout(0.3)
    with pytest.raises(TimeoutError):
        async with timeout:
            await asyncio.Event().wait()

    assert timeout.expired()
    assert 0.29 <= time.monotonic() - began < 1.5


async def test_what_ends_before_is_left_alone_and_so_is_what_waits_for_ever() -> None:
    for seconds in (10.0, None):
        async with FairTimeout(seconds) as timeout:
            await asyncio.sleep(0)
        assert not timeout.expired()


@pytest.mark.parametrize("stands_still", [0.0, 0.1], ids=["at once", "later"])
async def test_f2_an_answer_that_came_while_the_loop_stood_still_is_heard(stands_still: float) -> None:
    """As with a Redis that answered in 2 ms while this process read bodies for 1.2 s."""
    reader, writer = await _connected()
    async with FairTimeout(0.4):
        await asyncio.sleep(stands_still)
        writer.write(b"an answer")
        time.sleep(1.0)  # noqa: ASYNC251 -- the loop stands still
        assert await reader.readexactly(9) == b"an answer"
    writer.close()


async def test_f2_a_loop_that_stood_still_looks_again_before_it_gives_up() -> None:
    turns = 0
    timer_came = asyncio.Event()
    FairTimer(0.05, timer_came.set)
    time.sleep(0.5)  # noqa: ASYNC251 -- the loop stands still
    while not timer_came.is_set():
        turns += 1
        await asyncio.sleep(0.01)

    assert turns >= 5


async def test_of_a_loop_that_is_always_late_the_time_ends_all_the_same() -> None:
    over = asyncio.Event()
    FairTimer(0.05, over.set)
    began = time.monotonic()
    while not over.is_set():
        time.sleep(2 * LATE_SECONDS)  # noqa: ASYNC251 -- the loop is late
        await asyncio.sleep(0)

    assert time.monotonic() - began < 3 * EXTRA_STEPS * LEAST_STEP_SECONDS


async def test_restarting_counts_anew_and_canceling_ends_it() -> None:
    async with FairTimeout(0.1) as timeout:
        timeout.restart(10.0)
        await asyncio.sleep(0.2)
        timeout.restart(None)
        assert not timeout.expired()


async def _connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """What is written comes back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    opened = await asyncio.open_connection(*server.sockets[0].getsockname())
    server.close()
    return opened

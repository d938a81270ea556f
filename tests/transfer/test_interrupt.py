"""A block that waits is ended from outside, with a reason, once."""

import asyncio

import pytest

from gateway.domain.errors import BodySuperseded, GatewayError, TaskPaused
from gateway.transfer.interrupt import Interrupt


async def waits(interrupt: Interrupt, entered: asyncio.Event) -> None:
    async with interrupt:
        entered.set()
        await asyncio.Event().wait()


async def test_a_block_that_waits_ends_with_the_first_reason() -> None:
    interrupt, entered = Interrupt(), asyncio.Event()
    block = asyncio.create_task(waits(interrupt, entered))
    await entered.wait()

    interrupt(TaskPaused("first"))
    interrupt(BodySuperseded("second"))

    with pytest.raises(TaskPaused, match="first"):
        await block


async def test_a_block_that_ends_by_itself_is_not_disturbed_afterwards() -> None:
    interrupt = Interrupt()
    async with interrupt:
        pass

    interrupt(TaskPaused("late"))
    await asyncio.sleep(0)


async def test_a_reason_before_the_block_is_not_remembered() -> None:
    interrupt = Interrupt()
    interrupt(TaskPaused("early"))

    async with interrupt:
        await asyncio.sleep(0)


async def test_the_blocks_own_error_comes_out() -> None:
    with pytest.raises(KeyError):
        async with Interrupt():
            raise KeyError


async def test_a_timeout_of_the_blocks_own_stays_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with Interrupt():
            raise TimeoutError


async def test_a_request_that_is_cancelled_is_cancelled_and_not_interrupted() -> None:
    interrupt, entered = Interrupt(), asyncio.Event()
    block = asyncio.create_task(waits(interrupt, entered))
    await entered.wait()

    block.cancel()

    with pytest.raises(asyncio.CancelledError):
        await block


async def test_an_interrupt_and_a_cancel_at_once_leave_the_task_cancelled() -> None:
    interrupt, entered = Interrupt(), asyncio.Event()
    block = asyncio.create_task(waits(interrupt, entered))
    await entered.wait()

    interrupt(TaskPaused("first"))
    await asyncio.sleep(0)
    block.cancel()

    outcome = (await asyncio.gather(block, return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError | GatewayError)


async def test_an_inner_timeout_still_works() -> None:
    async with Interrupt():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()

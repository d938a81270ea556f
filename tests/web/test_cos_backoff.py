"""Patience for SDKs that have none."""

import asyncio

import pytest

from gateway.domain.errors import DigestMismatch, StorageUnavailable
from gateway.domain.task import TaskId
from gateway.web.cos_backoff import Backoff

TASK = TaskId("task")


class Clock:
    """Monotonic seconds that a test turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def fail(backoff: Backoff, number: int = 1, error: type[Exception] = StorageUnavailable) -> None:
    with pytest.raises(error):
        async with backoff.turn(TASK, number):
            raise error


async def enter(backoff: Backoff) -> None:
    async with backoff.turn(TASK, 1):
        pass


async def test_a_repetition_waits_for_its_time() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    await fail(backoff)
    clock.now += 0.99
    began = asyncio.get_running_loop().time()

    await enter(backoff)

    assert asyncio.get_running_loop().time() - began >= 0.009


async def test_what_the_failure_asks_for_is_waited_for_if_that_is_longer() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    with pytest.raises(StorageUnavailable):
        async with backoff.turn(TASK, 1):
            raise StorageUnavailable("not before then", retry_after_seconds=4)
    clock.now += 3.99
    began = asyncio.get_running_loop().time()

    await enter(backoff)

    assert asyncio.get_running_loop().time() - began >= 0.009


async def test_after_too_many_failures_it_is_refused_until_its_time() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    for seconds in (1, 2, 4):
        await fail(backoff)
        clock.now += seconds
    clock.now -= 1

    with pytest.raises(StorageUnavailable) as refused:
        await enter(backoff)
    clock.now += 1
    await enter(backoff)

    assert refused.value.retry_after_seconds == 1


async def test_other_parts_and_other_failures_do_not_wait() -> None:
    backoff = Backoff(Clock())
    await fail(backoff, 1)
    await fail(backoff, 2, DigestMismatch)

    async with asyncio.timeout(1):
        async with backoff.turn(TASK, 2), backoff.turn(TaskId("another"), 1):
            pass


async def test_a_success_forgets_the_failures() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    await fail(backoff)
    clock.now += 1
    await enter(backoff)
    await fail(backoff)
    clock.now += 1

    async with asyncio.timeout(1):
        await enter(backoff)

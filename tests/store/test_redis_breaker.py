"""It opens when nobody hears anything, and closes by itself."""

import asyncio
import time

import pytest

from gateway.store.redis_breaker import TRY_SECONDS, Breaker, RedisDown


class Probe:
    """A Redis that is back when a test says so."""

    def __init__(self) -> None:
        self.count = 0
        self.is_back = False

    async def __call__(self) -> None:
        self.count += 1
        if not self.is_back:
            raise OSError("refused")


@pytest.fixture
def probe() -> Probe:
    return Probe()


async def test_one_slow_answer_among_others_opens_nothing(probe: Probe) -> None:
    breaker = Breaker(probe)
    began = time.monotonic()
    breaker.answered()
    breaker.failed(began)
    breaker.admit()
    assert (breaker.is_open, probe.count) == (False, 0)


async def test_f2_one_late_answer_opens_nothing_where_the_next_question_is_answered(probe: Probe) -> None:
    breaker = Breaker(probe)
    probe.is_back = True
    breaker.timed_out(time.monotonic())
    breaker.admit()
    for _ in range(5):  # turns in which the doubt is asked and answered
        await asyncio.sleep(0)
    breaker.admit()
    assert (breaker.is_open, probe.count) == (False, 1)


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
async def test_f2_a_late_answer_and_a_question_in_vain_open_it(probe: Probe, silent: bool) -> None:
    async def ask() -> None:
        await probe()

    async def hang() -> None:
        await asyncio.Event().wait()

    breaker = Breaker(hang if silent else ask)
    breaker.timed_out(time.monotonic())
    began = time.monotonic()
    while not breaker.is_open:  # noqa: ASYNC110 -- it tells nobody
        await asyncio.sleep(0.01)
    assert time.monotonic() - began < 1
    await breaker.aclose()


async def test_silence_opens_it_until_a_probe_is_answered(probe: Probe) -> None:
    breaker = Breaker(probe)
    breaker.failed(time.monotonic())
    breaker.failed(time.monotonic())
    with pytest.raises(RedisDown):
        breaker.admit()
    await asyncio.sleep(TRY_SECONDS * 1.5)
    assert (breaker.is_open, probe.count) == (True, 2)

    probe.is_back = True
    await asyncio.sleep(TRY_SECONDS)
    assert (breaker.is_open, probe.count) == (False, 3)
    breaker.admit()


async def test_closing_ends_the_probing(probe: Probe) -> None:
    breaker = Breaker(probe)
    breaker.failed(time.monotonic())
    await breaker.aclose()
    await breaker.aclose()
    assert len(asyncio.all_tasks()) == 1

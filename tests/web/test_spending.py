"""What requests cost, and whose turn it is."""

import asyncio

import pytest

from gateway.domain.errors import RateLimited
from gateway.web import spending as spending_module
from gateway.web.spending import BURST_SECONDS, LOADED_TASKS, MOST_WAITING, PARSED_BYTES, Spending


class Scene:
    """A spending of 1 unit and 1 look a second, at a time that the test sets."""

    def __init__(self, units: float = 1, looks: float = 1, unknown: float = 2) -> None:
        self.now = 0.0
        self.spending = Spending(units, looks, unknown, lambda: self.now)

    def requests_left(self, owner: str = "alice") -> int:
        """How many plain requests pass now, which are thereby spent."""
        for count in range(10_000):
            try:
                self.spending.ask(owner)
            except RateLimited:
                return count
        raise AssertionError("there is no bound")


def test_s8_a_request_spends_by_what_it_parses_and_loads() -> None:
    scene = Scene()
    scene.spending.ask("alice")
    scene.spending.parse("alice", 3 * PARSED_BYTES)
    scene.spending.load("alice", 2 * LOADED_TASKS)
    scene.spending.loaded("alice", LOADED_TASKS)

    assert scene.requests_left() == BURST_SECONDS - 7
    assert scene.requests_left("bob") == BURST_SECONDS


@pytest.mark.parametrize("work", ["parse", "load"])
def test_s8_who_has_spent_all_is_refused_before_the_work(work: str) -> None:
    scene = Scene()
    scene.requests_left()

    with pytest.raises(RateLimited) as refused:
        getattr(scene.spending, work)("alice", 1)
    assert refused.value.retry_after_seconds == pytest.approx(1)


def test_s8_what_nobody_knew_before_is_a_debt() -> None:
    scene = Scene()
    for _ in range(3):
        scene.spending.loaded("alice", BURST_SECONDS * LOADED_TASKS)
    scene.now = 2 * BURST_SECONDS

    assert scene.requests_left() == 0
    scene.now += 1
    assert scene.requests_left() == 1


def test_s11_calls_to_cos_that_only_look_have_a_rate_of_their_own() -> None:
    scene = Scene()
    for _ in range(BURST_SECONDS - 5):
        scene.spending.look("alice")
    scene.spending.looked("alice", 5)

    with pytest.raises(RateLimited):
        scene.spending.look("alice")
    scene.spending.look("bob")
    assert scene.requests_left() == BURST_SECONDS


def test_s11_after_too_many_misses_nothing_more_is_guessed() -> None:
    scene = Scene()
    for _ in range(2):
        scene.spending.guess("alice")
        scene.spending.missed("alice")

    with pytest.raises(RateLimited):
        scene.spending.guess("alice")
    with pytest.raises(RateLimited):
        scene.spending.missed("alice")
    scene.spending.guess("bob")


def test_a_rate_of_0_bounds_nothing() -> None:
    scene = Scene(0, 0, 0)
    for _ in range(100):
        scene.spending.ask("alice")
        scene.spending.look("alice")
        scene.spending.loaded("alice", 100_000)
        scene.spending.looked("alice", 1000)
        scene.spending.guess("alice")
        scene.spending.missed("alice")


async def test_s8_one_expensive_request_of_a_subject_is_at_work_at_a_time() -> None:
    spending, at_work, most = Scene().spending, 0, 0

    async def work(owner: str) -> None:
        nonlocal at_work, most
        async with spending.turn(owner):
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0)
            at_work -= 1

    await asyncio.gather(*(work("alice") for _ in range(MOST_WAITING)))
    assert most == 1
    await asyncio.gather(*(work(owner) for owner in ("alice", "bob", "carol")))
    assert most == 3
    assert spending._turns == {}


async def test_s8_who_waits_too_long_or_among_too_many_hears_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending_module, "TURN_SECONDS", 0.05)
    spending = Scene().spending

    async def work() -> None:
        async with spending.turn("alice"):
            pass

    async with spending.turn("alice"):
        waiting = [asyncio.create_task(work()) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited) as refused:
            await work()
        assert refused.value.retry_after_seconds == 1
        assert all(isinstance(ended, RateLimited) for ended in await asyncio.gather(*waiting, return_exceptions=True))
    await work()
    assert spending._turns == {}


async def test_a_request_that_is_cancelled_gives_its_turn_back() -> None:
    spending = Scene().spending

    async def work() -> None:
        async with spending.turn("alice"):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    async with spending.turn("alice"):
        pass
    assert spending._turns == {}

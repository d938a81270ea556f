"""Buckets that fill with time, for as many names as there is room."""

import pytest

from gateway.web.rate_table import RateTable


class HandClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def test_a_name_may_spend_its_burst_at_once_and_then_waits(clock: HandClock) -> None:
    table = RateTable(2, 3, clock)

    assert [table.spend("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert table.wait_seconds("a") == 0.5


def test_a_bucket_fills_with_time_up_to_its_burst_and_no_further(clock: HandClock) -> None:
    table = RateTable(2, 3, clock)
    for _ in range(3):
        table.spend("a")

    clock.now += 0.5
    assert (table.wait_seconds("a"), table.spend("a"), table.spend("a")) == (0, 0, 0.5)
    clock.now += 1000
    assert [table.spend("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_what_is_refused_costs_nothing(clock: HandClock) -> None:
    table = RateTable(1, 1, clock)
    table.spend("a")

    assert {table.spend("a") for _ in range(100)} == {1.0}
    clock.now += 1
    assert table.spend("a") == 0


def test_names_have_buckets_of_their_own(clock: HandClock) -> None:
    table = RateTable(1, 1, clock)

    assert (table.spend("a"), table.spend("b"), table.spend("a")) == (0, 0, 1)


def test_a_large_amount_passes_once_and_is_paid_off(clock: HandClock) -> None:
    table = RateTable(10, 20, clock)

    assert table.spend("a", 50) == 0
    assert table.wait_seconds("a") == pytest.approx(3.1)
    clock.now += 3.2
    assert table.spend("a") == 0


def test_without_a_rate_everything_passes_and_nobody_is_remembered(clock: HandClock) -> None:
    table = RateTable(0, 0, clock)

    assert {table.spend("a") for _ in range(1000)} == {0}
    assert (len(table), table.wait_seconds("a")) == (0, 0)


def test_only_so_many_names_are_remembered_the_latest(clock: HandClock) -> None:
    table = RateTable(1, 1, clock, max_names=2)
    for name in ("a", "b", "a", "c"):
        table.spend(name)
        clock.now += 0.001

    assert len(table) == 2
    assert table.wait_seconds("a") == 0, "forgotten, the longest unheard of: its refused spending is no news"
    assert table.wait_seconds("c") > 0


def test_who_may_spend_everything_again_is_forgotten_as_others_come(clock: HandClock) -> None:
    table = RateTable(1, 2, clock)
    for number in range(100):
        table.spend(f"early {number}")
    clock.now += 0.5
    for _ in range(2):
        table.spend("indebted")
    clock.now += 1

    for number in range(60):
        table.spend(f"late {number}")

    assert len(table) == 61, "the late ones, and whoever has still something to pay off"
    assert table.wait_seconds("indebted") == 0
    assert (table.spend("indebted"), table.spend("indebted")) == (0, 1)


def test_what_is_owed_is_spent_whatever_is_there() -> None:
    now = 0.0
    table = RateTable(1, 10, lambda: now)
    table.owe("a", 4)
    assert table.spend("a", 6) == 0
    table.owe("a", 5)
    assert table.wait_seconds("a") == 6
    now = 6.0
    assert table.wait_seconds("a") == 0

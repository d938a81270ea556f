"""The rate falls at once, rises slowly, and never stands still."""

import pytest

from gateway.cos.pace import Pace

PATIENCE = 1.0


def asked(pace: Pace, begin: float, seconds: float, per_second: int) -> int:
    """How many of the requests that come evenly may begin."""
    times = (begin + number / per_second for number in range(int(seconds * per_second)))
    return sum(pace.turn(now, PATIENCE) <= PATIENCE for now in times)


def test_without_a_slow_down_nothing_waits() -> None:
    pace = Pace()

    assert {pace.turn(100.0, 0.0) for _ in range(10_000)} == {0.0}
    assert pace.share(100.0) == 1.0


def test_a_slow_down_takes_the_rate_to_seventy_percent_and_a_second_one_further() -> None:
    pace = Pace()
    asked(pace, 100.0, 2.0, 200)
    pace.slow_down(102.0, None)

    assert 130 <= asked(pace, 102.0, 1.0, 1000) - 0.7 * 200 * PATIENCE <= 160  # those that wait count too
    pace.slow_down(103.0, None)
    assert pace.share(103.0) == pytest.approx((0.7 + 0.05) * 0.7)
    assert 0.6 * 200 <= asked(pace, 105.0, 1.0, 1000) / 2 <= 0.7 * 200  # of the usual rate, not of the present one


def test_all_that_is_in_flight_hears_the_same_slow_down() -> None:
    pace = Pace()
    for number in range(50):
        pace.slow_down(100.0 + number / 100, None)

    assert pace.share(100.5) >= 0.7


def test_the_rate_rises_by_a_twentieth_a_second_until_the_limit_is_gone() -> None:
    pace = Pace()
    asked(pace, 100.0, 2.0, 1000)
    pace.slow_down(102.0, None)

    assert pace.share(104.0) == pytest.approx(0.8)
    assert pace.share(108.1) == 1.0
    assert {pace.turn(109.0, 0.0) for _ in range(10_000)} == {0.0}


def test_nothing_begins_before_retry_after_is_over_and_that_is_ten_seconds_at_most() -> None:
    pace = Pace()
    pace.slow_down(100.0, 3.0)
    assert pace.turn(100.5, PATIENCE) == pytest.approx(2.5)
    assert pace.turn(103.0, PATIENCE) == 0.0

    pace.slow_down(200.0, 3600.0)
    assert pace.turn(200.0, PATIENCE) == 10.0
    assert pace.share(210.0) == pytest.approx(0.7)


def test_a_turn_that_is_not_waited_for_is_nobodys() -> None:
    pace = Pace()
    pace.slow_down(100.0, 2.0)
    for _ in range(1000):
        assert pace.turn(100.0, PATIENCE) == pytest.approx(2.0)


def test_ten_requests_a_second_always_pass() -> None:
    pace = Pace()
    for number in range(60):
        pace.slow_down(100.0 + number, None)

    assert pace.share(160.0) < 0.2
    assert asked(pace, 160.0, 1.0, 10) == 10

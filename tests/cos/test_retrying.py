"""How long to wait, when to give up, and how many repetitions all calls share."""

import pytest

from gateway.cos.retrying import MAX_ATTEMPTS, RetryBudget, delay_seconds


def test_waits_are_spread_under_a_ceiling_that_doubles() -> None:
    for attempt, ceiling in ((1, 0.5), (2, 1.0)):
        assert delay_seconds(attempt, 0.0, None, 0.0) == 0.1
        assert delay_seconds(attempt, 0.999, None, 0.0) == pytest.approx(ceiling, rel=0.01)


def test_the_last_attempt_is_the_third() -> None:
    assert delay_seconds(MAX_ATTEMPTS - 1, 0.5, None, 0.0) is not None
    assert delay_seconds(MAX_ATTEMPTS, 0.5, None, 0.0) is None


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.25), (3.0, 3.25), (5.0, 5.25), (6.0, None)])
def test_up_to_five_seconds_of_retry_after_are_waited_for_and_then_the_jitter(
    asked: float, waited: float | None
) -> None:
    assert delay_seconds(1, 0.5, asked, 0.0) == waited


def test_nothing_is_tried_again_after_thirty_seconds_of_failing() -> None:
    assert delay_seconds(1, 0.0, None, 29.8) is not None
    assert delay_seconds(1, 0.0, None, 29.95) is None


def test_repetitions_are_a_fifth_of_all_requests_in_the_long_run() -> None:
    budget = RetryBudget()
    while budget.spend():
        pass

    repeated = 0
    for _ in range(1000):
        budget.earn()
        repeated += budget.spend()

    assert 195 <= repeated <= 200


def test_only_so_many_repetitions_are_saved_up() -> None:
    budget = RetryBudget(reserve=3)
    for _ in range(1000):
        budget.earn()

    assert [budget.spend() for _ in range(4)] == [True, True, True, False]

"""What keeps failing is left alone, tried now and then, and taken up again at its first answer."""

from gateway.cos.breaker import Breaker


def opened(at: float) -> Breaker:
    breaker = Breaker()
    for number in range(10):
        breaker.failed(at - 9 + number)
    return breaker


def test_ten_failures_in_a_row_over_five_seconds_open_it() -> None:
    breaker = Breaker()

    assert [breaker.failed(100.0 + number) for number in range(10)] == [False] * 9 + [True]
    assert breaker.turn(109.5) == 0.5


def test_a_burst_of_failures_is_left_to_repetitions() -> None:
    breaker = Breaker()
    for _ in range(1000):
        breaker.failed(100.0)

    assert breaker.turn(100.1) == 0.0


def test_an_answer_in_between_begins_the_row_anew() -> None:
    breaker = Breaker()
    for number in range(100):
        breaker.failed(100.0 + number)
        if number % 9 == 8:
            breaker.answered()

    assert not breaker.is_open


def test_one_request_is_tried_after_one_second_then_two_then_every_four() -> None:
    breaker = opened(at=100.0)
    tried = []
    for tenth in range(150):
        now = 100.0 + tenth / 10
        if breaker.turn(now) == 0:
            tried.append(now)
            breaker.failed(now)

    assert tried == [101.0, 103.0, 107.0, 111.0]


def test_the_first_answer_closes_it_and_the_next_outage_begins_with_a_second() -> None:
    breaker = opened(at=100.0)
    assert breaker.turn(105.0) == 0.0

    assert breaker.answered()
    assert not breaker.answered()
    assert breaker.turn(105.0) == 0.0
    again = [breaker.failed(200.0 + number) for number in range(10)]
    assert again[-1]
    assert breaker.turn(209.0) == 1.0

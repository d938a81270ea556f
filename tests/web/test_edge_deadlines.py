from gateway.domain.errors import BodyTimeout, BodyTooSlow, GatewayError
from gateway.web.edge_deadlines import BodyPace, Deadlines

DEADLINES = Deadlines(body_idle=8, body_rate=1000)  # looked at every second, averaged over 16


def judged(received: list[int], *, held_back: bool = False, rate: int = 1000) -> list[GatewayError | None]:
    """The verdict of each second, at whose end so much had come."""
    pace = BodyPace(Deadlines(body_idle=8, body_rate=rate), 100.0, 0)
    return [pace.look(101.0 + second, came, held_back=held_back) for second, came in enumerate(received)]


def kinds(verdicts: list[GatewayError | None]) -> list[type[GatewayError] | None]:
    return [None if verdict is None else type(verdict) for verdict in verdicts]


def test_a_body_that_stands_still_is_given_up_after_the_idle_time() -> None:
    assert kinds(judged([5000] * 9)) == [None] * 8 + [BodyTimeout]


def test_a_body_of_which_nothing_ever_came_is_given_up_as_well() -> None:
    assert kinds(judged([0] * 8)) == [None] * 7 + [BodyTimeout]


def test_a_body_that_drips_is_given_up_after_the_time_of_the_average() -> None:
    assert kinds(judged(list(range(1, 17)))) == [None] * 15 + [BodyTooSlow]


def test_a_body_at_the_least_rate_goes_on() -> None:
    assert kinds(judged([1000 * second for second in range(1, 100)])) == [None] * 99


def test_what_came_fast_at_first_does_not_pay_for_a_drip_later() -> None:
    verdicts = judged([10_000_000 + second for second in range(40)])

    assert kinds(verdicts).index(BodyTooSlow) == 31


def test_with_a_rate_of_0_a_drip_is_let_be_but_silence_is_not() -> None:
    assert kinds(judged(list(range(1, 100)), rate=0)) == [None] * 99
    assert BodyTimeout in kinds(judged([1] * 10, rate=0))


def test_neither_silence_nor_pace_is_held_against_a_client_that_is_held_back() -> None:
    assert kinds(judged([0] * 100, held_back=True)) == [None] * 100


def test_a_process_that_was_stopped_does_not_blame_the_client() -> None:
    pace = BodyPace(DEADLINES, 100.0, 0)

    assert pace.look(101.0, 10, held_back=False) is None
    assert pace.look(1000.0, 10, held_back=False) is None
    assert kinds([pace.look(1001.0 + second, 10, held_back=False) for second in range(8)])[-1] is BodyTimeout

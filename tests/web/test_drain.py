import pytest

from gateway.domain.errors import Draining
from gateway.web.drain import Drain


def test_a_process_that_serves_refuses_nothing() -> None:
    drain = Drain()

    drain.require_open()

    assert not any((drain.is_unready, drain.closes, drain.refuses, drain.ends))


def test_what_comes_too_late_can_be_sent_again_elsewhere() -> None:
    drain = Drain()
    drain.refuses = True

    with pytest.raises(Draining) as refused:
        drain.require_open()
    assert refused.value.retryable
    assert Drain.ended().code == "server_draining"


def test_what_is_left_of_the_limit_never_exceeds_what_was_asked_for() -> None:
    drain = Drain()
    assert drain.seconds_left(30) == 30

    drain.set_limit(10)
    assert 9 < drain.seconds_left(30) <= 10
    assert drain.seconds_left(2) == 2

    drain.set_limit(0)
    assert drain.seconds_left(30) == 0

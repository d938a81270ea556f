"""Bodies under way: so many in all, so many of one subject, and ended when their caller is good no more."""

from contextlib import ExitStack
from typing import Any

import pytest

from gateway.domain.errors import GatewayError, Overloaded, TokenExpired, TooManyUploads
from gateway.domain.policy import Caller, Policy
from gateway.web.receptions import Receptions, refusal_of

ALICE, BOB = (Caller(name, Policy(), 2e9) for name in ("alice", "bob"))


@pytest.mark.promise(21)
def test_a_subject_has_so_many_bodies_at_once_and_another_has_its_own() -> None:
    receptions = Receptions(10, 2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(receptions.receiving(ALICE, {}))

        with pytest.raises(TooManyUploads) as refused, receptions.receiving(ALICE, {}):
            pass
        stack.enter_context(receptions.receiving(BOB, {}))

    assert refused.value.retry_after_seconds == 1
    assert len(receptions) == 0
    with receptions.receiving(ALICE, {}):
        assert len(receptions) == 1


@pytest.mark.promise(21)
def test_a_process_has_so_many_bodies_at_once() -> None:
    receptions = Receptions(1, 2)

    with receptions.receiving(ALICE, {}), pytest.raises(Overloaded) as refused, receptions.receiving(BOB, {}):
        pass

    assert refused.value.retry_after_seconds == 1
    assert len(receptions) == 0


def test_a_body_that_fails_is_counted_no_longer() -> None:
    receptions = Receptions(1, 1)

    with pytest.raises(ZeroDivisionError), receptions.receiving(ALICE, {}):
        raise ZeroDivisionError

    with receptions.receiving(ALICE, {}):
        pass


def test_who_meets_an_objection_is_refused_from_the_next_chunk_on() -> None:
    receptions, alices, bobs = Receptions(10, 10), dict[str, Any](), dict[str, Any]()

    def objection(caller: Caller) -> GatewayError | None:
        return TokenExpired() if caller is ALICE else None

    with receptions.receiving(ALICE, alices), receptions.receiving(BOB, bobs):
        assert refusal_of(alices) is None
        receptions.judge(objection)

        assert isinstance(refusal_of(alices), TokenExpired)
        assert refusal_of(bobs) is None
    assert refusal_of({}) is None

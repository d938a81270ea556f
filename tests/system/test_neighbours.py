"""What the storm finds about its hostile tenants is judged: S5, S6, F1, F2. The storm itself: test_storm.py."""

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.system.cheap_calls import Call, Honest, ask
from tests.system.hostile_process import Turns
from tests.system.neighbours import (
    FEWEST_CALLS,
    FORMULA_BYTES,
    REDIS_MOST_BYTES,
    REDIS_SHARES_BYTES,
    SETTLE_SECONDS,
    SLOWER_LEAST_SECONDS,
    SLOWER_MOST,
    SOMEWHERE,
    Disturbance,
    Felt,
    is_for_others,
)
from tests.system.processes import free_port

QUICK: Final = [0.01] * FEWEST_CALLS
WELL: Final = Felt(
    alone=QUICK,
    beside=QUICK,
    answered=1000,
    uploading=Counter({"alone": FEWEST_CALLS, "beside": FEWEST_CALLS}),
    peak_bytes=FORMULA_BYTES,
    redis_bytes=REDIS_SHARES_BYTES,
)
HURT: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "slow": ("cheap calls may take", {"beside": [SLOWER_LEAST_SECONDS + 0.01] * FEWEST_CALLS}),
    "refused": ("refused for others' sake", {"refused": Counter({"429 rate_limited": 11})}),
    "503": ("answered 503", {"uploading": Counter({"alone": FEWEST_CALLS, "beside": 300, "503 beside": 31})}),
    "failed": ("failed outside of faults", {"failed": Counter({"503 state_store_unavailable": 11})}),
    "unexpected": ("a hostile tenant was answered", {"answers": Counter({"500 internal": 1})}),
    "memory": ("more memory", {"peak_bytes": FORMULA_BYTES + 1}),
    "redis": ("more in Redis", {"redis_bytes": REDIS_SHARES_BYTES + 1}),
}


def test_f1_f2_s5_s6_a_storm_that_hurts_nobody_passes() -> None:
    WELL.judge()
    slow = [SLOWER_LEAST_SECONDS] * FEWEST_CALLS
    replace(WELL, alone=slow, beside=[SLOWER_MOST * SLOWER_LEAST_SECONDS] * FEWEST_CALLS).judge()
    assert REDIS_SHARES_BYTES < REDIS_MOST_BYTES


@pytest.mark.parametrize("row", HURT)
def test_f1_f2_s5_s6_a_storm_that_hurts_somebody_fails(row: str) -> None:
    sentence, felt = HURT[row]

    with pytest.raises(AssertionError, match=sentence):
        replace(WELL, **felt).judge()


def test_hostile_tenants_are_at_work_every_other_turn() -> None:
    turns = Turns(began=100.0, end=117.0, seconds=5.0)

    at_work = [now for now in range(95, 125) if turns.at_work(now)]

    assert at_work == [105, 106, 107, 108, 109, 115, 116]
    assert (turns.so_far(107.0), turns.left(107.0), turns.left(115.5)) == (2.0, 3.0, 1.5)


@pytest.mark.parametrize(
    ("gateway", "began", "seconds", "expected"),
    [
        (1, 9.0, 0.5, False),
        (1, 9.0, 1.5, True),
        (1, 10.5, 0.1, True),
        (1, 12.0 + SETTLE_SECONDS / 2, 0.1, True),
        (1, 12.1 + SETTLE_SECONDS, 0.1, False),
        (2, 10.5, 0.1, False),
        (SOMEWHERE, 10.5, 0.1, True),
    ],
)
def test_a_call_that_meets_a_fault_is_not_counted(gateway: int, began: float, seconds: float, expected: bool) -> None:
    call = Call(gateway, began, seconds, 200, "")

    assert Disturbance(1, 10.0, 12.0).meets(call) is expected
    assert Disturbance(None, 10.0, 12.0).meets(call) is (expected or gateway == 2)


def test_what_is_refused_for_others_is_told_from_what_fails() -> None:
    assert is_for_others(429, "rate_limited")
    assert is_for_others(503, "overloaded")
    assert not is_for_others(503, "state_store_unavailable")
    assert not is_for_others(409, "task_paused")


def test_a_gateway_that_does_not_answer_is_a_call_without_a_status() -> None:
    calls = asyncio.run(ask(Honest([free_port()], ["token"], time.monotonic() + 0.1)))

    assert calls
    assert {call.status for call in calls} == {0}

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.task import TaskId
from gateway.web.progress_pace import Pace


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200)), max_size=60))
def test_no_task_is_told_more_than_once_in_a_gap_and_no_last_change_is_forgotten(
    steps: list[tuple[str, int]],
) -> None:
    pace: Pace[TaskId] = Pace(250)
    now = 0
    taken: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    last_change: dict[str, int] = {}

    def take_until(end: int) -> None:
        nonlocal now
        while (turn := pace.next_turn(now)) is not None and turn <= end:
            now = max(now, int(turn))
            for task_id in pace.take(now, 20):
                taken[task_id].append(now)
        now = end

    for task_id, pause in steps:
        pace.note([TaskId(task_id)])
        last_change[task_id] = now
        take_until(now + pause)
    take_until(now + 250)

    for task_id, at in last_change.items():
        assert taken[task_id][-1] >= at
        assert taken[task_id][-1] - at <= 250
        assert all(b - a >= 250 for a, b in pairwise(taken[task_id]))


def test_what_is_over_the_most_waits_for_the_next_turn() -> None:
    pace: Pace[TaskId] = Pace(0.25)
    pace.note([TaskId("a"), TaskId("b"), TaskId("c")])

    assert pace.take(0.0, 2) == ["a", "b"]
    assert pace.next_turn(0.0) == 0.0
    assert pace.take(0.0, 2) == ["c"]
    assert pace.next_turn(0.0) is None


def test_what_changes_during_a_turn_has_the_next_one() -> None:
    pace: Pace[TaskId] = Pace(0.25)
    pace.note([TaskId("a"), TaskId("b")])
    first = pace.take(0.0, 1)
    pace.note([TaskId("a")])

    assert first + pace.take(0.1, 9) == ["a", "b"]
    assert pace.next_turn(0.1) == 0.25
    assert (pace.take(0.2, 9), pace.take(0.25, 9)) == ([], ["a"])


def test_a_rest_holds_up_a_turn_that_has_begun() -> None:
    pace: Pace[TaskId] = Pace(0.25)
    pace.note([TaskId("a"), TaskId("b")])
    pace.take(0.0, 1)
    pace.rest(1.0)

    assert (pace.next_turn(0.5), pace.take(0.9, 1), pace.take(1.0, 1)) == (1.0, [], ["b"])

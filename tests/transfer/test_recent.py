"""What was found out of late is known for a while."""

from gateway.transfer.recent import MOST, Recent


def test_a_member_is_forgotten_after_its_time() -> None:
    now = 5.0
    recent: Recent[str] = Recent(10, lambda: now)
    recent.add("a")
    now = 14.9
    assert "a" in recent
    assert "b" not in recent
    recent.add("b")
    now = 15.0
    assert "a" not in recent
    assert "b" in recent


def test_of_too_many_the_oldest_are_forgotten() -> None:
    recent: Recent[int] = Recent(10, lambda: 0.0)
    for number in range(MOST):
        recent.add(number)
    recent.add(0)
    recent.add(MOST)

    assert [number in recent for number in (0, 1, 2, MOST)] == [True, False, True, True]

"""How fast a bucket is asked once COS has said SlowDown. Pure: the clock is the caller's.

Additive increase, multiplicative decrease. What is limited is how many requests begin in a second, which is what COS
counts (doc 436/14518); bodies that are under way go on.
"""

from typing import Final

_FALL: Final = 0.7
_RISE_PER_SECOND: Final = 0.05
_LEAST_SHARE: Final = 0.05
_LEAST_PER_SECOND: Final = 10.0
_FALL_EVERY_SECONDS: Final = 1.0
_MAX_HOLD_SECONDS: Final = 10.0


class Pace:
    """The rate of requests to one bucket: without limit until COS asks to slow down.

    A SlowDown takes the rate to 70 % of what it was, at most once a second, since all that is in flight hears the same;
    and nothing begins before Retry-After is over, up to 10 s. Each second without one adds a twentieth of the rate at
    which COS first complained; back at that rate the limit is gone. 10 requests a second always pass.

    Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._meter = _Meter()
        self._share = 1.0
        self._usual_per_second = 0.0
        self._fell_at = self._risen_at = self._next_at = float("-inf")

    def share(self, now: float) -> float:
        """The present rate as a share of the usual one; 1 is no limit."""
        if self._share < 1 and now > self._risen_at:
            self._share = min(1.0, self._share + (now - self._risen_at) * _RISE_PER_SECOND)
            self._risen_at = now
        return self._share

    def turn(self, now: float, patience_seconds: float) -> float:
        """Seconds until one more request may begin; beyond *patience_seconds* its turn is not kept."""
        wait = 0.0
        if self.share(now) < 1:
            at = max(now, self._next_at)
            wait = at - now
            if wait > patience_seconds:
                return wait
            self._next_at = at + 1 / max(_LEAST_PER_SECOND, self._share * self._usual_per_second)
        self._meter.count(now)
        return wait

    def slow_down(self, now: float, retry_after_seconds: float | None) -> None:
        """COS asked to slow down."""
        share = self.share(now)
        if share >= 1:
            self._usual_per_second = self._meter.per_second(now)
        if now - self._fell_at >= _FALL_EVERY_SECONDS:
            self._share = max(_LEAST_SHARE, share * _FALL)
            self._fell_at = now
        until = now + min(retry_after_seconds or 0.0, _MAX_HOLD_SECONDS)
        self._next_at = max(self._next_at, until)
        self._risen_at = max(self._risen_at, until)


class _Meter:
    """Events per second, over the last one to two seconds."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0
        self._before = 0

    def count(self, now: float) -> None:
        self._turn_to(int(now))
        self._count += 1

    def per_second(self, now: float) -> float:
        self._turn_to(int(now))
        return max(float(self._count), self._before)

    def _turn_to(self, second: int) -> None:
        if second != self._second:
            self._before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0

"""Whether a bucket that fails every time is asked at all. Pure: the clock is the caller's."""

from typing import Final

_FAILURES: Final = 10
_FAILING_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 4.0


class Breaker:
    """Opens when ten requests in a row failed over five seconds or more; any answer of COS closes it.

    While it is open one request is let through after 1 s, then 2 s, then every 4 s, so that uploads go on within 5 s
    of COS's return. A burst of failures, as when a load balancer drops its connections, is left to repetitions.

    Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._failing_since = 0.0
        self._pause_seconds = 0.0
        self._trial_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._pause_seconds > 0

    def turn(self, now: float) -> float:
        """Seconds until a request may be tried; 0: this one may."""
        if not self.is_open:
            return 0.0
        if now < self._trial_at:
            return self._trial_at - now
        self._pause_seconds = min(_MAX_PAUSE_SECONDS, self._pause_seconds * 2)
        self._trial_at = now + self._pause_seconds
        return 0.0

    def failed(self, now: float) -> bool:
        """COS gave no answer, or one of its own failure; whether that opened the breaker."""
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        lasting = self._failures >= _FAILURES and now - self._failing_since >= _FAILING_SECONDS
        if self.is_open or not lasting:
            return False
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._trial_at = now + self._pause_seconds
        return True

    def answered(self) -> bool:
        """COS answered; whether that closed the breaker."""
        was_open, self._failures, self._pause_seconds = self.is_open, 0, 0.0
        return was_open

"""When a failed call to COS is tried again. Pure: the clock and the dice are the caller's."""

from typing import Final

MAX_ATTEMPTS: Final = 3
_FIRST_CEILING_SECONDS: Final = 0.5
_MIN_DELAY_SECONDS: Final = 0.1
_MAX_DELAY_SECONDS: Final = 2.0
_MAX_RETRY_AFTER_SECONDS: Final = 5.0
_MAX_TOTAL_SECONDS: Final = 30.0


class RetryBudget:
    """Lets repetitions be a share of all requests, so that a brown-out of COS is never multiplied.

    Args:
        share: repetitions earned by one request.
        reserve: repetitions that may be saved up, and that there are at the start.
    """

    def __init__(self, share: float = 0.2, reserve: float = 20.0) -> None:
        self._share = share
        self._reserve = reserve
        self._saved = reserve

    def earn(self) -> None:
        """Count a first attempt."""
        self._saved = min(self._reserve, self._saved + self._share)

    def spend(self) -> bool:
        """Take one repetition; False: there is none left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


def delay_seconds(
    attempt: int, dice: float, retry_after_seconds: float | None, failing_for_seconds: float
) -> float | None:
    """How long to wait after failed attempt number *attempt* (from 1), or None: give up.

    Args:
        dice: a random number in [0, 1): full jitter under a ceiling that doubles.
        retry_after_seconds: what COS asked for; up to 5 s are waited for, and then the jitter, lest all return at once.
            With more it is the client who waits.
        failing_for_seconds: time since the first failure.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    ceiling = min(_MAX_DELAY_SECONDS, _FIRST_CEILING_SECONDS * 2 ** (attempt - 1))
    delay = max(_MIN_DELAY_SECONDS, dice * ceiling)
    if retry_after_seconds is not None:
        if retry_after_seconds > _MAX_RETRY_AFTER_SECONDS:
            return None
        delay += retry_after_seconds
    return delay if failing_for_seconds + delay <= _MAX_TOTAL_SECONDS else None

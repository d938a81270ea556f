"""Fails at once while a Redis is known not to answer, and lets one call at a time try whether it is back."""

import time
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

TRY_SECONDS: Final = 0.25
"""How often a call may try a Redis that does not answer: it is noticed so soon after it came back."""


class RedisDown(RedisError):
    """Redis did not answer a moment ago; nothing was sent."""


class Breaker:
    """What is known of one Redis from the calls to it.

    It opens when a call got no answer and none other did since that one began: one slow answer among quick ones
    says nothing. While it is open one call in ``TRY_SECONDS`` passes; the first answer closes it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered_at = 0.0
        self._try_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are refused just now."""
        return self._try_at is not None

    def admit(self) -> None:
        """Raise RedisDown unless a call may be tried now."""
        if self._try_at is not None:
            now = self._clock()
            if now < self._try_at:
                raise RedisDown("Redis does not answer.")
            self._try_at = now + TRY_SECONDS

    def began(self) -> float:
        """When a call begins, for ``failed``."""
        return self._clock()

    def answered(self) -> None:
        """A call got an answer, whatever it said."""
        self._answered_at = self._clock()
        self._try_at = None

    def failed(self, began_at: float) -> None:
        """A call that began at *began_at* got no answer."""
        if self._answered_at < began_at and self._try_at is None:
            self._try_at = self._clock() + TRY_SECONDS

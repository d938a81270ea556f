"""Deadlines that count only time in which this process could have noticed what it waits for.

A loop that stood still (a long callback, a stopped or throttled process) finds its timers due before it has looked at
its sockets, where the answer may have been waiting. Time is therefore counted in a few steps: one that ends late counts
as if it had ended in time, and behind a late one the sockets are looked at once more.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

STEPS: Final = 4
LEAST_STEP_SECONDS: Final = 0.25
LATE_SECONDS: Final = 0.05
"""A timer that comes so much later than it was due was held up by us."""
EXTRA_STEPS: Final = 8
"""Of a loop that is always late the time ends all the same."""


class FairTimer:
    """Calls *expire* once *seconds* have been counted, unless it is canceled before."""

    __slots__ = ("_due", "_expire", "_extra_steps", "_handle", "_left", "_loop", "_step")

    def __init__(self, seconds: float, expire: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expire = expire
        self._left = seconds
        self._extra_steps = EXTRA_STEPS
        self._step = max(LEAST_STEP_SECONDS, seconds / STEPS)
        self._arm(min(self._step, seconds))

    def cancel(self) -> None:
        """Count no more."""
        self._handle.cancel()

    def _arm(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._handle = self._loop.call_later(seconds, self._count, seconds)

    def _count(self, seconds: float) -> None:
        was_late = time.monotonic() - self._due > LATE_SECONDS
        self._left -= seconds
        if self._left > 0:
            self._arm(min(self._step, self._left))
        elif was_late and self._extra_steps:
            self._left, self._extra_steps = 0, self._extra_steps - 1
            self._arm(LEAST_STEP_SECONDS)
        else:
            self._expire()


class FairTimeout:
    """``asyncio.timeout`` whose *seconds* a ``FairTimer`` counts; None waits for ever. Raises TimeoutError."""

    __slots__ = ("_seconds", "_timeout", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._timer: FairTimer | None = None

    def restart(self, seconds: float | None) -> None:
        """Count *seconds* from now, whatever was counted before."""
        self._stop()
        if seconds is not None:
            self._timer = FairTimer(seconds, self._expire)

    def expired(self) -> bool:
        """Whether the time is over."""
        return self._timeout.expired()

    async def __aenter__(self) -> "FairTimeout":
        await self._timeout.__aenter__()
        self.restart(self._seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        await self._timeout.__aexit__(kind, error, trace)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._timeout.reschedule(asyncio.get_running_loop().time())

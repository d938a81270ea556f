"""Deadlines that count only time in which this process could have noticed what it waits for.

A loop that stood still (a long callback, a stopped or throttled process) finds its timers due before it has looked at
its sockets, where the answer may have been waiting. Time is therefore counted in a few steps: one that ends late counts
as if it had ended in time, and behind a late one the sockets are looked at once more.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

STEPS: Final = 4
LEAST_STEP_SECONDS: Final = 0.25
LATE_SECONDS: Final = 0.1
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
    """``asyncio.timeout`` whose *seconds* a ``FairTimer`` counts; None waits for ever. Raises TimeoutError.

    Every call to Redis has two of them, so it is not put on top of ``asyncio.timeout``, which doubles the cost.
    """

    __slots__ = ("_cancelling", "_has_expired", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[Any] | None = None
        self._timer: FairTimer | None = None
        self._has_expired = False

    def restart(self, seconds: float | None) -> None:
        """Count *seconds* from now, whatever was counted before; nothing, once the time or the block is over."""
        self._stop()
        if seconds is not None and self._task is not None and not self._has_expired:
            self._timer = FairTimer(seconds, self._expire)

    def expired(self) -> bool:
        """Whether the time is over."""
        return self._has_expired

    async def __aenter__(self) -> "FairTimeout":
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timeout needs a task")
        self._task, self._cancelling = task, task.cancelling()
        if self._seconds is not None:
            self._timer = FairTimer(self._seconds, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        task, self._task = self._task, None
        assert task is not None
        if self._has_expired and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error  # nobody else cancelled it

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._has_expired = True
        if self._task is not None:
            self._task.cancel()

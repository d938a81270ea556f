"""Fails at once while a Redis is known not to answer, and looks beside the calls whether it is back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from gateway.fair_timeout import FairTimeout

log = logging.getLogger(__name__)

TRY_SECONDS: Final = 0.25
"""How often a Redis that does not answer is tried: it is noticed so soon after it came back."""


DOUBT_SECONDS: Final = 0.25
"""How long a Redis that kept a call waiting may take over a simple question before it counts as down."""


class RedisDown(RedisError):
    """Redis did not answer a moment ago; nothing was sent."""


class Breaker:
    """What is known of one Redis from the calls to it.

    It opens when a connection is refused, or when a call has waited in vain and the question asked in doubt does too,
    and no call has had an answer since they began: one late answer says nothing. *probe* asks something, and raises
    RedisError or OSError while Redis does not answer; it is called until it does, so that no caller has to wait for
    that.
    """

    def __init__(self, probe: Callable[[], Awaitable[object]]) -> None:
        self._probe = probe
        self._answered_at = 0.0
        self._doubting: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are refused."""
        return self._probing is not None

    def admit(self) -> None:
        """Raise RedisDown while Redis is known not to answer."""
        if self._probing is not None:
            raise RedisDown("Redis does not answer.")

    def answered(self) -> None:
        """A call got an answer, whatever it said."""
        self._answered_at = time.monotonic()

    def timed_out(self, began_at: float) -> None:
        """A call that began at *began_at*, by ``time.monotonic``, waited in vain."""
        if self._answered_at < began_at and self._doubting is None and self._probing is None:
            self._doubting = asyncio.create_task(self._ask_in_doubt(), name="redis doubt")

    def failed(self, began_at: float) -> None:
        """A call that began at *began_at*, by ``time.monotonic``, could not even be sent."""
        if self._answered_at < began_at and self._probing is None:
            log.warning("redis does not answer")
            self._probing = asyncio.create_task(self._try_until_answered(), name="redis probe")

    async def aclose(self) -> None:
        """Try no more."""
        tasks = [task for task in (self._doubting, self._probing) if task is not None]
        self._doubting = self._probing = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _ask_in_doubt(self) -> None:
        began_at = time.monotonic()
        try:
            async with FairTimeout(DOUBT_SECONDS):
                await self._probe()
        except (RedisError, OSError):  # TimeoutError is an OSError
            self.failed(began_at)
        else:
            self.answered()
        finally:
            self._doubting = None

    async def _try_until_answered(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                await self._probe()
                break
            await asyncio.sleep(TRY_SECONDS)
        self._probing = None
        self.answered()
        log.warning("redis answers again")

"""What each caller may take of this process, counted by cost: a request is 1, and more by what it parses and loads.

A unit is about half a millisecond of CPU time. So a limit of units a second is one of the share of a core, whatever
requests it is spent on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.errors import RateLimited
from gateway.transfer.ports import Clock
from gateway.web.rate_table import RateTable

BURST_SECONDS: Final = 20
"""A bucket holds what its rate gives in so long: what a busy page asks for at once is no flood."""
PARSED_BYTES: Final = 4096
LOADED_TASKS: Final = 10
"""What costs as much as a request does: so many bytes of a list that is parsed, so many tasks that are loaded."""
TURN_SECONDS: Final = 5.0
"""How long a caller's expensive request waits for the one before it."""
MOST_WAITING: Final = 16
_RETRY_SECONDS: Final = 1.0
_MINUTE: Final = 60.0


@dataclass(slots=True)
class _Turn:
    """The expensive requests of one owner: one is at work, the others wait."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Spending:
    """The ``Costs`` of ``transfer.costs``, and what doors spend for their callers.

    Args:
        units: a second, for each owner; 0 bounds nothing. Likewise the other rates.
        looks: calls to COS that only look, a second.
        unknown_ids: ids that are not there, a minute.
        clock: seconds that never go back.
    """

    def __init__(self, units: float, looks: float, unknown_ids: float, clock: Clock) -> None:
        self._units = steady(units, clock)
        self._looks = steady(looks, clock)
        self._unknown_ids = RateTable(unknown_ids / _MINUTE, unknown_ids, clock)
        self._turns: dict[str, _Turn] = {}

    def ask(self, owner: str) -> None:
        """One more request of *owner*. Raises RateLimited."""
        spend(self._units, owner)

    def parse(self, owner: str, size: int) -> None:
        """*size* bytes of *owner*'s are about to be parsed. Raises RateLimited."""
        spend(self._units, owner, size / PARSED_BYTES)

    @asynccontextmanager
    async def parsing(self, owner: str, size: int) -> AsyncIterator[None]:
        """``parse``, and do it in a ``turn``. Raises RateLimited."""
        self.parse(owner, size)
        async with self.turn(owner):
            yield

    def load(self, owner: str, tasks: int) -> None:
        """See ``Costs``."""
        spend(self._units, owner, tasks / LOADED_TASKS)

    def loaded(self, owner: str, tasks: int) -> None:
        """See ``Costs``."""
        self._units.owe(owner, tasks / LOADED_TASKS)

    def look(self, owner: str) -> None:
        """See ``Costs``."""
        spend(self._looks, owner)

    def may_look(self, owner: str) -> None:
        """See ``Costs``."""
        spend(self._looks, owner, 0)

    def looked(self, owner: str, pages: int = 1) -> None:
        """See ``Costs``."""
        self._looks.owe(owner, pages)

    def guess(self, owner: str) -> None:
        """See ``Costs``."""
        spend(self._unknown_ids, owner, 0)

    def missed(self, owner: str) -> None:
        """See ``Costs``."""
        spend(self._unknown_ids, owner)

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Do expensive work for *owner*: one request at a time, so that others wait behind one of them at most.

        Raises:
            RateLimited: *owner*'s others take long, or too many wait already.
        """
        turn = self._turns.setdefault(owner, _Turn())
        if turn.users > MOST_WAITING:
            raise _too_many()
        turn.users += 1
        try:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await turn.lock.acquire()
            except TimeoutError:
                raise _too_many() from None
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[owner]


def steady(per_second: float, clock: Clock, seconds: float = BURST_SECONDS) -> RateTable:
    """A table of buckets that take so many *seconds* to fill."""
    return RateTable(per_second, per_second * seconds, clock)


def spend(table: RateTable, name: str, amount: float = 1) -> None:
    """Spend *amount* of *name*'s bucket. Raises RateLimited when there is not 1 in it."""
    wait = table.spend(name, amount)
    if wait:
        raise RateLimited("More was asked for than the limit allows.", retry_after_seconds=wait)


def _too_many() -> RateLimited:
    detail = "Earlier requests of the same caller that take much work are not done yet."
    return RateLimited(detail, retry_after_seconds=_RETRY_SECONDS)

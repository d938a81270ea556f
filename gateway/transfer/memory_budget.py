"""Memory that many owners share: whatever is kept takes a lease first, and whoever holds least comes first."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from gateway.domain.errors import GatewayError, Overloaded, RateLimited

SHARE: Final = 3
"""An owner may hold up to so many times what is free: alone three quarters of the budget, two of them three sevenths
each. So there is always some for whoever comes next."""
RETRY_SECONDS: Final = 5.0


class Lease:
    """``size`` bytes of a budget until ``release``, which may be called again, or until a ``with`` block ends."""

    __slots__ = ("_budget", "_owner", "size")

    def __init__(self, budget: "MemoryBudget", size: int, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self.size = size

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    async def resize(self, size: int, timeout_seconds: float) -> None:
        """Hold *size* bytes from now on; what is more is waited for.

        Raises:
            Overloaded, RateLimited: as ``MemoryBudget.take``; the lease is then what it was.
        """
        if size > self.size:
            more = await self._budget.take(size - self.size, self._owner, timeout_seconds)
            self.size, more.size = self.size + more.size, 0
        elif size < self.size:
            less, self.size = self.size - size, size
            self._budget.give_back(less, self._owner)

    def try_resize(self, size: int) -> bool:
        """Hold *size* bytes from now on, if they are to be had without waiting; whether they are."""
        more = size - self.size
        if more > 0:
            lease = self._budget.try_take(more, self._owner)
            if lease is None:
                return False
            lease.size = 0
        elif more < 0:
            self._budget.give_back(-more, self._owner)
        self.size = size
        return True

    def release(self) -> None:
        """Give the bytes back."""
        size, self.size = self.size, 0
        if size:
            self._budget.give_back(size, self._owner)


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """Somebody who waits for memory."""

    size: int
    owner: str
    granted: "asyncio.Future[None]"


class MemoryBudget:
    """Bytes that the owners of this process may hold together. An owner is a subject, or an address without one.

    Args:
        limit_bytes: the whole budget.
        on_short: called whenever somebody asks for more than there is.
        most_waiting: how many may wait at once; one more is refused without waiting.
    """

    def __init__(
        self, limit_bytes: int, on_short: Callable[[], None] = lambda: None, *, most_waiting: float = inf
    ) -> None:
        self.limit_bytes = limit_bytes
        self._on_short = on_short
        self._most_waiting = most_waiting
        self.used_bytes = 0
        self._held: Counter[str] = Counter()
        self._waiting: list[_Turn] = []
        """In the order of coming."""

    def open(self, owner: str) -> Lease:
        """A lease of nothing yet, to be resized as it turns out what there is to hold."""
        return Lease(self, 0, owner)

    def try_take(self, size: int, owner: str) -> Lease | None:
        """A lease of *size* bytes for *owner*; None when the budget, the owner's share or the queue forbid it now."""
        held = self._held.get(owner, 0)
        if not self._allows(size, owner) or self._stands_back(held):
            self._on_short()
            return None
        return self._lease(size, owner)

    async def take(self, size: int, owner: str, timeout_seconds: float) -> Lease:
        """A lease of *size* bytes for *owner*, waited for.

        Raises:
            RateLimited: it was not to be had within *timeout_seconds* because *owner* holds so much.
            Overloaded: it was not to be had because all together do, or too many wait.
        """
        if (lease := self.try_take(size, owner)) is not None:
            return lease
        if size > self.limit_bytes or len(self._waiting) >= self._most_waiting:
            raise self.refusal(size, owner)
        turn = _Turn(size, owner, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_seconds):
                await turn.granted
        except BaseException as error:
            if turn.granted.done() and not turn.granted.cancelled():
                self.give_back(size, owner)
            else:
                self._waiting.remove(turn)
                self._wake()
            if isinstance(error, TimeoutError):
                raise self.refusal(size, owner) from None
            raise
        return Lease(self, size, owner)

    def give_back(self, size: int, owner: str) -> None:
        """Return *size* bytes of *owner*'s and wake who waits for them."""
        self.used_bytes -= size
        self._held[owner] -= size
        if not self._held[owner]:
            del self._held[owner]
        self._wake()

    def refusal(self, size: int, owner: str) -> GatewayError:
        """What somebody hears who got no *size* bytes in time."""
        if size <= self.limit_bytes - self.used_bytes and not self._allows(size, owner):
            detail = "Earlier requests of the same caller hold as much memory as one caller may."
            return RateLimited(detail, retry_after_seconds=RETRY_SECONDS)
        return Overloaded("No memory became free in time for this request.", retry_after_seconds=RETRY_SECONDS)

    def _stands_back(self, held: int) -> bool:
        """Whether somebody waits who holds no more than *held*: nobody overtakes those."""
        return any(self._held.get(turn.owner, 0) <= held for turn in self._waiting if not turn.granted.cancelled())

    def _allows(self, size: int, owner: str) -> bool:
        left = self.limit_bytes - self.used_bytes - size
        held = self._held.get(owner, 0)
        return left >= 0 and (not held or held + size <= SHARE * left)

    def _lease(self, size: int, owner: str) -> Lease:
        self.used_bytes += size
        self._held[owner] += size
        return Lease(self, size, owner)

    def _wake(self) -> None:
        while turns := [turn for turn in self._waiting if not turn.granted.cancelled()]:
            poorest = min(turns, key=lambda turn: self._held.get(turn.owner, 0))
            if not self._allows(poorest.size, poorest.owner):
                return
            self._waiting.remove(poorest)
            self._lease(poorest.size, poorest.owner)
            poorest.granted.set_result(None)

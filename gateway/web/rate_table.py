"""How often each of many may do something: buckets by name, in this process's memory, for so many names and no more."""

from collections import OrderedDict
from math import inf
from typing import Final

from gateway.transfer.ports import Clock

MAX_NAMES: Final = 65_536
"""Names remembered; whoever was not heard of for longest is forgotten, and begins anew with a full bucket."""

FORGOTTEN_AT_ONCE: Final = 2
"""More than the one that is added: so the table shrinks when fewer names are heard of."""


class RateTable:
    """A bucket for each name, which fills at *per_second* up to *burst*.

    Args:
        per_second: how much a name may spend for long; 0 lets everything pass.
        burst: how much it may spend at once, at least 1.
        clock: seconds that never go back.
    """

    def __init__(self, per_second: float, burst: float, clock: Clock, max_names: int = MAX_NAMES) -> None:
        self._per_second = per_second
        self._burst = max(1.0, burst)
        self._clock = clock
        self._max_names = max_names
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What was left of each name's bucket, and when."""

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, name: str) -> float:
        """How long until *name* may spend again: 0 when it may now. Nothing is spent."""
        kept = self._buckets.get(name)
        if kept is None:
            return 0.0
        left = self._filled(kept, self._clock())
        return 0.0 if left >= 1 else (1 - left) / self._per_second

    def spend(self, name: str, amount: float = 1) -> float:
        """Spend *amount* of *name*'s bucket if there is 1 in it; else spend nothing and tell the seconds to wait.

        More than there is makes a debt, so that what is one request stays one, however much it asks for. Of others,
        those heard of longest ago are forgotten when their buckets are full again, which says nothing.
        """
        if not self._per_second:
            return 0.0
        now = self._clock()
        left = self._filled(self._buckets.get(name, (self._burst, -inf)), now)
        if left < 1:
            return (1 - left) / self._per_second
        self._buckets[name] = (left - amount, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._max_names:
            self._buckets.popitem(last=False)
        self._forget_full(now)
        return 0.0

    def owe(self, name: str, amount: float) -> None:
        """Spend *amount* of *name*'s bucket whatever is in it: nobody knew of it before."""
        if self._per_second and self.spend(name, amount):
            left = self._filled(self._buckets[name], now := self._clock())
            self._buckets[name] = (left - amount, now)

    def _forget_full(self, now: float) -> None:
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self._buckets or self._filled(next(iter(self._buckets.values())), now) < self._burst:
                return
            self._buckets.popitem(last=False)

    def _filled(self, kept: tuple[float, float], now: float) -> float:
        left, at = kept
        return min(self._burst, left + (now - at) * self._per_second)

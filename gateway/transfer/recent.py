"""What was found out of late, for a while and for so many and no more."""

import time
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from gateway.transfer.ports import Clock

MOST: Final = 4096

K = TypeVar("K")


class Recent(Generic[K]):
    """A set whose members are forgotten after *seconds*, or when ``MOST`` newer ones came.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: OrderedDict[K, float] = OrderedDict()

    def __contains__(self, member: K) -> bool:
        return self._clock() < self._until.get(member, 0.0)

    def add(self, member: K) -> None:
        """Remember *member* from now on."""
        self._until[member] = self._clock() + self._seconds
        self._until.move_to_end(member)
        if len(self._until) > MOST:
            self._until.popitem(last=False)

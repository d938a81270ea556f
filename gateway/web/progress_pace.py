"""When changes may be told: what comes meanwhile waits, so that the latest is told of each, and all of it at once."""

from collections.abc import Iterable
from itertools import islice
from typing import Generic, TypeVar

Id = TypeVar("Id", bound=str)


class Pace(Generic[Id]):
    """Which changed tasks, or batches, may be told now. A turn has all that changed before it; ``gap_seconds`` lie
    between the beginnings of two turns.

    Times are monotonic.
    """

    def __init__(self, gap_seconds: float) -> None:
        self.gap_seconds = gap_seconds
        self._pending: dict[Id, None] = {}
        self._turn: dict[Id, None] = {}
        self._free_at = 0.0
        self._rest_until = 0.0

    def note(self, ids: Iterable[Id]) -> None:
        """These have changed."""
        self._pending.update(dict.fromkeys(ids))

    def rest(self, until: float) -> None:
        """Nothing is to be taken before *until*, also of a turn that has begun."""
        self._rest_until = until

    def take(self, now: float, most: int) -> list[Id]:
        """Up to *most* of those whose turn it is; they count as told."""
        if now < self._rest_until:
            return []
        if self._pending and not self._turn and self._free_at <= now:
            self._turn, self._pending = self._pending, {}
            self._free_at = now + self.gap_seconds
        taken = list(islice(self._turn, most))
        for one in taken:
            del self._turn[one]
        return taken

    def next_turn(self, now: float) -> float | None:
        """When there will be something to take; None while nothing has changed."""
        if not self._turn and not self._pending:
            return None
        return max(now, self._rest_until, 0.0 if self._turn else self._free_at)

"""Whether a task may have more parts: what its owner's unfinished tasks weigh, their parts included, is bounded.

Parts of one byte cost their sender nothing and Redis as much as any. The first parts of a task are free; then room is
noted in its owner's ledger ahead of them, for the more of them the more there are, so that hardly any part pays for it.
Each process notes for itself: the ledger then holds what one of them allowed last, and what is there fits in any.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task, TaskId
from gateway.store.ledgers import TASK_BYTES, Ledgers, noted
from gateway.store.redis_calls import RedisCalls

FREE_PARTS: Final = 16
"""What a task may have before its parts are counted."""
ROOM_AHEAD_MOST: Final = 256
FULL_SECONDS: Final = 1.0
"""An owner found at the limit is not looked at again before."""
_REMEMBERED: Final = 8192

StrikeEnded = Callable[[Task], Awaitable[bool]]
"""Strikes off what a task's owner has no longer; whether there was any."""


K = TypeVar("K")
V = TypeVar("V")


class PartRoom:
    """Notes room for parts. *strike_ended* is called when there is none; *monotonic* gives seconds."""

    def __init__(
        self,
        calls: RedisCalls,
        ledgers: Ledgers,
        strike_ended: StrikeEnded,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._strike_ended = strike_ended
        self._monotonic = monotonic
        self._rooms: OrderedDict[TaskId, int] = OrderedDict()
        self._full_until: OrderedDict[str, float] = OrderedDict()

    async def require(self, task: Task, coming: int) -> None:
        """Make room for *coming* parts besides those that *task* has.

        Raises:
            QuotaExceeded: its owner's unfinished tasks weigh too much.
            StateStoreUnavailable: Redis does not answer.
        """
        needed = task.stored_count + coming
        if needed <= self._rooms.get(task.id, FREE_PARTS):
            return
        if self._full_until.get(task.owner, 0.0) > self._monotonic():
            raise self._refusal()
        room = needed + min(max(needed, FREE_PARTS), ROOM_AHEAD_MOST)
        if task.part_count is not None:
            room = max(needed, min(room, task.part_count))
        wanted = replace(task, stored_count=room)
        if not await self._fits(wanted) and not (await self._strike_ended(task) and await self._fits(wanted)):
            _remember(self._full_until, task.owner, self._monotonic() + FULL_SECONDS)
            raise self._refusal()
        _remember(self._rooms, task.id, room)

    async def _fits(self, task: Task) -> bool:
        shares = self._ledgers.shares
        opening = self._ledgers.opening(task, must_fit=True, most_bytes=shares.open_with_parts)
        return noted((await self._calls.in_turn("ledger", [opening]))[0]).fits

    def _refusal(self) -> QuotaExceeded:
        places = self._ledgers.shares.open_with_parts // TASK_BYTES
        return QuotaExceeded(
            f"The subject's unfinished tasks count {places} with their parts, the most they may:"
            " complete or cancel some, and send larger parts."
        )


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)

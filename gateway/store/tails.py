"""Whether there is room for a tail: in its owner's share, and in that of all owners.

A tail is held, not acknowledged: where there is no room it is not kept, and its bytes are sent again.
"""

from collections.abc import Callable
from typing import Final

from gateway.domain.task import TaskId
from gateway.store.ledgers import Ledgers, Noted, noted, noted_at, tail_bytes
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import ALL_TAILS, ledger_keys, task_keys

YOUNG_SECONDS: Final = 30.0
"""A tail noted this lately may be about to be written."""
LOOKED_AT: Final = 200
"""Tails looked at when a ledger is full."""


class Tails:
    """The tails of everybody, by weight. Owners are given as ``owner_key``."""

    def __init__(self, calls: RedisCalls, ledgers: Ledgers, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._clock = clock

    async def make_room(self, owner: str, task_id: TaskId, size: int) -> bool:
        """Note a tail of *size* bytes, which is then written; False: there is no room, and nothing has changed."""
        mine = ledger_keys(owner).tails
        own = await self._note(mine, task_id, size)
        if not own.fits:
            return False
        if (await self._note(ALL_TAILS, task_id, size)).fits:
            return True
        back = self._ledgers.keeping_tail(mine, task_id, own.before_bytes, must_fit=False)
        await self._calls.in_turn("ledger", [back])
        return False

    async def forget(self, owner: str, task_id: TaskId) -> None:
        """The tail is gone."""
        ledgers = (ledger_keys(owner).tails, ALL_TAILS)
        await self._calls.in_turn("ledger", [self._ledgers.striking(ledger, task_id) for ledger in ledgers])

    async def _note(self, ledger: str, task_id: TaskId, size: int) -> Noted:
        call = self._ledgers.keeping_tail(ledger, task_id, tail_bytes(size))
        found = noted((await self._calls.in_turn("ledger", [call]))[0])
        if not found.fits and await self._struck_off(ledger):
            found = noted((await self._calls.in_turn("ledger", [call]))[0])
        return found

    async def _struck_off(self, ledger: str) -> bool:
        """Strike off tails that are gone; whether any was."""
        sample = await self._calls.command("ZRANDMEMBER", ledger, LOOKED_AT, "WITHSCORES")
        until = self._clock() - YOUNG_SECONDS
        old = [
            TaskId(name.decode())
            for name, score in zip(sample[::2], sample[1::2], strict=True)
            if name and noted_at(score) < until
        ]
        sizes = await self._calls.each("tails", [("STRLEN", task_keys(task_id).tail) for task_id in old])
        gone = [task_id for task_id, size in zip(old, sizes, strict=True) if not size]
        if gone:
            await self._calls.in_turn("ledger", [self._ledgers.striking(ledger, *gone)])
        return bool(gone)

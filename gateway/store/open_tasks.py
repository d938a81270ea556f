"""The ledger of an owner's unfinished tasks, looked through for what has ended or is gone when it is full."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.domain.task import Task, TaskId
from gateway.store.ledgers import Ledgers, noted, noted_at
from gateway.store.redis_calls import RedisCalls, ScriptCall
from gateway.store.redis_keys import ledger_keys, owner_key
from gateway.store.task_index import YOUNG_SECONDS
from gateway.transfer.ports import Clock

LOOKED_AT: Final = 1000
"""Tasks looked at when there is no room: up to this many ended ones are all found, above it some may be overlooked."""
FULL_SECONDS: Final = 1.0
"""An owner found at the limit is not looked at again before."""
_REMEMBERED: Final = 8192

LoadMany = Callable[[Sequence[TaskId]], Awaitable[Sequence[Task | None]]]


class OpenTasks:
    """The ledgers of unfinished tasks, and who was found at the limit, which for one instance is always the same.

    Args:
        load_many: the tasks of some ids, None for those that are gone.
        clock, monotonic: Unix time, and seconds that never go back.
    """

    def __init__(
        self,
        calls: RedisCalls,
        ledgers: Ledgers,
        load_many: LoadMany,
        *,
        clock: Clock,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._load_many = load_many
        self._clock = clock
        self._monotonic = monotonic
        self._full_until: OrderedDict[str, float] = OrderedDict()

    async def take(self, task: Task, most_bytes: int) -> bool:
        """Note *task* in its owner's ledger of *most_bytes*; whether there is room, for which what ended is struck off.

        Raises StateStoreUnavailable.
        """
        if self._full_until.get(task.owner, 0.0) > self._monotonic():
            return False
        opening = self._ledgers.opening(task, must_fit=True, most_bytes=most_bytes)
        if await self._fits(opening) or (await self._strike_ended(task) and await self._fits(opening)):
            return True
        self._full_until[task.owner] = self._monotonic() + FULL_SECONDS
        self._full_until.move_to_end(task.owner)
        if len(self._full_until) > _REMEMBERED:
            self._full_until.popitem(last=False)
        return False

    async def _fits(self, opening: ScriptCall) -> bool:
        return noted((await self._calls.in_turn("quota", [opening]))[0]).fits

    async def _strike_ended(self, task: Task) -> bool:
        """Strike off tasks of *task*'s owner that have ended or are gone; whether there were any.

        One that is not there may be about to be created, unless its place is old.
        """
        ledger = ledger_keys(owner_key(task.owner)).open
        sampled: list[bytes] = await self._calls.command("ZRANDMEMBER", ledger, LOOKED_AT + 1, "WITHSCORES")
        places = [
            (TaskId(name.decode()), noted_at(score))
            for name, score in zip(sampled[::2], sampled[1::2], strict=True)
            if name
        ]
        old = max(self._clock(), task.updated_at) - YOUNG_SECONDS
        found = await self._load_many([task_id for task_id, _ in places])
        ended = [
            task_id
            for (task_id, at), now in zip(places, found, strict=True)
            if (now.is_final if now is not None else at < old)
        ]
        if ended:
            await self._calls.in_turn("quota", [self._ledgers.striking(ledger, *ended)])
        return bool(ended)

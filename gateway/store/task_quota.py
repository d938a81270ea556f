"""How much an owner's unfinished tasks may weigh: a ledger that counts 1 for each, and 1 for each KiB beyond.

A task that ends is struck off as it does. Should that be lost, or the task expire, its place is found when the ledger
is full: then a sample of it is looked at, and who has ended makes room. So no crash and no lost message keeps a place.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from redis.asyncio import Redis

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task, TaskId
from gateway.store.ledgers import TASK_BYTES, Ledgers, noted, noted_at
from gateway.store.redis_calls import Observe, RedisCalls
from gateway.store.redis_keys import ledger_keys, owner_key
from gateway.store.task_index import YOUNG_SECONDS
from gateway.transfer.ports import Clock

LOOKED_AT: Final = 1000
"""Tasks looked at when there is no room: up to this many ended ones are all found, above it some may be overlooked."""
FULL_SECONDS: Final = 1.0
"""An owner found at the limit is not looked at again before."""
_REMEMBERED: Final = 1000

LoadMany = Callable[[Sequence[TaskId]], Awaitable[Sequence[Task | None]]]


class RedisTaskQuota:
    """The ``TaskQuota`` of ``transfer.ports``.

    Args:
        load_many: the tasks of some ids, None for those that are gone.
        clock, monotonic: Unix time, and seconds that never go back.
    """

    def __init__(
        self,
        redis: Redis,
        ledgers: Ledgers,
        load_many: LoadMany,
        *,
        observe: Observe | None = None,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._calls = RedisCalls(redis, observe)
        self._ledgers = ledgers
        self._load_many = load_many
        self._clock = clock
        self._monotonic = monotonic
        self._full_until: dict[str, float] = {}

    async def claim(self, task: Task) -> None:
        """A place for *task*, which is about to be written; see ``transfer.ports.TaskQuota``."""
        if self._full_until.get(task.owner, 0.0) > self._monotonic():
            raise self._refusal()
        if await self._fits(task) or (await self._made_room(task) and await self._fits(task)):
            return
        if len(self._full_until) >= _REMEMBERED:
            self._full_until.clear()
        self._full_until[task.owner] = self._monotonic() + FULL_SECONDS
        raise self._refusal()

    async def _fits(self, task: Task) -> bool:
        [answer] = await self._calls.in_turn("quota", [self._ledgers.opening(task, must_fit=True)])
        return noted(answer).fits

    async def _made_room(self, task: Task) -> bool:
        """Strike off tasks that have ended or are gone; whether there were any.

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

    def _refusal(self) -> QuotaExceeded:
        places = self._ledgers.shares.open // TASK_BYTES
        return QuotaExceeded(
            f"The subject's unfinished tasks count {places}, the most they may: 1 each, and 1 for each KiB of options."
        )

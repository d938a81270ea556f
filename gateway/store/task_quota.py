"""How much an owner's unfinished tasks may weigh: a ledger that counts 1 for each, and 1 for each KiB beyond.

A task that ends is struck off as it does. Should that be lost, or the task expire, its place is found when the ledger
is full: then a sample of it is looked at, and who has ended makes room. So no crash and no lost message keeps a place.
"""

import time
from typing import Final

from redis.asyncio import Redis

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task
from gateway.store.ledgers import TASK_BYTES, Ledgers, noted
from gateway.store.open_tasks import LoadMany, OpenTasks
from gateway.store.redis_calls import Observe, RedisCalls
from gateway.transfer.ports import Clock

FULL_SECONDS: Final = 1.0
"""An owner found at the limit is not looked at again before."""
_REMEMBERED: Final = 1000


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
        self._open = OpenTasks(self._calls, ledgers, load_many, clock)
        self._monotonic = monotonic
        self._full_until: dict[str, float] = {}

    async def claim(self, task: Task) -> None:
        """A place for *task*, which is about to be written; see ``transfer.ports.TaskQuota``."""
        if self._full_until.get(task.owner, 0.0) > self._monotonic():
            raise self._refusal()
        if await self._fits(task) or (await self._open.strike_ended(task) and await self._fits(task)):
            return
        if len(self._full_until) >= _REMEMBERED:
            self._full_until.clear()
        self._full_until[task.owner] = self._monotonic() + FULL_SECONDS
        raise self._refusal()

    async def _fits(self, task: Task) -> bool:
        [answer] = await self._calls.in_turn("quota", [self._ledgers.opening(task, must_fit=True)])
        return noted(answer).fits

    def _refusal(self) -> QuotaExceeded:
        places = self._ledgers.shares.open // TASK_BYTES
        return QuotaExceeded(
            f"The subject's unfinished tasks count {places}, the most they may: 1 each, and 1 for each KiB of options."
        )

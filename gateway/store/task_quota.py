"""How much an owner's unfinished tasks may weigh: a ledger that counts 1 for each, and 1 for each KiB beyond.

A task that ends is struck off as it does. Should that be lost, or the task expire, its place is found when the ledger
is full: then a sample of it is looked at, and who has ended makes room. So no crash and no lost message keeps a place.
"""

import time

from redis.asyncio import Redis

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task
from gateway.store.ledgers import TASK_BYTES, Ledgers
from gateway.store.open_tasks import LoadMany, OpenTasks
from gateway.store.redis_calls import Observe, RedisCalls
from gateway.transfer.ports import Clock


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
        self._shares = ledgers.shares
        self._open = OpenTasks(RedisCalls(redis, observe), ledgers, load_many, clock=clock, monotonic=monotonic)

    async def claim(self, task: Task) -> None:
        """A place for *task*, which is about to be written; see ``transfer.ports.TaskQuota``."""
        most_bytes = self._shares.open
        if not await self._open.take(task, most_bytes):
            places = most_bytes // TASK_BYTES
            raise QuotaExceeded(
                f"The subject's unfinished tasks count {places}, the most they may:"
                " 1 each, and 1 for each KiB of options."
            )

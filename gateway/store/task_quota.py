"""How many unfinished tasks an owner has: a sorted set of ids, each until its task expires.

Nobody has to strike a finished task off: who finds the set full looks whose tasks have ended, and makes room. So no
crash and no lost message keeps a place.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from redis.asyncio import Redis

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task, TaskId
from gateway.store.redis_calls import Observe, RedisCalls
from gateway.store.redis_keys import owner_key, quota_key
from gateway.store.task_index import YOUNG_SECONDS
from gateway.transfer.ports import Clock

LOOKED_AT: Final = 1000
"""Tasks looked at when the set is full: up to so many the count is exact, above it ended ones may be overlooked."""
FULL_SECONDS: Final = 1.0
"""Whoever was found at the limit is not looked at again before."""
_REMEMBERED: Final = 1000

LoadMany = Callable[[Sequence[TaskId]], Awaitable[Sequence[Task | None]]]


class RedisTaskQuota:
    """The ``TaskQuota`` of ``transfer.ports``.

    Args:
        most: unfinished tasks of one owner.
        load_many: the tasks of some ids, None for those that are gone.
        clock, monotonic: Unix time, and seconds that never go back.
    """

    def __init__(
        self,
        redis: Redis,
        most: int,
        load_many: LoadMany,
        *,
        observe: Observe | None = None,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._calls = RedisCalls(redis, observe)
        self._most = most
        self._load_many = load_many
        self._clock = clock
        self._monotonic = monotonic
        self._full_until: dict[str, float] = {}

    async def claim(self, task: Task) -> None:
        """A place for *task*, which is about to be created; see ``transfer.ports.TaskQuota``."""
        if self._full_until.get(task.owner, 0.0) > self._monotonic():
            raise self._refusal()
        key = quota_key(owner_key(task.owner))
        # Whoever counts has added its own before: however many come at once, no more than the limit stay.
        if await self._count_with(key, task) > self._most and not await self._made_room(key, task):
            await self._calls.command("ZREM", key, task.id)
            if len(self._full_until) >= _REMEMBERED:
                self._full_until.clear()
            self._full_until[task.owner] = self._monotonic() + FULL_SECONDS
            raise self._refusal()

    async def _count_with(self, key: str, task: Task) -> int:
        lifetime = max(1, int(task.expires_at - self._clock()))
        adding = [("ZADD", key, task.expires_at, task.id), ("EXPIRE", key, lifetime), ("ZCARD", key)]
        count: int = (await self._calls.together("quota", adding))[-1]
        return count

    async def _made_room(self, key: str, task: Task) -> bool:
        """Strike off tasks that have ended or are gone; whether there is room then.

        One that is not there may be about to be created, like *task* itself, unless its place is old.
        """
        expired = ("ZREMRANGEBYSCORE", key, "-inf", self._clock())
        sample = ("ZRANDMEMBER", key, min(LOOKED_AT, self._most + 1), "WITHSCORES")
        sampled: list[bytes] = (await self._calls.together("quota", [expired, sample]))[-1]
        until = {TaskId(raw.decode()): float(at) for raw, at in zip(sampled[::2], sampled[1::2], strict=True)}
        old = task.expires_at - YOUNG_SECONDS
        found = await self._load_many(list(until))
        ended = [
            task_id
            for (task_id, at), now in zip(until.items(), found, strict=True)
            if (now.is_final if now is not None else at < old)
        ]
        if ended:
            await self._calls.command("ZREM", key, *ended)
        count: int = await self._calls.command("ZCARD", key)
        return count <= self._most

    def _refusal(self) -> QuotaExceeded:
        return QuotaExceeded(f"The subject has {self._most} unfinished tasks, the most there may be.")

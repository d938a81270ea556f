"""Whose tokens are good no more: one sorted set in Redis, which whoever runs the gateway writes to."""

import math
import time
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

from gateway.store.redis_calls import Observe, RedisCalls
from gateway.store.redis_keys import REVOKED
from gateway.transfer.ports import Clock

CLOCKS_DIFFER_SECONDS: Final = 300.0
"""How far apart the clocks of who issues tokens, of who revokes them and of the gateways may be, generously."""


class RedisRevocations:
    """The ``Revocations`` of ``transfer.ports``. ``ZADD gw:revoked <Unix seconds> <name>`` revokes by a
    name: a subject, ``jti:`` and a token's id, or either as logs show it.

    Args:
        life_seconds: how long a token lives at most: what was revoked before that has run out by itself.
        clock: Unix time in seconds.
    """

    def __init__(
        self, redis: Redis, life_seconds: float = math.inf, observe: Observe | None = None, clock: Clock = time.time
    ) -> None:
        self._calls = RedisCalls(redis, observe)
        self._life_seconds = life_seconds
        self._clock = clock

    async def revoke(self, name: str, until: float) -> None:
        """From now on no token of this *name* is good that was issued up to *until*. Raises StateStoreUnavailable."""
        await self._calls.command("ZADD", REVOKED, repr(until), name)

    async def undo(self, name: str) -> bool:
        """Forget that *name* was revoked; whether it was. Raises StateStoreUnavailable."""
        return bool(await self._calls.command("ZREM", REVOKED, name))

    async def load(self) -> dict[str, float]:
        """Names, and until when the tokens were issued that are good no more. Raises StateStoreUnavailable."""
        oldest = self._clock() - self._life_seconds - CLOCKS_DIFFER_SECONDS
        listed = await self._calls.command("ZRANGEBYSCORE", REVOKED, repr(oldest), "+inf", "WITHSCORES")
        return {
            subject.decode("utf-8", "replace"): float(until)
            for subject, until in zip(listed[::2], listed[1::2], strict=True)
        }

    async def revoked_until(self, names: Sequence[str]) -> float | None:
        """See ``transfer.ports.Revocations``."""
        listed = await self._calls.command("ZMSCORE", REVOKED, *names)
        return max((float(until) for until in listed if until is not None), default=None)

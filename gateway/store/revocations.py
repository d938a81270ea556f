"""Whose tokens are good no more: one sorted set in Redis, which whoever runs the gateway writes to."""

from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

from gateway.store.redis_calls import Observe, RedisCalls
from gateway.store.redis_keys import REVOKED

MAX_SUBJECTS: Final = 10_000
"""The latest ones: older tokens have run out by themselves."""


class RedisRevocations:
    """The ``Revocations`` of ``transfer.ports``. ``ZADD gw:revoked <Unix seconds> <name>`` revokes by a
    name: a subject, ``jti:`` and a token's id, or either as logs show it.
    """

    def __init__(self, redis: Redis, observe: Observe | None = None) -> None:
        self._calls = RedisCalls(redis, observe)

    async def revoke(self, name: str, until: float) -> None:
        """From now on no token of this *name* is good that was issued up to *until*. Raises StateStoreUnavailable."""
        await self._calls.command("ZADD", REVOKED, repr(until), name)

    async def undo(self, name: str) -> bool:
        """Forget that *name* was revoked; whether it was. Raises StateStoreUnavailable."""
        return bool(await self._calls.command("ZREM", REVOKED, name))

    async def load(self) -> dict[str, float]:
        """Names, and until when the tokens were issued that are good no more. Raises StateStoreUnavailable."""
        listed = await self._calls.command("ZREVRANGE", REVOKED, 0, MAX_SUBJECTS - 1, "WITHSCORES")
        return {
            subject.decode("utf-8", "replace"): float(until)
            for subject, until in zip(listed[::2], listed[1::2], strict=True)
        }

    async def revoked_until(self, names: Sequence[str]) -> float | None:
        """See ``transfer.ports.Revocations``."""
        listed = await self._calls.command("ZMSCORE", REVOKED, *names)
        return max((float(until) for until in listed if until is not None), default=None)

"""Whose tokens are good no more: one sorted set in Redis, which whoever runs the gateway writes to."""

from typing import Final

from redis.asyncio import Redis

from gateway.store.redis_calls import Observe, RedisCalls
from gateway.store.redis_keys import REVOKED

MAX_SUBJECTS: Final = 10_000
"""The latest ones: older tokens have run out by themselves."""


class RedisRevocations:
    """The ``Revocations`` of ``transfer.ports``. ``ZADD gw:revoked <Unix seconds> <subject>`` revokes a subject."""

    def __init__(self, redis: Redis, observe: Observe | None = None) -> None:
        self._calls = RedisCalls(redis, observe)

    async def load(self) -> dict[str, float]:
        """Subjects, and until when the tokens were issued that are good no more. Raises StateStoreUnavailable."""
        listed = await self._calls.command("ZREVRANGE", REVOKED, 0, MAX_SUBJECTS - 1, "WITHSCORES")
        return {
            subject.decode("utf-8", "replace"): float(until)
            for subject, until in zip(listed[::2], listed[1::2], strict=True)
        }

    async def revoked_until(self, owner: str) -> float | None:
        """See ``transfer.ports.Revocations``."""
        until = await self._calls.command("ZSCORE", REVOKED, owner)
        return None if until is None else float(until)

"""Looks at how Redis is set up: what is wrong with it is said once, and evictions are counted."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.store.ledgers import Shares
from gateway.store.redis_cluster import ClusterPool
from gateway.store.redis_pool import LendingPool

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 15.0
FIRST_LOOK_SECONDS: Final = 1.0
"""How often a Redis that does not answer yet is looked at."""
FULL_SHARE: Final = 0.99
"""Of its maxmemory: a server at its limit is now just above it and now just below."""
OLDEST_VERSION: Final = (6, 2)

Facts = Mapping[str, str]
"""The fields of INFO by name."""


class RedisWatch:
    """Reads INFO of every server now and then, which costs Redis less than a millisecond.

    *on_evicted* is told how many keys went since it was told last, *shares* how much the smallest server may take.
    """

    def __init__(
        self,
        redis: Redis,
        on_evicted: Callable[[int], None],
        shares: Shares | None = None,
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        assert isinstance(redis.connection_pool, LendingPool)
        self._pool = redis.connection_pool
        self._on_evicted = on_evicted
        self._look_seconds = look_seconds
        self._shares = shares or Shares()
        self._memory_share = 0.0
        self._said: list[str] = []
        self._evicted: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled. One warning names all that is wrong, and comes again only when that changes."""
        while True:
            seen = await self._look()
            await asyncio.sleep(self._look_seconds if seen else min(FIRST_LOOK_SECONDS, self._look_seconds))

    def servers_down(self) -> int:
        """How many servers are known not to answer."""
        return sum(pool.breaker.is_open for pool in {self._pool, *self._pool.nodes()})

    def state(self) -> str:
        """``full`` when a server takes nothing new, as seen last, else ``ok``."""
        return "full" if self._memory_share >= FULL_SHARE else "ok"

    def memory_share(self) -> float:
        """How much of the memory that it may take the fullest server takes, as seen last; 0 where none has a limit."""
        return self._memory_share

    async def _look(self) -> bool:
        """Look at every server; whether all of them told."""
        try:
            each = await facts_of(self._pool)
        except (RedisError, OSError):
            return False
        told = [facts for facts in each if facts]
        for facts in told:
            self._count_evicted(facts)
        self._memory_share = max(map(memory_share, told), default=0.0)
        self._shares.learn(min(filter(None, map(_maxmemory, told)), default=0))
        is_cluster = isinstance(self._pool, ClusterPool)
        wrong = sorted({sentence for facts in told for sentence in shortcomings(facts, is_cluster=is_cluster)})
        if wrong and wrong != self._said:
            log.warning("redis is not set up as it should be: %s", "; ".join(wrong))
        self._said = wrong
        return True

    def _count_evicted(self, facts: Facts) -> None:
        server, evicted = facts.get("run_id", ""), int(facts.get("evicted_keys", 0))
        before = self._evicted.get(server)
        self._evicted[server] = evicted
        if before is not None and evicted > before:
            self._on_evicted(evicted - before)


async def facts_of(pool: LendingPool) -> list[Facts]:
    """What each server of *pool* says of itself; empty where an ACL forbids to ask. Raises RedisError, OSError."""
    if isinstance(pool, ClusterPool):
        await pool.ask([("PING",)])  # by then it is known who the masters are
    return [_facts((await server.ask([("INFO",)]))[0]) for server in pool.nodes()]


def shortcomings(facts: Facts, *, is_cluster: bool) -> Iterator[str]:
    """One clause for each thing that is wrong with a server whose INFO says *facts*."""
    version = facts.get("redis_version", "0")
    if tuple(int(number) for number in version.split(".")[:2]) < OLDEST_VERSION:
        yield f"its version is {version}, expected 6.2 or newer"
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"maxmemory-policy is {policy}, expected noeviction: tasks may vanish and are made again from COS"
    if facts.get("aof_enabled") == "0":
        yield "appendonly is off: a restart loses the tasks since the last snapshot, which are made again from COS"
    if facts.get("cluster_enabled") == "1" and not is_cluster:
        yield "it is a node of a cluster: GATEWAY_REDIS_URL must begin with redis+cluster://"
    if facts.get("role") == "slave":
        yield "it is a replica, which takes no writes"


def memory_share(facts: Facts) -> float:
    """How much of its memory a server whose INFO says *facts* has taken; 0 without a limit."""
    most = _maxmemory(facts)
    return int(facts.get("used_memory", 0)) / most if most else 0.0


def _maxmemory(facts: Facts) -> int:
    return int(facts.get("maxmemory", 0))


def _facts(answer: Any) -> Facts:
    """INFO's fields; none where an ACL forbids to ask."""
    if isinstance(answer, ResponseError):
        return {}
    pairs = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}

"""Who has most in Redis: read from the ledgers of all owners."""

import asyncio
import heapq
from collections import Counter
from typing import Final

from redis.exceptions import ResponseError

from gateway.commands.findings import Finding, warning
from gateway.store.ledgers import UNIT_BYTES
from gateway.store.redis_keys import OWNER_LEDGERS, ledger_owner
from gateway.store.redis_pool import LendingPool
from gateway.store.redis_watch import facts_of, memory_share

NAMED: Final = 3
"""Owners that are named."""
LOOK_SECONDS: Final = 5.0
"""After this long those seen by then are named."""
FULL_SHARE: Final = 0.8
"""Of maxmemory, from where on it is a warning; the alert GatewayRedisFull begins there too."""
_MIB: Final = 1024 * 1024


async def look_at_owners(pool: LendingPool) -> Finding:
    """How full Redis is, and which owners have most in it.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    share = max(map(memory_share, await facts_of(pool)), default=0.0)
    weights: Counter[str] = Counter()
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            for server in pool.nodes():
                await _weigh(server, weights)
    except TimeoutError:
        pass
    largest = heapq.nlargest(NAMED, weights.items(), key=lambda one: one[1])
    named = ", ".join(f"{owner[:16]} ({size / _MIB:.1f} MiB)" for owner, size in largest)
    most = f"most of it by {named}, the SHA-256 of each sub" if named else "no subject has anything there"
    if share > FULL_SHARE:
        told = f"GATEWAY_REDIS_URL: {share:.0%} of maxmemory is taken, {most}"
        return warning("redis", f"{told}: raise maxmemory, or lower GATEWAY_STATE_PER_SUBJECT_BYTES.")
    taken = f"{share:.0%} of maxmemory is taken" if share else "Redis has no maxmemory"
    return Finding("redis", f"{taken}, {most}")


async def _weigh(server: LendingPool, weights: "Counter[str]") -> None:
    """Add to *weights* what the ledgers on *server* say."""
    cursor = b"0"
    while True:
        [answer] = await server.ask([("SCAN", cursor, "MATCH", OWNER_LEDGERS, "COUNT", 1000)])
        if isinstance(answer, ResponseError):
            return  # an ACL forbids to look
        cursor, keys = answer
        if keys:
            sums = await server.ask([("ZSCORE", key, "") for key in keys])
            for key, total in zip(keys, sums, strict=True):
                if isinstance(total, bytes):
                    weights[ledger_owner(key.decode())] += int(-float(total)) * UNIT_BYTES
        if cursor == b"0":
            return

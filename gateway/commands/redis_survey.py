"""Looks at Redis: does it answer, does it take a key, and is it set up as it should be?"""

import asyncio
import secrets
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.commands.findings import LOOK_SECONDS, Finding, problem, warning
from gateway.commands.owner_survey import look_at_owners
from gateway.store.redis_address import connect
from gateway.store.redis_cluster import ClusterPool
from gateway.store.redis_pool import LendingPool
from gateway.store.redis_sentinel import SentinelPool
from gateway.store.redis_watch import facts_of, shortcomings

_ABOUT: Final = "redis"
_KEY: Final = "gw:doctor:"
_KEY_SECONDS: Final = 10
_NO_DATABASE: Final = "DB index is out of range"
_TOO_MANY: Final = "max number of clients reached"
_CAUSES: Final[dict[type[BaseException], str]] = {
    ConnectionRefusedError: "connection refused",
    FileNotFoundError: "no such socket",
    socket.gaierror: "no such host",
}
_NOT_REDIS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ssl.SSLCertVerificationError, "has a certificate that is not vouched for: mend the name, or name ?ssl_ca_certs=."),
    (ssl.SSLError, "does not speak TLS: mend the port, or write redis:// instead of rediss://."),
    (InvalidResponse, "does not speak Redis's protocol: mend the port, or write rediss:// if it speaks TLS."),
)
_MENDS: Final[tuple[tuple[type[RedisError], str], ...]] = (
    (AuthenticationError, "refuses the user or password, or asks for one: write redis://user:password@host."),
    (NoPermissionError, "does not let this user write keys that begin with gw: (NOPERM): grant ~gw:* &gw:* +@all."),
    (ReadOnlyError, "is a replica, which takes no writes: name the master, or its Sentinels by redis+sentinel://."),
    (MovedError, "is a node of a cluster: the address must begin with redis+cluster://."),
    (OutOfMemoryError, "is full (OOM): raise its maxmemory, and keep maxmemory-policy noeviction."),
    (BusyLoadingError, "is still loading its data (LOADING): wait, then try again."),
)


async def look_at_redis(url: str, *, name_owners: bool = False) -> list[Finding]:
    """Write, read and delete one small key, then read how the servers are set up. Takes 10 s at most.

    With *name_owners* also who has most there.
    """
    where = urlsplit(url).netloc.rpartition("@")[2] or urlsplit(url).path
    client = connect(url)
    pool = client.connection_pool
    assert isinstance(pool, LendingPool)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            refusal = await _refusal(pool, where)
            wrong = [] if refusal is not None and refusal.passing else await _shortcomings(pool)
            owners = [await look_at_owners(pool)] if name_owners else []
    except (RedisError, OSError) as error:
        return [_unreachable(where, pool, error)]
    finally:
        await client.aclose()
    if refusal is not None:
        return [refusal, *owners]
    told = [warning(_ABOUT, f"GATEWAY_REDIS_URL: {text}") for text in wrong]
    return [*(told or [Finding(_ABOUT, f"{where} writes, reads and deletes")]), *owners]


async def _refusal(pool: LendingPool, where: str) -> Finding | None:
    key = _KEY + secrets.token_hex(8)
    try:
        await _asked(pool, ("SET", key, "1", "EX", _KEY_SECONDS))
        if await _asked(pool, ("GET", key)) != b"1":
            return problem(_ABOUT, f"GATEWAY_REDIS_URL: {where} does not give back what was written: see to it.")
        await _asked(pool, ("DEL", key))
    except ResponseError as error:
        return _refused(where, error)
    return None


async def _asked(pool: LendingPool, command: Sequence[Any]) -> Any:
    [answer] = await pool.ask([tuple(command)])
    if isinstance(answer, Exception):
        raise answer
    return answer


async def _shortcomings(pool: LendingPool) -> list[str]:
    each = await facts_of(pool)
    is_cluster = isinstance(pool, ClusterPool)
    return sorted({text for facts in each if facts for text in shortcomings(facts, is_cluster=is_cluster)})


def _refused(where: str, error: BaseException) -> Finding | None:
    """What an answer of Redis means; None when *error* is none. Its own text is never shown."""
    known = next((text for kind, text in (*_MENDS, *_NOT_REDIS) if isinstance(error, kind)), None)
    if known is None and isinstance(error, ResponseError):
        known = _by_text(str(error))
    if known is None:
        return None
    return problem(_ABOUT, f"GATEWAY_REDIS_URL: {where} {known}", passing=isinstance(error, BusyLoadingError))


def _by_text(said: str) -> str:
    """What an answer of Redis means that has no kind of its own."""
    if said.startswith("MISCONF"):
        return "cannot save (MISCONF): its disk is full or read-only."
    if said == _NO_DATABASE:
        return "has no database of that number: mend the end of the address."
    return "refuses a write: read its log."


def _unreachable(where: str, pool: LendingPool, error: BaseException) -> Finding:
    """Why there was no answer: a refusal while connecting is wrapped by redis-py into a failure to connect."""
    for one in _chain(error):
        refused = _refused(where, one)
        if refused is not None:
            return refused
    causes = (_CAUSES[type(one)] for one in _chain(error) if type(one) in _CAUSES)
    said = f"does not answer ({next(causes, _no_cause(pool, error))})"
    return problem(_ABOUT, f"GATEWAY_REDIS_URL: {where} {said}: start Redis, or mend the address.", passing=True)


def _no_cause(pool: LendingPool, error: BaseException) -> str:
    if not isinstance(error, RedisConnectionError):
        return "no answer in time"
    if str(error) == _TOO_MANY:
        return "it has too many clients"
    if isinstance(pool, SentinelPool):
        return "no Sentinel there knows this master"
    if isinstance(pool, ClusterPool):
        return "no node there tells of a cluster"
    return "it closes the connection: perhaps it wants rediss://"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """*error*, and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

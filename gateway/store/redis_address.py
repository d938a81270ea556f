"""Addresses of Redis: one server, Sentinels that know it, or a cluster."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url

from gateway.store.redis_cluster import ClusterPool
from gateway.store.redis_pool import LendingPool, Place
from gateway.store.redis_sentinel import SentinelPool

SCHEMES: Final = "redis://, rediss:// or unix://, or one of the first two with +sentinel or +cluster"
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_FOR_SENTINELS: Final = "sentinel_"


def connect(url: str) -> Redis:
    """A client for *url* that connects when first used; ``RedisCalls`` and ``RedisProgressBus`` work with its pool.

    ``redis:// rediss:// unix://`` name one server, ``redis+cluster://h1:p1,h2/`` some nodes of a cluster, and
    ``redis+sentinel://h1:p1,h2/name/0`` the Sentinels, the master's name and the database; ``rediss+…`` uses TLS.
    User, password and options in the query are the servers'; ``sentinel_username`` and ``sentinel_password`` are the
    Sentinels'.

    Raises:
        ValueError: the address cannot be read.
    """
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    make = _KINDS.get((scheme, kind))
    if make is None:
        raise ValueError(f"the Redis address must begin with {SCHEMES}")
    return Redis.from_pool(make(url))


def _one(url: str) -> LendingPool:
    return LendingPool.from_url(url)


def _cluster(url: str) -> LendingPool:
    return ClusterPool(_places(url, REDIS_PORT), _options(url, ""))


def _sentinel(url: str) -> LendingPool:
    name, _, database = urlsplit(url).path.strip("/").partition("/")
    if not name:
        raise ValueError("the Redis address names no master: redis+sentinel://host:port,host:port/master/0")
    given = _options(url, f"/{database}")
    credentials = {name: given.pop(_FOR_SENTINELS + name, None) for name in ("username", "password")}
    for_sentinels = {name: value for name, value in given.items() if name not in ("username", "password", "db")}
    return SentinelPool(_places(url, SENTINEL_PORT), name, given, for_sentinels | credentials)


def _options(url: str, path: str) -> dict[str, Any]:
    """What user, password and query of *url* ask for, as redis-py reads them."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    plain = parts._replace(scheme=parts.scheme.partition("+")[0], netloc=f"{user}{at}", path=path)
    return dict(parse_url(plain.geturl()))


def _places(url: str, default_port: int) -> list[Place]:
    """The hosts of *url* and their ports."""
    texts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    each = [urlsplit(f"//{text.strip()}") for text in texts]
    if not all(place.hostname for place in each):
        raise ValueError("the Redis address names no host")
    return [(place.hostname or "", place.port or default_port) for place in each]


_KINDS: Final[dict[tuple[str, str], Callable[[str], LendingPool]]] = {
    ("redis", ""): _one,
    ("rediss", ""): _one,
    ("unix", ""): _one,
    ("redis", "cluster"): _cluster,
    ("rediss", "cluster"): _cluster,
    ("redis", "sentinel"): _sentinel,
    ("rediss", "sentinel"): _sentinel,
}

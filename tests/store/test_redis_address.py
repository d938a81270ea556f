"""Which pool an address asks for, and with which options."""

from typing import Any

import pytest
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection

from gateway.store.redis_address import connect
from gateway.store.redis_cluster import ClusterPool
from gateway.store.redis_pool import CALL_SECONDS, CONNECTIONS, LendingPool
from gateway.store.redis_sentinel import SentinelPool

ONE = [
    ("redis://h", Connection, {"host": "h"}),
    ("rediss://u:p%40@h:7/2", SSLConnection, {"host": "h", "port": 7, "username": "u", "password": "p@", "db": 2}),
    ("unix:///run/redis.sock?db=3", UnixDomainSocketConnection, {"path": "/run/redis.sock", "db": 3}),
]


@pytest.mark.parametrize(("url", "kind", "options"), ONE)
def test_one_server(url: str, kind: type[Any], options: dict[str, Any]) -> None:
    pool: Any = connect(url).connection_pool
    assert (type(pool), pool.connection_class) == (LendingPool, kind)
    assert options.items() <= pool.connection_kwargs.items()


@pytest.mark.parametrize("url", [*(url for url, _, _ in ONE), "redis+sentinel://h1,h2/m/0", "redis+cluster://h1,h2"])
def test_no_client_repeats_a_write_or_waits_longer_than_we_say(url: str) -> None:
    pool: Any = connect(url).connection_pool
    retry, told = pool.connection_kwargs["retry"], pool.connection_kwargs
    assert (retry.get_retries(), told["socket_timeout"], told["socket_connect_timeout"]) == (0, None, CALL_SECONDS)
    assert pool.max_connections == 2 * CONNECTIONS


def test_sentinels_and_the_master_s_options() -> None:
    url = "rediss+sentinel://user:p%3Aw@h1:1,[::1]:2,h3/main/4?ssl_cert_reqs=none&sentinel_password=s"
    pool: Any = connect(url).connection_pool

    assert isinstance(pool, SentinelPool)
    assert issubclass(pool.connection_class, SSLConnection)
    assert {"username": "user", "password": "p:w", "db": 4, "ssl_cert_reqs": "none"}.items() <= (
        pool.connection_kwargs.items()
    )
    sentinels = pool.connection_kwargs["sentinels"]
    assert (sentinels._places, sentinels._name) == ([("h1", 1), ("::1", 2), ("h3", 26379)], "main")
    assert {"username": None, "password": "s"}.items() <= sentinels._options.items()
    assert "db" not in sentinels._options


def test_a_cluster_s_seeds() -> None:
    pool: Any = connect("redis+cluster://:secret@h1:7000,h2/").connection_pool
    assert isinstance(pool, ClusterPool)
    assert pool._seeds == [("h1", 7000), ("h2", 6379)]
    assert pool.connection_kwargs["password"] == "secret"


@pytest.mark.parametrize(
    "url", ["http://h", "h:6379", "redis+other://h", "unix+cluster:///x", "redis+sentinel://h", "redis+cluster://,h"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the Redis address"):
        connect(url)

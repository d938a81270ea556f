"""What every folder of tests may ask for."""

from collections.abc import Iterator

import pytest

from tests.fakes.redis_server import running_redis, send_command


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The ``unix://`` address of a real redis-server that this run alone uses."""
    with running_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The same server, emptied for this test."""
    send_command(redis_server, "FLUSHALL")
    send_command(redis_server, "SCRIPT", "FLUSH")
    return redis_server

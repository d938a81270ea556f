"""A gateway without its doors, before a real Redis and the local COS, for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes.local_cos import RunningCos, running_local_cos
from tests.transfer.kit import World, running_world


@pytest.fixture(scope="session")
def cos_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCos]:
    with running_local_cos(tmp_path_factory.mktemp("cos")) as cos:
        yield cos


@pytest.fixture
def cos(cos_server: RunningCos) -> RunningCos:
    """The local COS, without faults and with an empty journal."""
    cos_server.clear_faults()
    cos_server.clear_journal()
    return cos_server


@pytest.fixture
async def world(redis_url: str, cos: RunningCos) -> AsyncIterator[World]:
    async with running_world(redis_url, cos) as world:
        yield world

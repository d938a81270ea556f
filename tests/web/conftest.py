"""What the tests of the web layer share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import httpx
import pytest
import uvloop

from tests.fakes.local_cos import RunningCos, running_local_cos
from tests.web.rest import Rest, running_rest

# They depend on how a loop buffers, pauses and closes: production's, and the one that other platforms have.
_ON_BOTH_LOOPS = (
    "test_direct_reader",
    "test_edge_protocol",
    "test_http_edge",
    "test_http_exchange",
    "test_socket_edge",
)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in _ON_BOTH_LOOPS:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(scope="module")
def cos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCos]:
    """A local COS for one module of tests."""
    with running_local_cos(tmp_path_factory.mktemp("cos")) as cos:
        yield cos


@pytest.fixture
async def rest(redis_url: str, cos: RunningCos) -> AsyncIterator[Rest]:
    """The whole gateway without a socket before it."""
    cos.clear_faults()
    async with running_rest(redis_url, cos) as rest:
        yield rest


@pytest.fixture
async def alice(rest: Rest) -> AsyncIterator[httpx.AsyncClient]:
    async with rest.as_caller() as client:
        yield client

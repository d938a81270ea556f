"""What the tests of the COS client share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from gateway.cos.transport import AiohttpTransport

# They depend on how a loop buffers and wakes: production's, and the one that other platforms have.
_ON_BOTH_LOOPS = ("test_transport", "test_request_body", "test_tls")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories = {"uvloop": uvloop.new_event_loop}
    if item.path.stem in _ON_BOTH_LOOPS:
        return {**factories, "asyncio": asyncio.new_event_loop}
    return factories


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport()
    yield transport
    await transport.aclose()

"""What the tests of the web layer share."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

# They depend on how a loop buffers, pauses and closes: production's, and the one that other platforms have.
_ON_BOTH_LOOPS = ("test_http_edge", "test_http_exchange")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in _ON_BOTH_LOOPS:
        factories["uvloop"] = uvloop.new_event_loop
    return factories

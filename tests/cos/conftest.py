"""What the tests of the COS client share."""

from collections.abc import AsyncIterator

import pytest

from gateway.cos.transport import AiohttpTransport


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport()
    yield transport
    await transport.aclose()

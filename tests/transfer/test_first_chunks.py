"""A body's beginning is awaited as far as is asked, and nothing of it is lost or kept."""

import pytest

from gateway.transfer.first_chunks import chained, read_first
from tests.transfer.kit import random_bytes, sent

BODY = random_bytes(1000)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 999, 1000, 2000])
@pytest.mark.parametrize("least_bytes", [1, 6, 7, 8, 999, 1000, 1001])
async def test_as_much_is_read_as_was_asked_for_and_all_of_it_goes_on(least_bytes: int, chunk_bytes: int) -> None:
    source = sent(BODY, chunk_bytes)

    first = await read_first(source, least_bytes)

    size = sum(map(len, first))
    assert min(least_bytes, len(BODY)) <= size < least_bytes + chunk_bytes
    assert b"".join([chunk async for chunk in chained(first, source)]) == BODY
    assert first == []


async def test_of_an_empty_body_nothing_is_read() -> None:
    assert await read_first(sent(b""), 1) == []

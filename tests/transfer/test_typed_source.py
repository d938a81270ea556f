"""The first bytes are looked at before any goes on, however they arrive."""

from collections.abc import AsyncIterator

import pytest

from gateway.domain.errors import TypeMismatch
from gateway.domain.signatures import PEEK_BYTES
from gateway.transfer.typed_source import typed_source
from tests.transfer.kit import random_bytes, sent

PNG = b"\x89PNG\r\n\x1a\n" + random_bytes(3 * PEEK_BYTES)


@pytest.mark.parametrize("chunk_bytes", [1000, PEEK_BYTES - 1, PEEK_BYTES, 1 << 20])
async def test_a_good_file_passes_byte_for_byte(chunk_bytes: int) -> None:
    passed = [chunk async for chunk in typed_source("image/png", sent(PNG, chunk_bytes))]

    assert b"".join(passed) == PNG


async def test_an_empty_file_passes() -> None:
    assert [chunk async for chunk in typed_source("image/png", sent(b""))] == []


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1 << 20])
async def test_nothing_of_a_wrong_one_passes_and_no_more_than_a_peek_is_read(chunk_bytes: int) -> None:
    read = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal read
        async for chunk in sent(b" " * (PEEK_BYTES - 20) + b"<html>" + PNG, chunk_bytes):
            read += len(chunk)
            yield chunk

    with pytest.raises(TypeMismatch):
        await anext(typed_source("image/png", counted()))
    assert read < PEEK_BYTES + max(chunk_bytes, 2 * PEEK_BYTES + 100)

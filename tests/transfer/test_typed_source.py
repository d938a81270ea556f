"""The first bytes of a file are looked at before any goes on, however they arrive."""

from collections.abc import AsyncIterator

import pytest

from gateway.domain.errors import TypeMismatch
from gateway.domain.objects import Bucket
from gateway.domain.policy import Caller, Destination, Policy
from gateway.domain.signatures import PEEK_BYTES
from gateway.transfer.typed_source import TypeLook, peek
from tests.transfer.kit import random_bytes, sent

PNG = b"\x89PNG\r\n\x1a\n" + random_bytes(3 * PEEK_BYTES)
HTML = b" " * (PEEK_BYTES - 20) + b"<html>" + PNG
PLACE = Destination("photos", Bucket("photos-1", "ap-guangzhou"), "", ("image/*",))


def look(said: str = "image/png", types: tuple[str, ...] | None = None) -> TypeLook:
    return TypeLook(Caller("alice", Policy(types=types), 2e9), PLACE, said)


@pytest.mark.parametrize("chunk_bytes", [1000, PEEK_BYTES - 1, PEEK_BYTES, 1 << 20])
async def test_a_good_file_passes_byte_for_byte(chunk_bytes: int) -> None:
    passed = [chunk async for chunk in look().watched(sent(PNG, chunk_bytes))]

    assert b"".join(passed) == PNG


async def test_an_empty_file_passes() -> None:
    assert [chunk async for chunk in look().watched(sent(b""))] == []


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1 << 20])
async def test_nothing_of_a_wrong_one_passes_and_no_more_than_a_peek_is_read(chunk_bytes: int) -> None:
    read = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal read
        async for chunk in sent(HTML, chunk_bytes):
            read += len(chunk)
            yield chunk

    with pytest.raises(TypeMismatch):
        await anext(look().watched(counted()))
    assert read < PEEK_BYTES + max(chunk_bytes, 2 * PEEK_BYTES + 100)


@pytest.mark.parametrize("cut", [0, 1, 7, PEEK_BYTES - 1, PEEK_BYTES, PEEK_BYTES + 1])
async def test_s13_a_file_that_comes_in_two_bodies_is_judged_as_one(cut: int) -> None:
    size = len(HTML)
    first = look().watched(sent(HTML[:cut]), ends_file=lambda came: came == size)
    if cut >= PEEK_BYTES:
        with pytest.raises(TypeMismatch):
            await anext(first)
    else:
        assert b"".join([chunk async for chunk in first]) == HTML[:cut]
    with pytest.raises(TypeMismatch):
        await anext(look().watched(sent(HTML[cut:]), before=HTML[:cut], ends_file=lambda came: cut + came == size))
    good = look().watched(sent(PNG[cut:]), before=PNG[:cut])
    assert b"".join([chunk async for chunk in good]) == PNG[cut:]


async def test_s13_the_true_type_is_told_and_the_token_has_a_say() -> None:
    said_jpeg = look("image/jpeg")
    assert [chunk async for chunk in said_jpeg.watched(sent(PNG, len(PNG)))] == [PNG]
    assert said_jpeg.headers == {"content-type": "image/png"}

    with pytest.raises(TypeMismatch):
        look("image/jpeg", types=("image/jpeg",)).judge(PNG)
    said_png = look()
    said_png.judge(PNG)
    assert said_png.headers == {}


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 20])
@pytest.mark.parametrize("size", [0, 5, PEEK_BYTES, len(PNG)])
async def test_a_peek_takes_nothing_away(size: int, chunk_bytes: int) -> None:
    head, source = await peek(sent(PNG[:size], chunk_bytes))

    assert head == PNG[: min(size, PEEK_BYTES)]
    assert b"".join([chunk async for chunk in source]) == PNG[:size]

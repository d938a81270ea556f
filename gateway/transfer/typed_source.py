"""A body whose first bytes are looked at before any of them goes on."""

from collections.abc import AsyncIterator

from gateway.domain.signatures import PEEK_BYTES, check_signature


async def typed_source(content_type: str | None, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """*source*, a file from its first byte on, if it begins as *content_type* does.

    Raises:
        TypeMismatch: it does not. Nothing of it was passed on.
    """
    held: list[bytes] = []
    size = 0
    async for chunk in source:
        held.append(chunk)
        size += len(chunk)
        if size >= PEEK_BYTES:
            break
    check_signature(content_type, b"".join(held)[:PEEK_BYTES])
    chunk = b""  # of which more than the head must not wait here for the next
    while held:
        yield held.pop(0)
    async for chunk in source:
        yield chunk
        del chunk

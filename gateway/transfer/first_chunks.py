"""The beginning of a body, awaited before it is known how the body goes on."""

from collections.abc import AsyncIterator

from gateway.domain.pieces import Pieces


async def read_first(source: AsyncIterator[bytes], least_bytes: int) -> list[bytes]:
    """The first chunks of *source*, *least_bytes* or more of them; fewer only where *source* has ended."""
    first = Pieces()
    async for chunk in source:
        first.add(chunk)
        if first.size >= least_bytes:
            break
    return list(first)


async def chained(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of *first*, which is emptied, then those of *rest*: none is kept beyond its time."""
    while first:
        yield first.pop(0)
    async for chunk in rest:
        yield chunk
        del chunk

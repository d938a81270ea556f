"""Long lists worked off a few rows at a time, so that other requests have turns in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

SLICE_ROWS: Final = 250
"""Rows that take a microsecond or two each; of dearer ones fewer."""

T = TypeVar("T")


async def in_slices(rows: Sequence[T], most: int = SLICE_ROWS) -> AsyncIterator[Sequence[T]]:
    """*rows*, up to *most* at a time, in their order."""
    for at in range(0, len(rows), most):
        if at:
            await asyncio.sleep(0)
        yield rows[at : at + most]

"""Long lists in slices."""

import asyncio

import pytest

from gateway.web.slices import in_slices


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 35])
async def test_every_row_comes_once_in_order(count: int) -> None:
    slices = [list(some) async for some in in_slices(range(count), 10)]

    assert [row for some in slices for row in some] == list(range(count))
    assert all(len(some) <= 10 for some in slices)


async def test_others_have_a_turn_between_two_slices() -> None:
    seen: list[str] = []

    async def work() -> None:
        async for some in in_slices(range(3), 1):
            seen.append(f"row {some[0]}")

    async def other() -> None:
        for _ in range(3):
            seen.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(work(), other())
    assert seen == ["row 0", "other", "row 1", "other", "row 2", "other"]

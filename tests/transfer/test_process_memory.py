"""What callers and strangers may make the process hold."""

import pytest

from gateway.domain.errors import Overloaded
from gateway.transfer.process_memory import ProcessMemory


def test_s3_s6_strangers_have_a_small_budget_of_their_own() -> None:
    memory = ProcessMemory.of(1000)

    assert {name: budget.limit_bytes for name, budget in memory.budgets()} == {"callers": 750, "strangers": 250}
    assert memory.strangers.try_take(250, "198.51.100.7") is not None
    assert memory.callers.try_take(750, "alice") is not None


async def test_s3_s6_it_is_told_which_of_them_was_short() -> None:
    short: list[str] = []
    memory = ProcessMemory.of(1000, short.append)

    for _, budget in memory.budgets():
        with pytest.raises(Overloaded):
            await budget.take(1001, "somebody", 0)

    assert short == ["callers", "strangers"]

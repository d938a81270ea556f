"""Bodies of senders who are not known yet: how many, and how much memory."""

from contextlib import ExitStack

import pytest

from gateway.domain.errors import Overloaded, RateLimited
from gateway.transfer.memory_budget import MemoryBudget
from gateway.web.strangers import MOST, MOST_PER_ADDRESS, Strangers


def test_s3_an_address_may_have_so_many_and_all_together_so_many() -> None:
    strangers = Strangers(MemoryBudget(1000))
    with ExitStack() as held:
        for number in range(MOST):
            held.enter_context(strangers.receiving(f"198.51.100.{number // MOST_PER_ADDRESS}"))
        assert len(strangers) == MOST
        for address in ("198.51.100.0", "198.51.100.200"):
            with pytest.raises(Overloaded) as refused, strangers.receiving(address):
                pass
            assert refused.value.retry_after_seconds

    assert len(strangers) == 0
    with strangers.receiving("198.51.100.0"):
        assert len(strangers) == 1


async def test_s3_an_address_holds_a_share_of_the_memory() -> None:
    memory = MemoryBudget(1000)
    strangers = Strangers(memory)
    with strangers.receiving("198.51.100.1") as greedy, strangers.receiving("198.51.100.1") as more:
        await greedy.resize(700, 0.01)
        with pytest.raises(RateLimited):
            await more.resize(200, 0.01)
        with strangers.receiving("198.51.100.2") as modest:
            await modest.resize(200, 0.01)

    assert memory.used_bytes == 0

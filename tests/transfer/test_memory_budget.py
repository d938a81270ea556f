"""A budget of bytes that owners share: who gets how much, who waits, and who is refused with what."""

import asyncio

import pytest

from gateway.domain.errors import Overloaded, RateLimited
from gateway.transfer.memory_budget import Lease, MemoryBudget


def test_a_lease_holds_its_bytes_until_it_is_released_once() -> None:
    budget = MemoryBudget(10)
    lease = budget.try_take(7, "alice")
    assert lease is not None

    assert budget.try_take(4, "alice") is None
    lease.release()
    lease.release()

    assert budget.used_bytes == 0
    assert budget.try_take(10, "alice") is not None


def test_whoever_gets_no_memory_is_counted() -> None:
    short: list[bool] = []
    budget = MemoryBudget(10, on_short=lambda: short.append(True))

    assert budget.try_take(10, "alice") is not None
    assert short == []
    assert budget.try_take(1, "bob") is None
    assert short == [True]


async def test_waiters_get_their_bytes_first_come_first_served() -> None:
    budget = MemoryBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None
    order: list[int] = []

    async def wait(size: int) -> None:
        lease = await budget.take(size, "alice", 5)
        order.append(size)
        lease.release()

    waiting = [asyncio.create_task(wait(size)) for size in (8, 1, 2)]
    await asyncio.sleep(0)
    assert budget.try_take(0, "alice") is None, "nobody overtakes who waits"
    held.release()
    await asyncio.gather(*waiting)

    assert order == [8, 1, 2]
    assert budget.used_bytes == 0


async def test_bytes_that_do_not_become_free_in_time_are_overload() -> None:
    budget = MemoryBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None

    with pytest.raises(Overloaded):
        await budget.take(1, "alice", 0.01)
    held.release()

    assert (await budget.take(10, "alice", 1)).size == 10


async def test_who_gives_up_waiting_lets_the_next_through() -> None:
    budget = MemoryBudget(10)
    held = budget.try_take(6, "mallory")
    assert held is not None
    large = asyncio.create_task(budget.take(9, "alice", 5))
    await asyncio.sleep(0)
    small = asyncio.create_task(budget.take(4, "bob", 5))
    await asyncio.sleep(0)

    large.cancel()

    (await small).release()
    held.release()
    assert budget.used_bytes == 0


async def test_a_waiter_cancelled_in_the_moment_it_is_served_gives_its_bytes_back() -> None:
    budget = MemoryBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None
    waiting = asyncio.create_task(budget.take(5, "alice", 5))
    await asyncio.sleep(0)

    held.release()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert budget.used_bytes == 0


async def test_a_waiter_cancelled_in_the_moment_before_it_is_served_takes_nothing() -> None:
    budget = MemoryBudget(10)
    held = budget.try_take(10, "alice")
    assert held is not None
    waiting = asyncio.create_task(budget.take(5, "alice", 5))
    await asyncio.sleep(0)

    waiting.cancel()
    held.release()
    (outcome,) = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(outcome, asyncio.CancelledError)
    assert budget.used_bytes == 0
    assert budget.try_take(10, "alice") is not None


@pytest.mark.promise(30)
def test_however_much_one_owner_asks_for_there_is_some_left_for_another() -> None:
    budget = MemoryBudget(100)
    owners = ("mallory", "alice", "bob", "carol")

    held = dict.fromkeys(owners, 0)
    for owner in owners:
        while budget.try_take(1, owner) is not None:
            held[owner] += 1

    assert held["mallory"] == 75
    assert all(held.values())
    assert budget.used_bytes == sum(held.values()) <= 100


@pytest.mark.promise(30)
def test_after_a_while_owners_who_all_ask_without_end_hold_the_same() -> None:
    budget = MemoryBudget(100)
    leases: dict[str, list[Lease]] = {"mallory": [], "alice": []}
    for owner in [*(["mallory"] * 100), *(["mallory", "alice"] * 300)]:
        if len(leases[owner]) > 1 and owner == "mallory":
            leases[owner].pop().release()
        while (lease := budget.try_take(1, owner)) is not None:
            leases[owner].append(lease)

    assert {owner: len(held) for owner, held in leases.items()} == {"mallory": 43, "alice": 42}


def test_an_owner_who_holds_nothing_may_take_whatever_is_free() -> None:
    budget = MemoryBudget(10)

    assert budget.try_take(5, "mallory") is not None
    assert budget.try_take(5, "alice") is not None
    assert budget.try_take(1, "bob") is None


async def test_of_all_who_wait_the_one_who_holds_least_is_served_first() -> None:
    budget = MemoryBudget(12)
    first, second = budget.try_take(6, "mallory"), budget.try_take(6, "mallory too")
    assert first is not None
    assert second is not None
    order: list[str] = []

    async def wait(owner: str) -> None:
        await budget.take(3, owner, 5)
        order.append(owner)

    waiting = [asyncio.create_task(wait(owner)) for owner in ("mallory too", "alice")]
    await asyncio.sleep(0)
    first.release()
    await waiting[1]
    assert order == ["alice"]
    second.release()
    await asyncio.gather(*waiting)


async def test_nobody_overtakes_one_who_waits_and_holds_no_more() -> None:
    budget = MemoryBudget(10)
    held = budget.try_take(8, "mallory")
    assert held is not None
    waiting = asyncio.create_task(budget.take(4, "alice", 5))
    await asyncio.sleep(0)

    assert budget.try_take(1, "bob") is None
    held.release()
    await waiting
    assert budget.try_take(1, "bob") is not None


async def test_who_waits_for_their_own_share_holds_up_nobody_who_has_less() -> None:
    budget = MemoryBudget(10)
    held = budget.try_take(7, "mallory")
    waiting = asyncio.create_task(budget.take(3, "mallory", 5))
    await asyncio.sleep(0)

    assert budget.try_take(1, "alice") is not None
    assert budget.try_take(1, "mallory") is None

    assert held is not None
    held.release()
    await waiting


@pytest.mark.parametrize(
    ("owner", "refusal"), [("mallory", RateLimited), ("alice", Overloaded)], ids=["their own share", "everybody's"]
)
async def test_s6_who_waited_in_vain_hears_whose_memory_was_short(owner: str, refusal: type[Exception]) -> None:
    budget = MemoryBudget(10)
    held = [budget.try_take(7, "mallory"), budget.try_take(1, "bob")]

    with pytest.raises(refusal) as refused:
        await budget.take(2 if owner == "mallory" else 3, owner, 0.01)

    assert held[0] is not None
    assert getattr(refused.value, "retry_after_seconds", 0) > 0


async def test_s6_beyond_those_who_may_wait_one_is_refused_at_once() -> None:
    budget = MemoryBudget(10, most_waiting=1)
    held = budget.try_take(10, "mallory")
    assert held is not None
    waiting = asyncio.create_task(budget.take(1, "alice", 60))
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        with pytest.raises(Overloaded):
            await budget.take(1, "bob", 60)
    held.release()
    await waiting


async def test_s6_what_never_fits_is_not_waited_for() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(Overloaded):
            await MemoryBudget(10).take(11, "alice", 60)


async def test_a_lease_grows_and_shrinks_with_what_is_held() -> None:
    budget = MemoryBudget(10)
    with budget.open("alice") as lease:
        for size in (4, 7, 2, 2):
            await lease.resize(size, 1)
            assert (lease.size, budget.used_bytes) == (size, size)
        with pytest.raises(Overloaded):
            await lease.resize(11, 0.01)
        assert (lease.size, budget.used_bytes) == (2, 2)

    assert budget.used_bytes == 0


async def test_a_lease_that_shrinks_serves_who_waits() -> None:
    budget = MemoryBudget(10)
    lease = budget.try_take(10, "mallory")
    assert lease is not None
    waiting = asyncio.create_task(budget.take(5, "alice", 5))
    await asyncio.sleep(0)

    await lease.resize(5, 0)

    assert (await waiting).size == 5

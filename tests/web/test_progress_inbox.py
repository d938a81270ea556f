import asyncio

import pytest

from gateway.transfer.memory_budget import MemoryBudget
from gateway.web.progress_inbox import MOST_WAITING_BYTES, Inbox, Snapshot
from gateway.web.progress_messages import Message, task_message

MIB = 1 << 20


def task(text: str, *, is_loss: bool = False) -> Message:
    return task_message(f'"{text}"', is_loss=is_loss)


def snapshot(budget: MemoryBudget, *pages: str) -> Snapshot:
    lease = budget.try_take(len(pages), "alice")
    assert lease is not None
    return Snapshot(pages, lease)


async def test_whoever_keeps_up_is_sent_the_very_texts_that_others_are_sent() -> None:
    budget = MemoryBudget(MIB)
    one, other = Inbox(budget, "alice"), Inbox(budget, "alice")
    changes = {"t1": task("1"), "t2": task("2")}
    for inbox in (one, other):
        inbox.put(changes)

    for inbox in (one, other):
        assert [id(text) for text in await inbox.next()] == [id(message.text) for message in changes.values()]
    assert budget.used_bytes == 0


async def test_f10_a_slow_one_is_sent_the_latest_of_each_and_every_loss() -> None:
    inbox = Inbox(MemoryBudget(MIB), "alice")
    inbox.put({"t1": task("1a"), "t2": task("2a")})
    inbox.put({"t1": task("1b", is_loss=True)})
    inbox.put({"t1": task("1c"), "t3": task("3a")})

    assert await inbox.next() == [task("1c", is_loss=True).text, task("2a").text, task("3a").text]


async def test_a_snapshot_comes_page_by_page_behind_what_was_told_before_and_ahead_of_what_came_after() -> None:
    budget = MemoryBudget(MIB)
    inbox = Inbox(budget, "alice")
    inbox.put({"t1": task("before")})
    inbox.show(snapshot(budget, "p1", "p2"), {"t2": task("loss", is_loss=True)}, {})
    inbox.put({"t1": task("after")})

    came = [await inbox.next() for _ in range(4)]

    assert came == [[task("before").text, task("loss", is_loss=True).text], ["p1"], ["p2"], [task("after").text]]


async def test_while_a_snapshot_is_sent_the_next_one_is_replaced_by_its_news() -> None:
    budget = MemoryBudget(MIB)
    inbox = Inbox(budget, "alice")
    inbox.show(snapshot(budget, "old 1", "old 2"), {}, {})
    assert await inbox.next() == ["old 1"]
    newer = snapshot(budget, "new")
    inbox.show(newer, {}, {"t1": task("news")})
    newer.release_unread()

    assert [await inbox.next() for _ in range(2)] == [["old 2"], [task("news").text]]
    assert budget.used_bytes == 0


async def test_the_pages_are_held_until_the_last_who_is_sent_them_has_them() -> None:
    budget = MemoryBudget(MIB)
    readers = [Inbox(budget, "alice") for _ in range(2)]
    shared = snapshot(budget, "p1", "p2", "p3")
    for reader in readers:
        reader.show(shared, {}, {})
    shared.release_unread()
    for _ in range(3):
        await readers[0].next()
    readers[0].wake()
    await readers[0].next()
    held = budget.used_bytes
    readers[1].close()

    assert (held, budget.used_bytes) == (3, 0)


@pytest.mark.parametrize(("budget_bytes", "entries"), [(64 * MIB, MOST_WAITING_BYTES // 1000), (20_000, 10)])
async def test_s6_what_waits_is_bounded_and_the_next_snapshot_makes_up_for_it(budget_bytes: int, entries: int) -> None:
    budget = MemoryBudget(budget_bytes)
    inbox = Inbox(budget, "alice")
    for number in range(2 * entries):
        inbox.put({f"t{number}": task("x" * 1000)})
        assert budget.used_bytes <= min(MOST_WAITING_BYTES, budget_bytes)
    assert budget.used_bytes == 0
    inbox.put({"t1": task("not told")})
    inbox.show(snapshot(budget, "everything"), {}, {})
    inbox.put({"t1": task("told")})

    assert [await inbox.next() for _ in range(2)] == [["everything"], [task("told").text]]


async def test_who_is_woken_for_nothing_looks_around_and_hears_of_a_failure() -> None:
    inbox = Inbox(MemoryBudget(MIB), "alice")
    waiting = asyncio.create_task(inbox.next())
    await asyncio.sleep(0)
    inbox.wake()
    assert await waiting == []

    inbox.wake(LookupError("a defect"))
    with pytest.raises(LookupError):
        await inbox.next()

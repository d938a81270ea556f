"""However many changes come, a slow reader gets each task once, and hears of what was lost."""

import asyncio

import pytest

from gateway.store.change_feeds import ControlFeed, OwnerFeed


async def test_a_slow_reader_gets_each_task_once_with_its_latest_version() -> None:
    feed = OwnerFeed()
    for version in range(1, 10_001):
        feed.push(f"a {version}")
    feed.push("b 2")
    feed.push("b 1")

    assert await feed.next(10) == {"a": 10_000, "b": 2}
    assert await feed.next(0.01) is None


async def test_a_reader_that_may_have_missed_something_is_told_first() -> None:
    feed = OwnerFeed()
    feed.push("a 1")
    feed.lose()
    feed.push("b 1")

    assert await feed.next(1) == {}
    feed.push("c 3")
    assert await feed.next(10) == {"b": 1, "c": 3}


async def test_nonsense_on_a_channel_is_passed_over() -> None:
    feed = OwnerFeed()
    for message in ("", "a", "a b", "a -1", "a 1 2"):
        feed.push(message)

    assert await feed.next(0) is None


async def test_an_id_waits_in_a_control_feed_once() -> None:
    feed = ControlFeed()
    for task_id in ("a", "b", "a"):
        feed.push(task_id)

    assert [await anext(feed), await anext(feed)] == ["a", "b"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(feed)

"""Work that outlives its request."""

import asyncio
import gc
import logging
import weakref

import pytest

from gateway.domain.errors import StorageUnavailable
from gateway.transfer.owned import OwnedTasks


async def test_work_goes_on_when_whoever_waits_for_it_is_cancelled() -> None:
    owned, released, done = OwnedTasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await released.wait()
        done.set()

    waiting = asyncio.create_task(owned.finish(work(), "work"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert len(owned) == 1
    released.set()
    assert await owned.drain(5) == 0
    assert done.is_set()


async def test_what_work_gives_or_raises_reaches_whoever_waits() -> None:
    async def good() -> int:
        return 7

    async def bad() -> int:
        raise StorageUnavailable("no")

    owned = OwnedTasks()
    assert await owned.finish(good(), "good") == 7
    with pytest.raises(StorageUnavailable):
        await owned.finish(bad(), "bad")


async def test_drain_waits_for_work_that_work_began() -> None:
    owned, ended = OwnedTasks(), asyncio.Event()

    async def second() -> None:
        await asyncio.sleep(0)
        ended.set()

    async def first() -> None:
        await asyncio.sleep(0)
        owned.start(second(), "second")

    owned.start(first(), "first")

    assert await owned.drain(5) == 0
    assert ended.is_set()


async def test_drain_tells_how_much_still_runs_at_its_end() -> None:
    owned, released = OwnedTasks(), asyncio.Event()
    for _ in range(2):
        owned.start(released.wait(), "waits")

    assert await owned.drain(0.01) == 2
    released.set()
    assert await owned.drain(5) == 0


async def test_work_that_failed_holds_nothing_though_somebody_keeps_it() -> None:
    owned, held = OwnedTasks(), []

    async def read() -> None:
        body = {1, 2, 3}
        held.append(weakref.ref(body))
        raise StorageUnavailable("COS is away")

    gc.disable()
    try:
        kept = owned.start(read(), "read")
        assert await owned.drain(5) == 0
        await asyncio.sleep(0)

        assert isinstance(kept.exception(), StorageUnavailable)
        assert held[0]() is None
    finally:
        gc.enable()


async def test_an_unexpected_error_is_logged_though_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    owned = OwnedTasks()

    async def bug() -> None:
        raise KeyError("bug")

    async def expected() -> None:
        raise StorageUnavailable("told to the client anyway")

    with caplog.at_level(logging.INFO):
        owned.start(bug(), "work with a bug")
        owned.start(expected(), "work that COS refused")
        assert await owned.drain(5) == 0
        await asyncio.sleep(0)

    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "work with a bug failed")
    assert "in bug" in logging.Formatter().format(record), "where it happened"

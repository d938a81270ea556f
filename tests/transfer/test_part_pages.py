"""A walk over pages ends: by itself, at its deadline, or when nobody waits for it any more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.domain.errors import StorageBadAnswer, StorageUnavailable
from gateway.domain.parts import MIB
from gateway.domain.task import Task, TaskState
from gateway.transfer import part_pages
from gateway.transfer.part_pages import CLIENT_WAITS, list_held
from tests.fakes.redis_server import send_command
from tests.transfer.kit import ALICE, World, all_of, kinds


@pytest.fixture
async def lost(world: World, redis_url: str) -> Task:
    """A task whose every part COS may hold, and that Redis has lost."""
    task = await world.create(size=10_000 * MIB)
    send_command(redis_url, "FLUSHALL")
    return task


def endless(world: World, lost: Task, seconds: float) -> None:
    """Each page of *lost*'s parts has one more, and says that others follow."""
    world.cos.fault("endless_pages", operation="ListParts", key=lost.at.key, seconds=seconds, times=None)


@asynccontextmanager
async def asking(world: World, lost: Task, is_wanted: Callable[[], bool]) -> AsyncIterator["asyncio.Task[Any]"]:
    """A request whose ticket makes *lost* again, under way by some pages."""

    async def ask() -> None:
        CLIENT_WAITS.set(is_wanted)
        await world.control.rebuild(ALICE, lost)

    request = asyncio.create_task(ask())
    await world.cos.until(lambda _: len(world.journal(lost, "ListParts")) > 2)
    yield request
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


@pytest.mark.promise(20, 23)
async def test_f4_a_walk_ends_with_its_last_client(world: World, lost: Task) -> None:
    here = {"first", "second"}
    endless(world, lost, 0.02)
    async with (
        asking(world, lost, lambda: "first" in here) as first,
        asking(world, lost, lambda: "second" in here) as second,
    ):
        here.remove("first")
        seen = len(world.journal(lost, "ListParts"))
        await world.cos.until(lambda _: len(world.journal(lost, "ListParts")) > seen + 3)
        assert not second.done()
        here.remove("second")

        assert kinds(await all_of(first, second)) == [StorageUnavailable.__name__] * 2
    seen = len(world.journal(lost, "ListParts"))
    await asyncio.sleep(0.1)
    assert len(world.journal(lost, "ListParts")) == seen


@pytest.mark.promise(2, 4)
async def test_f4_a_part_that_cos_holds_is_recorded_though_its_client_has_gone(world: World, redis_url: str) -> None:
    """Its task is made again for the part, whoever waits."""
    task = await world.create(size=3 * MIB)
    stored = world.objects.hold("upload_part", 1, after=True)

    async def send() -> None:
        CLIENT_WAITS.set(lambda: False)
        await world.put_part(task, 1, bytes(MIB))

    sending = asyncio.create_task(send())
    await stored.reached.wait()
    send_command(redis_url, "FLUSHALL")
    stored.open()
    await sending

    assert await world.stored(task) == [(1, MIB)]


@pytest.mark.promise(20)
async def test_f4_a_walk_ends_at_its_deadline(world: World, lost: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_pages, "WALK_SECONDS", 0.2)
    endless(world, lost, 0.02)

    async with asyncio.timeout(5):
        assert kinds(await all_of(world.control.rebuild(ALICE, lost))) == [StorageUnavailable.__name__]


@pytest.mark.promise(20)
async def test_f4_a_walk_ends_at_the_last_part_that_there_can_be(world: World) -> None:
    task = await world.create()
    assert task.upload_id is not None
    endless(world, task, 0)
    first = await world.objects.list_parts(task.at, task.upload_id, marker=9_998)
    assert first.next_marker == 9_999
    assert (await world.objects.list_parts(task.at, task.upload_id, marker=9_999)).next_marker == 10_000

    with pytest.raises(StorageBadAnswer):
        await world.objects.list_parts(task.at, task.upload_id, marker=10_000)


async def test_every_page_is_walked(world: World) -> None:
    world.objects.parts_listed_most = 1
    task = await world.create(size=3 * MIB)
    assert task.upload_id is not None
    for number in (3, 1, 2):
        await world.put_part(task, number, bytes(MIB))

    held = await list_held(world.objects, task.at, task.upload_id)

    assert [part.number for part, _ in held] == [1, 2, 3]
    assert (await world.load(task)).state is TaskState.UPLOADING

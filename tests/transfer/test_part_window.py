"""The window: numbers in order, a bounded number in flight, the first failure kept, every lease released."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from gateway.domain.errors import FileTooLarge, GatewayError, StorageDenied
from gateway.domain.parts import MAX_PART_COUNT, MIB
from gateway.transfer.part_window import PartWindow
from gateway.transfer.replay import BufferedBody
from tests.transfer.kit import ALICE, World, new_task, random_bytes


async def window_of(world: World, failures: list[GatewayError], **new: object) -> PartWindow:
    task = await world.control.create_for_body(ALICE, new_task(**new))
    return PartWindow(world.engine, task, failures.append)


def body(seed: int) -> BufferedBody:
    return BufferedBody([random_bytes(MIB, seed)])


async def test_parts_are_numbered_in_the_order_they_are_sent_whichever_ends_first(world: World) -> None:
    window = await window_of(world, [])
    first = world.objects.hold("upload_part", 1)

    for seed in (1, 2, 3):
        await window.send(body(seed), None)
    await first.reached.wait()
    assert len(window) > 0
    first.open()
    await window.drain()

    assert await world.stored(window.task) == [(1, MIB), (2, MIB), (3, MIB)]
    assert window.task.next_offset == 3 * MIB
    assert [part.crc64 for part in await world.tasks.parts(window.task.id)] == [body(seed).crc64 for seed in (1, 2, 3)]


async def test_send_waits_for_room(world: World) -> None:
    window = await window_of(world, [], async_limit=2)
    gate = world.objects.hold("upload_part")
    for seed in (1, 2):
        await window.send(body(seed), None)

    third = asyncio.create_task(window.send(body(3), None))
    await gate.reached_by(2)
    assert not third.done()
    gate.open()
    await third
    await window.drain()

    assert world.objects.most_parts_in_flight == 2


async def test_the_first_failure_is_told_once_and_raised_by_every_later_call(world: World) -> None:
    failures: list[GatewayError] = []
    window = await window_of(world, failures)
    world.cos.fault("early_error", operation="UploadPart", key=window.task.at.key, status=403, code="AccessDenied")
    await window.send(body(1), None)
    await window.settle()

    assert [type(failure) for failure in failures] == [StorageDenied]
    with pytest.raises(StorageDenied):
        await window.send(body(2), None)
    with pytest.raises(StorageDenied):
        await window.drain()
    assert world.objects.calls["upload_part"] == 1


@pytest.mark.parametrize("fails", [True, False])
async def test_a_lease_is_released_when_cos_has_spoken(world: World, *, fails: bool) -> None:
    window = await window_of(world, [])
    lease = world.engine.budget.try_take(MIB, "alice")
    if fails:
        world.cos.fault("early_error", operation="UploadPart", key=window.task.at.key, status=403, code="AccessDenied")
    gate = world.objects.hold("upload_part", after=not fails)

    await window.send(body(1), lease)
    await gate.reached.wait()
    assert world.engine.budget.used_bytes == MIB
    gate.open()
    await window.settle()

    assert world.engine.budget.used_bytes == 0


async def test_there_is_no_part_after_the_ten_thousandth(world: World) -> None:
    window = await window_of(world, [])
    window.next_number = MAX_PART_COUNT + 1

    with pytest.raises(FileTooLarge):
        await window.send(body(1), None)


class BrokenBody(BufferedBody):
    """A defect of ours."""

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b""
        raise ZeroDivisionError


async def test_a_part_that_a_defect_ended_is_missed_by_every_later_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("gateway.transfer.owned"), "disabled", True)  # it tells, as it should
    failures: list[GatewayError] = []
    window = await window_of(world, failures)
    await window.send(BrokenBody([b"x" * MIB]), None)
    await window.settle()

    with pytest.raises(GatewayError) as caught:
        await window.drain()

    assert (caught.value.code, failures) == ("internal", [caught.value])

"""Files of clients that cannot resume, before the local COS and a real Redis."""

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.errors import (
    BodyIncomplete,
    DigestMismatch,
    FileTooLarge,
    Forbidden,
    StorageDenied,
    TaskCanceled,
    TaskPaused,
)
from gateway.domain.parts import MAX_PUT_BYTES, MIB
from gateway.domain.policy import Policy
from gateway.domain.task import Task, TaskState
from gateway.transfer.digests import Digests
from gateway.transfer.streamed_put import StreamedPut
from gateway.transfer.whole_files import SMALL_FILE_BYTES
from tests.transfer.kit import ALICE, Client, World, new_task, random_bytes, sent

SLOW = random_bytes(3 * MIB)


@pytest.fixture
def puts(world: World) -> StreamedPut:
    return StreamedPut(world.engine, world.completion, world.control, world.sequential)


async def only_task(world: World) -> Task:
    """The caller's newest task."""
    return (await world.tasks.list_tasks("alice", limit=1)).tasks[0]


@pytest.mark.parametrize("size", [0, 1, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, 5 * MIB + 7])
async def test_a_file_of_known_length_is_one_put(world: World, puts: StreamedPut, size: int) -> None:
    data = random_bytes(size)

    task = await puts.receive(ALICE, new_task(), size, sent(data), Digests())

    world.require_success(task, data)
    assert len(world.journal(task, "PutObject")) == 1
    assert world.journal(task, "InitiateMultipartUpload") == []


@pytest.mark.parametrize("size", [0, 1, MIB + 1, 16 * MIB, 17 * MIB + 3])
async def test_a_file_of_unknown_length_is_one_put_up_to_16_mib(world: World, puts: StreamedPut, size: int) -> None:
    data = random_bytes(size)

    task = await puts.receive_unknown(ALICE, new_task(), sent(data), Digests(), None)

    world.require_success(task, data)
    assert len(world.journal(task, "PutObject")) == (1 if size <= 16 * MIB else 0)


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_nothing_is_read_before_the_policy_agreed(world: World, puts: StreamedPut, size: int) -> None:
    client = Client()
    for caller, error in (
        (replace(ALICE, policy=Policy(actions=frozenset({"create"}))), Forbidden),
        (replace(ALICE, policy=Policy(max_size=9)), FileTooLarge),
    ):
        with pytest.raises(error):
            await puts.receive(caller, new_task(), size, client, Digests())
    with pytest.raises(FileTooLarge):
        await puts.receive(ALICE, new_task(), MAX_PUT_BYTES + 1, client, Digests())


@pytest.mark.parametrize(("verb", "error"), [("pause", TaskPaused), ("cancel", TaskCanceled)])
async def test_it_can_be_ended_while_it_streams(
    world: World, puts: StreamedPut, verb: str, error: type[Exception]
) -> None:
    client = Client(SLOW[:MIB])
    putting = asyncio.create_task(puts.receive(ALICE, new_task(), len(SLOW), client, Digests()))
    await client.taken()
    task = await only_task(world)

    await getattr(world.control, verb)(ALICE, task.id, None)
    with pytest.raises(error):
        await putting

    await world.engine.owned.drain(5)
    assert not world.exists(task)
    assert (await world.load(task)).state in (TaskState.PAUSED, TaskState.CANCELED)


async def test_the_last_chunk_goes_out_only_when_the_task_is_completing(world: World, puts: StreamedPut) -> None:
    gate = world.objects.hold("put_object", after=True)
    putting = asyncio.create_task(puts.receive(ALICE, new_task(), len(SLOW), sent(SLOW), Digests()))
    async with asyncio.timeout(10):
        await gate.reached.wait()

    task = await only_task(world)
    gate.open()

    assert task.state is TaskState.COMPLETING
    world.require_success(await putting, SLOW)


async def test_a_client_that_leaves_stores_nothing(world: World, puts: StreamedPut) -> None:
    with pytest.raises(BodyIncomplete):
        await puts.receive(ALICE, new_task(), len(SLOW), sent(SLOW[:MIB]), Digests())
    await world.engine.owned.drain(5)

    task = await only_task(world)
    assert task.state is TaskState.ERROR
    assert not world.exists(task)


async def test_a_wrong_digest_stores_nothing(world: World, puts: StreamedPut) -> None:
    for size in (10, len(SLOW)):
        with pytest.raises(DigestMismatch):
            await puts.receive(ALICE, new_task(), size, sent(SLOW[:size]), Digests(crc64=1))
    await world.engine.owned.drain(5)

    assert not world.exists(await only_task(world))


async def test_cos_s_no_comes_before_the_whole_body_was_sent(world: World, puts: StreamedPut) -> None:
    new = new_task()
    world.cos.fault("early_error", operation="PutObject", key=new.key, status=403, code="AccessDenied")
    client = Client(SLOW[:MIB])

    with pytest.raises(StorageDenied):
        await puts.receive(ALICE, new, len(SLOW), client, Digests())

    assert (await world.until(await only_task(world), TaskState.ERROR)).error is not None


async def test_of_a_file_in_parts_that_fails_no_part_stays(world: World, puts: StreamedPut) -> None:
    caller = replace(ALICE, policy=Policy(max_size=30 * MIB))

    with pytest.raises(FileTooLarge):
        await puts.receive_unknown(caller, new_task(), sent(random_bytes(31 * MIB)), Digests(), None)

    task = await only_task(world)
    assert task.state is TaskState.CANCELED
    assert world.journal(task, "InitiateMultipartUpload")
    assert not world.has_open_upload(task)

"""Whole files in one request: how many times their tasks are written, and what is refused before a byte is read."""

from collections.abc import AsyncIterator

import pytest

from gateway.domain.errors import BodyIncomplete, Forbidden
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import TaskState
from gateway.transfer.digests import Digests
from gateway.transfer.whole_files import SMALL_FILE_BYTES, WholeFiles
from tests.fakes.local_cos import BUCKET
from tests.transfer.kit import ALICE, World, new_task, random_bytes, sent


@pytest.mark.parametrize("size", [0, 1, SMALL_FILE_BYTES])
async def test_a_small_file_is_written_down_once(world: World, size: int) -> None:
    data = random_bytes(size)
    task = await WholeFiles(world.control, world.sequential).receive(ALICE, new_task(), sent(data), Digests(), None)

    world.require_success(task, data)
    assert task.version == 1


@pytest.mark.parametrize("chunk_bytes", [4096, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1])
@pytest.mark.parametrize("size", [SMALL_FILE_BYTES + 1, 3 * MIB])
async def test_a_larger_file_can_be_watched_while_it_comes(world: World, size: int, chunk_bytes: int) -> None:
    data = random_bytes(size)
    body = sent(data, chunk_bytes)
    task = await WholeFiles(world.control, world.sequential).receive(ALICE, new_task(), body, Digests(), None)

    world.require_success(task, data)
    assert task.version > 1


async def test_a_small_file_of_another_size_than_said_stores_nothing(world: World) -> None:
    new = new_task(size=10)
    with pytest.raises(BodyIncomplete) as refused:
        await WholeFiles(world.control, world.sequential).receive(ALICE, new, sent(b"hello"), Digests(), None)

    assert refused.value.facts["expected"] == 10
    assert new.key not in world.cos.keys(BUCKET)


async def test_what_the_policy_forbids_is_refused_before_a_byte_is_read(world: World) -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    reader = Caller("alice", Policy(actions=frozenset({"read"})), 2e9)
    with pytest.raises(Forbidden):
        await WholeFiles(world.control, world.sequential).receive(reader, new_task(), body(), Digests(), None)

    page = await world.tasks.list_tasks("alice", states=frozenset(TaskState))
    assert (read, page.tasks) == ([], ())

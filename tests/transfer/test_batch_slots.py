"""Bodies of one batch: who may move, who waits, and what frees a slot."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
from redis.asyncio import Redis

from gateway.domain.batch import Batch, BatchFile, BatchId
from gateway.domain.errors import StorageDenied, TaskWaiting
from gateway.domain.parts import MIB
from gateway.domain.task import Failed, Task, TaskError, TaskId
from gateway.store.batch_store import RedisBatchStore
from gateway.store.redis_address import connect
from gateway.transfer.batch_slots import BatchSlots
from gateway.transfer.digests import Digests
from gateway.transfer.relay import PartConditions, PartRelay
from gateway.transfer.sequential import SequentialRelay
from gateway.transfer.sequential_flow import ContentRange
from tests.transfer.kit import ALICE, Client, World, random_bytes, sent

ID = BatchId("batch")


class TellingStore(RedisBatchStore):
    """Tells what was renewed."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, ttl_seconds=3600)
        self.renewed: asyncio.Queue[Sequence[tuple[BatchId, TaskId]]] = asyncio.Queue()

    async def renew_slots(self, held: Sequence[tuple[BatchId, TaskId]]) -> None:
        await super().renew_slots(held)
        self.renewed.put_nowait(held)


@dataclass
class Turns:
    """A batch of three files of which *limit* may move."""

    world: World
    batches: TellingStore
    slots: BatchSlots
    parts: PartRelay
    sequential: SequentialRelay
    tasks: list[Task]

    async def put(self, task: Task, number: int = 1) -> None:
        """Part *number* of *task*."""
        await self.parts.receive_part(
            ALICE,
            task.id,
            number,
            MIB,
            sent(random_bytes(MIB)),
            digests=Digests(),
            conditions=PartConditions(),
        )


@pytest.fixture
async def turns(world: World, redis_url: str) -> AsyncIterator[Turns]:
    redis = connect(redis_url)
    batches = TellingStore(redis)
    slots = BatchSlots(batches, world.tasks, world.engine.bodies)
    engine = replace(world.engine, slots=slots)
    tasks = [await world.create(size=2 * MIB, batch_id=ID) for _ in range(3)]
    await batches.save(Batch(ID, "alice", 1, 0.0, tuple(BatchFile(task.id) for task in tasks)))
    yield Turns(world, batches, slots, PartRelay(engine), SequentialRelay(engine, world.completion), tasks)
    await redis.aclose()


async def test_over_the_limit_a_body_waits_and_nothing_of_it_reaches_cos(turns: Turns) -> None:
    first, second, _ = turns.tasks
    await turns.put(first)
    with pytest.raises(TaskWaiting) as waiting:
        await turns.put(second)
    with pytest.raises(TaskWaiting):
        await turns.sequential.receive_content(ALICE, second.id, ContentRange(), sent(b"x"), Digests())

    assert (waiting.value.status_hint, waiting.value.retryable) == (429, True)
    assert waiting.value.retry_after_seconds
    assert await turns.world.stored(second) == []
    assert (await turns.world.load(second)).state == "waiting"
    await turns.put(first, 2)


async def test_a_pause_a_cancel_and_an_error_free_the_slot(turns: Turns) -> None:
    first, second, third = turns.tasks
    await turns.put(first)
    await turns.world.control.pause(ALICE, first.id, None)
    await turns.put(second)
    await turns.world.control.cancel(ALICE, second.id, None)
    await turns.put(third)
    await turns.world.tasks.apply(await turns.world.load(third), Failed(TaskError.of(StorageDenied())))
    await turns.world.control.restart(ALICE, first.id, None)
    await turns.put(first, 2)


async def test_success_frees_the_slot(turns: Turns) -> None:
    first, second, _ = turns.tasks
    data = random_bytes(2 * MIB)
    done = await turns.sequential.receive_content(
        ALICE, first.id, ContentRange(length=len(data)), sent(data), Digests()
    )
    await turns.put(second)

    turns.world.require_success(done, data)


async def test_a_body_that_flows_for_long_keeps_its_slot(turns: Turns) -> None:
    slots = BatchSlots(turns.batches, turns.world.tasks, turns.world.engine.bodies, renew_seconds=0.01)
    client = Client(random_bytes(1000))
    body = asyncio.create_task(
        turns.sequential.receive_content(ALICE, turns.tasks[0].id, ContentRange(), client, Digests())
    )
    await client.taken()
    running = asyncio.create_task(slots.run())
    held = await asyncio.wait_for(turns.batches.renewed.get(), 10)
    running.cancel()
    client.leave()
    await asyncio.gather(body, running, return_exceptions=True)

    assert held == [(ID, turns.tasks[0].id)]


async def test_a_task_without_a_batch_asks_for_no_slot(turns: Turns) -> None:
    alone = await turns.world.create(size=2 * MIB)
    await turns.put(turns.tasks[0])
    await turns.put(alone)

    assert await turns.world.stored(alone) == [(1, MIB)]

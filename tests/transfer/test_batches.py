"""Batches as use cases: order, errors in place, repetition, and moves of all tasks."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.domain.batch import Batch, BatchFile, BatchId
from gateway.domain.errors import (
    BatchNotFound,
    Forbidden,
    GatewayError,
    IdempotencyConflict,
    InvalidField,
    StateStoreUnavailable,
)
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Policy
from gateway.store.batch_store import RedisBatchStore
from gateway.store.redis_address import connect
from gateway.transfer.batches import Batches, BatchView
from gateway.transfer.drafts import NewTask
from gateway.transfer.ports import Idempotency
from tests.fakes.local_cos import BUCKET
from tests.transfer.kit import ALICE, BOB, World, new_task, random_bytes


class FailingStore(RedisBatchStore):
    """A Redis that goes away before a batch is written down, while ``saves`` is False."""

    saves = True

    async def save(self, batch: Batch) -> None:
        if not self.saves:
            raise StateStoreUnavailable("Redis is gone in this test.")
        await super().save(batch)


@dataclass
class Scene:
    world: World
    store: FailingStore
    batches: Batches

    async def create(self, files: Sequence[NewTask | GatewayError], **more: Any) -> BatchView:
        return await self.batches.create(more.pop("caller", ALICE), files, 3, **more)


@pytest.fixture
async def scene(world: World, redis_url: str) -> AsyncIterator[Scene]:
    redis = connect(redis_url)
    store = FailingStore(redis, ttl_seconds=3600)
    yield Scene(world, store, Batches(store, world.tasks, world.control, world.engine.owned))
    await redis.aclose()


def states(view: BatchView) -> list[str]:
    """The files' states in input order; a file without a task by its error's code."""

    def state(file: BatchFile) -> str:
        if file.task_id is not None:
            return view.tasks[file.task_id].state.value
        return file.error.code if file.error is not None else ""

    return [state(file) for file in view.batch.files]


async def test_files_keep_their_order_and_one_error_stops_nobody(scene: Scene) -> None:
    files = [new_task(size=size) for size in range(1, 40)]
    view = await scene.create([*files, new_task(key="/bad"), InvalidField("before"), new_task(size=5 * MIB)])
    keys = [view.tasks[file.task_id].at.key for file in view.batch.files if file.task_id]

    assert states(view) == ["waiting"] * 39 + ["invalid_key", "invalid_field", "waiting"]
    assert keys[:39] == [file.key for file in files]
    assert {task.batch_id for task in view.tasks.values()} == {view.batch.id}
    assert view.totals.size == sum(range(1, 40)) + 5 * MIB


async def test_a_file_that_cos_refuses_is_an_error_in_its_place(scene: Scene) -> None:
    refused = new_task(size=5 * MIB)
    scene.world.cos.fault(
        "error", operation="InitiateMultipartUpload", key=refused.key, status=403, code="AccessDenied"
    )
    view = await scene.create([refused, new_task(size=5 * MIB)])

    assert states(view) == ["storage_denied", "waiting"]
    assert view.batch.files[0].error is not None
    assert view.batch.files[0].error.cos is not None


async def test_the_same_idempotency_key_gives_the_same_batch(scene: Scene) -> None:
    files = [new_task(size=1), new_task(size=5 * MIB)]
    asked = Idempotency("again", "digest")
    first = await scene.create(files, idempotency=asked)
    second = await scene.create(files, idempotency=asked)

    assert first.batch == second.batch
    assert len(scene.world.cos.journal("InitiateMultipartUpload", key=files[1].key)) == 1
    with pytest.raises(IdempotencyConflict):
        await scene.create(files, idempotency=Idempotency("again", "another"))


async def test_a_batch_that_broke_off_while_it_was_made_is_made_up(scene: Scene) -> None:
    """The tasks that were created before are those that the repetition answers."""
    files = [new_task(size=1), new_task(size=2)]
    asked = Idempotency("broken", "digest")
    scene.store.saves = False
    with pytest.raises(StateStoreUnavailable):
        await scene.create(files, idempotency=asked)
    before = (await scene.world.tasks.list_tasks("alice")).tasks
    scene.store.saves = True
    view = await scene.create(files, idempotency=asked)

    assert {task.id for task in before} == set(view.tasks)


async def test_pause_restart_and_cancel_move_every_task_that_can_be_moved(scene: Scene) -> None:
    view = await scene.create([new_task(size=3 * MIB), new_task(size=10), new_task(size=20), new_task(key="/")])
    first, second, third = view.batch.task_ids
    await scene.world.put_content(view.tasks[second], random_bytes(10))
    await scene.world.put_part(view.tasks[first], 1, random_bytes(MIB))
    batch_id = view.batch.id

    assert states(await scene.batches.pause(ALICE, batch_id)) == ["paused", "success", "paused", "invalid_key"]
    assert states(await scene.batches.pause(ALICE, batch_id)) == ["paused", "success", "paused", "invalid_key"]
    assert states(await scene.batches.restart(ALICE, batch_id)) == ["waiting", "success", "waiting", "invalid_key"]
    await scene.world.control.pause(ALICE, third, None)
    assert states(await scene.batches.cancel(ALICE, batch_id)) == ["canceled", "success", "canceled", "invalid_key"]
    assert view.tasks[first].at.key not in scene.world.cos.open_uploads(BUCKET)
    assert (await scene.batches.get(ALICE, batch_id)).totals.percent == 1.0


async def test_a_restart_leaves_what_moves_alone(scene: Scene) -> None:
    view = await scene.create([new_task(size=10)])
    after = await scene.batches.restart(ALICE, view.batch.id)

    assert [task.version for task in after.tasks.values()] == [task.version for task in view.tasks.values()]


async def test_anothers_batch_is_none_at_all(scene: Scene) -> None:
    view = await scene.create([new_task(size=10)])
    overseer = Caller("root", Policy(actions=frozenset({"read", "all_tasks"})), 2e9)
    elsewhere = Caller("root", Policy(prefix="x/", actions=frozenset({"read", "all_tasks"})), 2e9)

    for caller in (BOB, elsewhere):
        with pytest.raises(BatchNotFound):
            await scene.batches.get(caller, view.batch.id)
    with pytest.raises(BatchNotFound):
        await scene.batches.get(ALICE, BatchId("unknown"))
    assert (await scene.batches.get(overseer, view.batch.id)).batch == view.batch


@pytest.mark.promise(25)
async def test_s7_of_a_batch_everybody_sees_what_lies_inside_of_their_policy(scene: Scene) -> None:
    mixed = await scene.create(
        [new_task(key="here/1", size=1), new_task(key="elsewhere/2", size=20), new_task(key="/no key", size=1)]
    )
    outside = await scene.create([new_task(key="elsewhere/3", size=1)])
    without_tasks = await scene.create([new_task(key="/no key", size=1)])
    actions = frozenset({"read", "all_tasks"})
    overseer, narrow = (Caller(owner, Policy(prefix="here/", actions=actions), 2e9) for owner in ("root", "alice"))

    for caller in (overseer, narrow):
        view = await scene.batches.get(caller, mixed.batch.id)
        assert [(index, file.task_id) for index, file in view.files] == [(0, mixed.batch.task_ids[0])]
        assert view.totals.size == 1
    assert [index for index, _ in (await scene.batches.get(ALICE, mixed.batch.id)).files] == [0, 1, 2]
    for caller, view in (
        (overseer, outside),
        (narrow, outside),
        (overseer, without_tasks),
        (BOB, without_tasks),
        (BOB, mixed),
    ):
        with pytest.raises(BatchNotFound):
            await scene.batches.get(caller, view.batch.id)
    assert len((await scene.batches.get(ALICE, without_tasks.batch.id)).files) == 1


async def test_without_the_action_nothing_is_created_or_moved(scene: Scene) -> None:
    reader = Caller("alice", Policy(actions=frozenset({"read"})), 2e9)
    with pytest.raises(Forbidden):
        await scene.create([new_task(size=1)], caller=reader)
    view = await scene.create([new_task(size=1)])
    with pytest.raises(Forbidden):
        await scene.batches.pause(reader, view.batch.id)

    assert states(await scene.batches.get(reader, view.batch.id)) == ["waiting"]


async def test_what_redis_lost_of_a_batch_is_missing_from_it_alone(scene: Scene, redis_url: str) -> None:
    view = await scene.create([new_task(size=1), new_task(size=2)])
    redis = connect(redis_url)
    await redis.delete(f"gw:{{{view.batch.task_ids[0]}}}")
    await redis.aclose()
    now = await scene.batches.get(ALICE, view.batch.id)

    assert list(now.tasks) == [view.batch.task_ids[1]]

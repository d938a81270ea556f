"""Create, look, list, pause, restart, cancel: who may, what it leaves, what is idempotent."""

import asyncio

import pytest

from gateway.domain.errors import (
    FileTooLarge,
    Forbidden,
    GatewayError,
    IdempotencyConflict,
    IllegalTransition,
    InvalidKey,
    InvalidSize,
    KeyNotAllowed,
    ObjectExists,
    TaskNotFound,
    TypeNotAllowed,
    UnknownDestination,
    VersionMismatch,
)
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import Intent, Task, TaskId, TaskState
from gateway.transfer import control
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.ports import Idempotency
from gateway.transfer.replay import BufferedBody
from gateway.transfer.sequential_flow import ContentRange
from tests.fakes.local_cos import BUCKET
from tests.transfer.kit import ALICE, BOB, Client, World, new_task, part_of, random_bytes, sent

DATA = random_bytes(2 * MIB + 5)


def alice(**policy: object) -> Caller:
    return Caller("alice", Policy(**policy), 2e9)  # type: ignore[arg-type]


# --- create -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "slice_size", "opens"),
    [
        (None, MIB, True),
        (MIB + 1, MIB, True),
        (MIB, MIB, False),
        (0, MIB, False),
        (8 * MIB, 8 * MIB, False),
        (65 * MIB, 100 * MIB, True),
    ],
)
async def test_an_upload_is_opened_at_create_where_the_file_will_need_one(
    world: World, size: int | None, slice_size: int, *, opens: bool
) -> None:
    task = await world.create(size=size, slice_size=slice_size)

    assert (task.upload_id is not None) is opens
    assert world.has_open_upload(task) is opens
    assert (task.state, task.intent, task.owner, task.size) == (TaskState.WAITING, Intent.NONE, "alice", size)
    assert await world.load(task) == task


async def test_options_go_with_the_upload_and_stand_on_the_object(world: World) -> None:
    headers = {"content-type": "video/mp4", "x-cos-storage-class": "STANDARD_IA", "x-cos-meta-a": "1"}
    task = await world.create(size=len(DATA), object_headers=headers)

    await world.put_content(task, DATA)

    stored = world.cos.headers(task.at.bucket, task.at.key)
    assert {name: stored[name] for name in headers} == headers


async def test_the_same_idempotency_key_gives_the_same_task_and_one_upload(world: World) -> None:
    new, once = new_task(), Idempotency("key", "digest")

    tasks = await asyncio.gather(*(world.control.create(ALICE, new, once) for _ in range(4)))
    later = await world.control.create(ALICE, new, once)

    (task_id,) = {task.id for task in (*tasks, later)}
    task = await world.control.get(ALICE, task_id)
    assert {one.upload_id for one in (*tasks, later)} == {task.upload_id}
    assert world.cos.open_uploads(BUCKET).count(task.at.key) == 1


async def test_an_idempotency_key_used_for_something_else_is_a_conflict(world: World) -> None:
    await world.control.create(ALICE, new_task(), Idempotency("key", "one"))

    with pytest.raises(IdempotencyConflict):
        await world.control.create(ALICE, new_task(), Idempotency("key", "two"))

    await world.control.create(BOB, new_task(), Idempotency("key", "three"))


async def test_a_create_whose_upload_failed_is_finished_by_the_same_key(world: World) -> None:
    new, once = new_task(), Idempotency("key", "digest")
    world.cos.fault("error", operation="InitiateMultipartUpload", key=new.key, times=None)
    with pytest.raises(GatewayError) as caught:
        await world.control.create(ALICE, new, once)
    world.cos.clear_faults()

    task = await world.control.create(ALICE, new, once)

    assert caught.value.retryable
    assert task.upload_id is not None
    assert world.cos.open_uploads(BUCKET).count(new.key) == 1


async def test_forbid_overwrite_refuses_at_create_and_only_what_exists(world: World) -> None:
    new = new_task(size=3, forbid_overwrite=True)
    first = await world.control.create(ALICE, new)
    await world.put_content(first, b"abc")

    with pytest.raises(ObjectExists):
        await world.control.create(ALICE, new)
    with pytest.raises(ObjectExists):
        await world.control.create_for_body(ALICE, new)
    draft = world.control.draft_for_whole(ALICE, new, 3)
    with pytest.raises(ObjectExists):
        await world.completion.put_new(draft, BufferedBody([b"abc"]), None)

    assert world.read(first.at) == b"abc"


async def test_a_create_sent_again_after_its_success_is_no_overwrite(world: World) -> None:
    new, once = new_task(size=3, forbid_overwrite=True), Idempotency("once and for all", "digest")
    first = await world.control.create(ALICE, new, once)
    done = await world.put_content(first, b"abc")

    assert await world.control.create(ALICE, new, once) == done
    with pytest.raises(ObjectExists):
        await world.control.create(ALICE, new, Idempotency("once more", "digest"))


@pytest.mark.parametrize(
    ("policy", "new", "error"),
    [
        ({"actions": frozenset({"read"})}, {}, Forbidden),
        ({"buckets": frozenset({"other"})}, {}, UnknownDestination),
        ({}, {"bucket": "nowhere"}, UnknownDestination),
        ({}, {"region": "ap-nowhere"}, UnknownDestination),
        ({}, {"key": "/x"}, InvalidKey),
        ({"prefix": "photos/"}, {"key": "videos/x"}, KeyNotAllowed),
        ({"max_size": 9}, {"size": 10}, FileTooLarge),
        ({}, {"size": -1}, InvalidSize),
        ({}, {"part_size": MIB - 1}, InvalidSize),
        ({"types": ("image/*",)}, {"content_type": "text/html"}, TypeNotAllowed),
    ],
)
async def test_what_the_token_or_cos_does_not_allow_is_refused_before_anything_is_made(
    world: World, policy: dict[str, object], new: dict[str, object], error: type[GatewayError]
) -> None:
    for make in (world.control.create, world.control.create_for_body):
        with pytest.raises(error):
            await make(alice(**policy), new_task(**new))

    assert not world.objects.calls
    page = await world.control.list(ALICE, states=None, batch_id=None, limit=10, cursor=None)
    assert page.tasks == ()


@pytest.mark.parametrize(("prefix", "expected"), [("", "a.bin"), ("photos/", "photos/a.bin")])
async def test_a_key_left_to_the_gateway_lies_below_the_tokens_prefix(world: World, prefix: str, expected: str) -> None:
    assert world.control.key_for(alice(prefix=prefix), None, None, "a.bin") == expected


# --- look ---------------------------------------------------------------------------------------------------------


async def test_another_callers_task_is_unknown_to_every_call(world: World) -> None:
    task = await world.create(size=10)

    for task_id, caller in ((task.id, BOB), (TaskId("f" * 22), ALICE)):
        for call in (
            world.control.get(caller, task_id),
            world.control.parts(caller, task_id),
            world.control.pause(caller, task_id, None),
            world.control.restart(caller, task_id, None),
            world.control.cancel(caller, task_id, None),
            world.control.complete(caller, task_id, CompleteWanted()),
        ):
            with pytest.raises(TaskNotFound):
                await call
    assert await world.load(task) == task


async def test_a_list_shows_the_callers_tasks_newest_first(world: World) -> None:
    mine = [await world.create(size=1) for _ in range(3)]
    theirs = await world.control.create(BOB, new_task(size=1))

    async def listed(caller: Caller, **wanted: object) -> list[TaskId]:
        asked = {"states": None, "batch_id": None, "limit": 10, "cursor": None, **wanted}
        return [task.id for task in (await world.control.list(caller, **asked)).tasks]  # type: ignore[arg-type]

    await world.control.pause(ALICE, mine[1].id, None)
    assert await listed(ALICE) == [task.id for task in reversed(mine)]
    assert await listed(BOB) == [theirs.id]
    assert await listed(ALICE, states=frozenset({TaskState.PAUSED})) == [mine[1].id]
    assert await listed(alice(actions=frozenset({"list", "all_tasks"}))) == [
        theirs.id,
        *(task.id for task in reversed(mine)),
    ]
    with pytest.raises(Forbidden):
        await listed(alice(actions=frozenset({"read"})))


# --- control ------------------------------------------------------------------------------------------------------


async def test_pause_and_restart_may_be_repeated_and_keep_what_is_stored(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.put_part(task, 1, part_of(DATA, 1))

    for move, state in (
        (world.control.pause, TaskState.PAUSED),
        (world.control.pause, TaskState.PAUSED),
        (world.control.restart, TaskState.WAITING),
        (world.control.restart, TaskState.WAITING),
    ):
        now = await move(ALICE, task.id, None)
        assert (now.state, now.loaded, now.upload_id) == (state, MIB, task.upload_id)


async def test_a_stale_version_moves_nothing(world: World) -> None:
    task = await world.create(size=len(DATA))
    paused = await world.control.pause(ALICE, task.id, task.version)

    for move in (world.control.restart, world.control.pause, world.control.cancel):
        with pytest.raises(VersionMismatch) as caught:
            await move(ALICE, task.id, task.version)
        assert caught.value.facts == {"version": paused.version}

    assert await world.load(task) == paused


async def test_a_token_without_control_moves_nothing(world: World) -> None:
    task = await world.create(size=10)
    reader = alice(actions=frozenset({"read", "upload", "complete"}))

    for move in (world.control.pause, world.control.restart, world.control.cancel):
        with pytest.raises(Forbidden):
            await move(reader, task.id, None)


async def test_a_restart_opens_the_upload_that_create_could_not(world: World) -> None:
    new = new_task()
    world.cos.fault("error", operation="InitiateMultipartUpload", key=new.key, times=None)
    with pytest.raises(GatewayError):
        await world.control.create(ALICE, new)
    world.cos.clear_faults()
    page = await world.control.list(ALICE, states=None, batch_id=None, limit=10, cursor=None)

    restarted = await world.control.restart(ALICE, page.tasks[0].id, None)

    assert restarted.upload_id is not None


@pytest.mark.parametrize("stored", [0, 2])
async def test_a_cancel_leaves_no_fragment_at_cos(world: World, stored: int) -> None:
    task = await world.create(size=len(DATA))
    for number in range(1, stored + 1):
        await world.put_part(task, number, part_of(DATA, number))

    for _ in range(2):
        canceled = await world.control.cancel(ALICE, task.id, None)
        assert (canceled.state, canceled.intent) == (TaskState.CANCELED, Intent.NONE)

    assert (await world.objects.list_uploads(task.at.bucket, prefix=task.at.key)).uploads == ()
    assert await world.stored(task) == []
    with pytest.raises(IllegalTransition):
        await world.control.restart(ALICE, task.id, None)


async def test_a_cancel_waits_out_a_part_that_is_still_on_its_way(world: World) -> None:
    task = await world.create(size=len(DATA))
    client = Client(DATA[:1000])
    post = asyncio.create_task(world.put_part(task, 1, client, MIB))
    await client.taken()

    await world.control.cancel(ALICE, task.id, None)
    await asyncio.gather(post, return_exceptions=True)

    assert await world.engine.owned.drain(5) == 0
    assert not world.has_open_upload(task)


async def test_a_cancel_that_cos_does_not_let_finish_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ABORT_WAIT_SECONDS", 5.0)
    task = await world.create(size=len(DATA))
    world.cos.fault("error", operation="AbortMultipartUpload", key=task.at.key, times=None)

    canceled = await world.control.cancel(ALICE, task.id, None)
    assert (canceled.state, canceled.intent) == (TaskState.CANCELED, Intent.ABORT)
    world.cos.clear_faults()

    again = await world.control.cancel(ALICE, task.id, None)
    assert (again.state, again.intent) == (TaskState.CANCELED, Intent.NONE)
    assert not world.has_open_upload(task)


async def test_an_upload_that_outlives_its_abort_is_aborted_again(world: World) -> None:
    """COS says that parts in flight can do that."""
    task = await world.create(size=len(DATA))
    world.cos.fault("early_error", operation="AbortMultipartUpload", key=task.at.key, status=204)

    canceled = await world.control.cancel(ALICE, task.id, None)

    assert canceled.intent is Intent.NONE
    assert not world.has_open_upload(task)
    assert world.objects.calls["abort"] == 2


async def test_a_cancel_of_a_task_without_upload_asks_cos_nothing(world: World) -> None:
    task = await world.create(size=10)

    canceled = await world.control.cancel(ALICE, task.id, None)

    assert (canceled.state, canceled.intent) == (TaskState.CANCELED, Intent.NONE)
    assert not world.objects.calls


async def test_a_finished_task_is_not_canceled(world: World) -> None:
    task = await world.create(size=3)
    done = await world.put_content(task, b"abc")

    for move in (world.control.cancel, world.control.pause, world.control.restart):
        with pytest.raises(IllegalTransition):
            await move(ALICE, task.id, None)

    world.require_success(done, b"abc")


async def test_a_restart_with_a_new_upload_leaves_the_old_one_nowhere(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.put_part(task, 1, part_of(DATA, 1))
    with pytest.raises(GatewayError):
        await world.control.complete(ALICE, (await _all_parts(world, task)).id, CompleteWanted(crc64=1))

    again = await world.control.restart(ALICE, task.id, None)

    assert again.upload_id not in (None, task.upload_id)
    assert world.cos.open_uploads(task.at.bucket).count(task.at.key) == 1
    assert await world.stored(task) == []
    world.require_success(await world.put_content(again, DATA), DATA)


async def _all_parts(world: World, task: Task) -> Task:
    for number in (2, 3):
        await world.put_part(task, number, part_of(DATA, number))
    return task


async def test_the_object_that_stood_there_before_is_replaced_whole(world: World) -> None:
    new = new_task(size=len(DATA))
    first = await world.control.create(ALICE, new)
    await world.objects.put_object(first.at, BufferedBody([b"old"]), {})

    done = await world.put_content(first, sent(DATA), ContentRange(length=len(DATA)))

    world.require_success(done, DATA)

"""The contract of ``transfer.ports.TaskStore``, on the fake and on a real Redis alike."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import (
    BadQuery,
    BodySuperseded,
    Conflict,
    GatewayError,
    IdempotencyConflict,
    IllegalTransition,
    InvalidSize,
    OffsetMismatch,
    PartInProgress,
    TaskCanceled,
    TaskMode,
    TaskNotFound,
    TaskPaused,
    TaskSucceeded,
    UploadLost,
    VersionMismatch,
)
from gateway.domain.objects import Bucket, ETag, ObjectAddress, StoredPart, UploadId
from gateway.domain.policy import Policy
from gateway.domain.task import (
    BodyMode,
    BodyStarted,
    CancelRequested,
    CompleteRequested,
    Failed,
    Intent,
    PauseRequested,
    RestartRequested,
    Succeeded,
    Task,
    TaskError,
    TaskEvent,
    TaskId,
    TaskResult,
    TaskState,
    UploadOpened,
)
from gateway.store.redis_address import connect
from gateway.store.task_store import GLANCES, LOADED_AT_ONCE, SCAN_FACTOR, RedisTaskStore
from gateway.transfer.ports import Idempotency, TaskStore
from tests.fakes.store import MemoryTaskStore
from tests.store.conftest import TTL_SECONDS, TurnedClock, World, new_task, part

LOST = Failed(TaskError("upload_lost", "COS no longer knows the upload", "", False))
RESULT = TaskResult("https://h/k", ETag('"abc-1"'), None, 2**64 - 1, 1000, True)


async def stored(store: TaskStore, task: Task, number: int, size: int = 1000, attempt: str = "a") -> Task:
    """*task* with one more part, as one undisturbed body brings it."""
    await store.begin_part(task.id, number, f"{attempt}{number}")
    return await store.store_part(task, part(number, size), attempt=f"{attempt}{number}")


# --- create, load ---


async def test_a_created_task_is_loaded_as_it_was(store: TaskStore) -> None:
    task = new_task(client_ref="c", object_headers={"Content-Type": "text/plain; charset=ütf"}, batch_id="b")

    created = await store.create(task)

    assert created == replace(task, expires_at=task.updated_at + TTL_SECONDS)
    assert await store.load(task.id) == created
    assert await store.load_many([TaskId("unknown"), task.id]) == [None, created]
    assert await store.load_many([]) == []


async def test_an_unknown_task_is_none_or_not_found(store: TaskStore) -> None:
    unknown = new_task(9)

    assert await store.load(unknown.id) is None
    assert await store.parts(unknown.id) == []
    await store.end_part(unknown.id, 1, "a")
    calls: list[Awaitable[object]] = [
        store.apply(unknown, PauseRequested()),
        store.begin_part(unknown.id, 1, "a"),
        store.store_part(unknown, part(1), attempt="a"),
        store.begin_content(unknown.id, 0, None),
        store.store_content_part(unknown, part(1)),
        store.keep_tail(unknown, b"tail"),
        store.forget_parts(unknown, [1]),
    ]
    for call in calls:
        with pytest.raises(TaskNotFound):
            await call
    assert await store.load(unknown.id) is None


async def test_creating_the_same_id_again_changes_nothing(store: TaskStore) -> None:
    first = await store.create(new_task())
    paused = await store.apply(first, PauseRequested())

    assert await store.create(new_task()) == paused


async def test_each_task_that_was_made_and_each_move_is_told_once(redis: Redis, clock: TurnedClock) -> None:
    told: list[tuple[str, str]] = []
    store = RedisTaskStore(
        redis, ttl_seconds=TTL_SECONDS, clock=clock, observe_move=lambda event, task: told.append((event, task.state))
    )

    task = await store.create(new_task())
    await store.create(new_task())
    await store.apply(task, PauseRequested())
    await redis.flushall()
    await store.restore(task, [StoredPart(1, 1000, ETag('"etag 1"'), None)])

    assert told == [("Created", "waiting"), ("PauseRequested", "paused"), ("Restored", "waiting")]


async def test_an_idempotency_key_names_the_first_task_of_its_owner(store: TaskStore) -> None:
    key = Idempotency("the key", "digest")
    first = await store.create(new_task(1), key)

    assert await store.create(new_task(2), key) == first
    assert (await store.create(new_task(3, owner="bob"), key)).id == new_task(3).id
    assert await store.load(new_task(2).id) is None
    assert await store.created_under("alice", "the key") == first.id
    assert await store.created_under("alice", "another key") is None
    with pytest.raises(IdempotencyConflict):
        await store.create(new_task(4), Idempotency("the key", "another digest"))


async def test_creators_racing_under_one_key_all_get_one_task(world: World) -> None:
    key = Idempotency("k", "d")
    stores = [world.store, world.elsewhere]

    tasks = await asyncio.gather(*(stores[n % 2].create(new_task(n), key) for n in range(1, 9)))

    assert len({task.id for task in tasks}) == 1
    listed = await world.store.list_tasks("alice")
    assert [task.id for task in listed.tasks] == [tasks[0].id]


# --- apply ---


async def test_a_change_raises_the_version_and_moves_the_expiry(world: World) -> None:
    task = await world.store.create(new_task())
    world.clock.now += 500

    paused = await world.store.apply(task, PauseRequested())

    assert (paused.state, paused.version) == (TaskState.PAUSED, 2)
    assert paused.expires_at == world.clock.now + TTL_SECONDS
    assert await world.store.load(task.id) == paused


async def test_every_fact_an_event_changes_is_stored(store: TaskStore) -> None:
    task = await store.create(new_task(size=None))

    task = await store.apply(task, BodyStarted(BodyMode.CONTENT, 1000))
    assert await store.load(task.id) == task
    failed = await store.apply(task, LOST)
    assert (await store.load(task.id) or task).error == LOST.error
    task = await store.apply(failed, RestartRequested())
    assert await store.load(task.id) == task
    assert (task.error, task.upload_id, task.writer) == (None, None, 1)
    task = await store.apply(task, CompleteRequested(Intent.PUT))
    task = await store.apply(task, Succeeded(RESULT))
    assert await store.load(task.id) == task
    assert task.result == RESULT


async def test_a_change_on_an_old_version_is_judged_again_on_the_new_one(store: TaskStore) -> None:
    task = await store.create(new_task())
    await store.apply(task, PauseRequested())

    again = await store.apply(task, PauseRequested())
    canceled = await store.apply(task, CancelRequested())

    assert (again.version, canceled.version, canceled.state) == (3, 4, TaskState.CANCELED)
    with pytest.raises(IllegalTransition):
        await store.apply(task, PauseRequested())


async def test_a_change_that_only_the_old_version_refuses_is_made(store: TaskStore) -> None:
    failed = await store.apply(await store.create(new_task()), LOST)
    await store.apply(failed, RestartRequested())

    assert (await store.apply(failed, PauseRequested())).state is TaskState.PAUSED


@pytest.mark.promise(19)
async def test_an_expected_version_that_has_passed_is_refused(store: TaskStore) -> None:
    task = await store.create(new_task())
    newer = await store.apply(task, PauseRequested())

    with pytest.raises(VersionMismatch) as caught:
        await store.apply(task, RestartRequested(), expected_version=1)
    with pytest.raises(VersionMismatch):
        await store.apply(newer, RestartRequested(), expected_version=1)
    assert caught.value.facts == {"version": 2}
    assert (await store.apply(newer, RestartRequested(), expected_version=2)).version == 3


@pytest.mark.promise(19)
async def test_of_eight_changes_at_once_on_one_version_exactly_one_wins(world: World) -> None:
    task = await world.store.create(new_task())
    barrier = asyncio.Barrier(8)

    async def change(store: TaskStore) -> bool:
        mine = await store.load(task.id)
        assert mine is not None
        await barrier.wait()
        try:
            await store.apply(mine, PauseRequested(), expected_version=mine.version)
        except VersionMismatch:
            return False
        return True

    won = await asyncio.gather(*(change(store) for store in [world.store, world.elsewhere] * 4))

    assert sorted(won) == [False] * 7 + [True]


async def test_eight_changes_at_once_without_a_version_all_count(world: World) -> None:
    task = await world.store.create(new_task())

    changed = await asyncio.gather(*(world.store.apply(task, PauseRequested()) for _ in range(8)))

    assert sorted(each.version for each in changed) == list(range(2, 10))


async def test_a_task_that_leaves_its_upload_or_is_canceled_loses_its_parts(store: TaskStore) -> None:
    histories: list[list[TaskEvent]] = [[LOST, RestartRequested()], [CancelRequested()]]
    for number, events in enumerate(histories, start=1):
        task = await stored(store, await store.create(new_task(number)), 1)
        for event in events:
            task = await store.apply(task, event)

        assert await store.parts(task.id) == []


async def test_success_keeps_the_parts_and_drops_the_tail(store: TaskStore) -> None:
    task = await store.create(new_task(size=None))
    claim = await store.begin_content(task.id, 0, None)
    task = await store.store_content_part(claim.task, part(1))
    task = await store.keep_tail(task, b"tail")
    task = await store.apply(task, CompleteRequested(Intent.COMPLETE))
    task = await store.apply(task, Succeeded(RESULT))

    assert [p.number for p in await store.parts(task.id)] == [1]
    assert (task.tail_size, task.loaded) == (0, 1000)


# --- parts ---


async def test_parts_in_any_order_are_counted_and_contiguous_from_the_first(store: TaskStore) -> None:
    task = await store.create(new_task())
    seen = []
    for number in (3, 1, 5, 2, 4):
        task = await stored(store, task, number, size=100 * number)
        seen.append((task.loaded, task.stored_count, task.contiguous_count, task.next_offset))

    assert seen == [(300, 1, 0, 0), (400, 2, 1, 100), (900, 3, 1, 100), (1100, 4, 3, 600), (1500, 5, 5, 1500)]
    assert await store.parts(task.id) == [part(n, 100 * n) for n in range(1, 6)]
    assert (task.state, task.mode, task.version) == (TaskState.UPLOADING, BodyMode.PARTS, 6)
    assert await store.load(task.id) == task


async def test_the_same_attempt_again_changes_nothing(store: TaskStore) -> None:
    task = await stored(store, await store.create(new_task()), 1)

    assert await store.store_part(task, part(1), attempt="a1") == task


async def test_a_part_stored_again_replaces_the_earlier_bytes(store: TaskStore) -> None:
    task = await store.create(new_task())
    for number in (1, 2, 4):
        task = await stored(store, task, number)

    claim = await store.begin_part(task.id, 1, "b1")
    task = await store.store_part(task, part(1, 400), attempt="b1")
    task = await stored(store, task, 4, 50, attempt="b")

    assert claim.stored == part(1)
    assert (task.loaded, task.next_offset, task.stored_count, task.contiguous_count) == (1450, 1400, 3, 2)


async def test_bodies_for_one_part_that_overlap_are_both_refused_until_decided(store: TaskStore) -> None:
    task = await store.create(new_task())
    first = await store.begin_part(task.id, 1, "first")
    second = await store.begin_part(task.id, 1, "second")
    other = await store.begin_part(task.id, 2, "other")

    assert (first.contested, second.contested, other.contested) == (False, True, False)
    for attempt in ("first", "second"):
        with pytest.raises(PartInProgress):
            await store.store_part(task, part(1), attempt=attempt)
    assert await store.parts(task.id) == []
    task = await store.store_part(task, part(1), attempt="second", decided=True)
    with pytest.raises(PartInProgress):
        await store.store_part(task, part(1, 2), attempt="first", decided=True)
    assert await store.parts(task.id) == [part(1)], "the decision was taken before the other part was stored"
    await store.store_part(task, part(1, 2), attempt="first", decided=True)
    assert await store.parts(task.id) == [part(1, 2)]
    await store.end_part(task.id, 1, "first")
    assert not (await store.begin_part(task.id, 1, "third")).contested


async def test_a_body_of_another_owner_is_not_noted(store: TaskStore) -> None:
    task = await store.create(new_task())
    with pytest.raises(TaskNotFound):
        await store.begin_part(task.id, 1, "mallory", "mallory")

    assert not (await store.begin_part(task.id, 1, "mine", task.owner)).contested


@pytest.mark.parametrize(
    "outside",
    [
        Policy(prefix="elsewhere/"),
        Policy(places=frozenset()),
        Policy(places=frozenset({("other-1250000000", "")})),
        Policy(places=frozenset({("files-1250000000", "elsewhere/"), ("other-1250000000", "目录/")})),
        Policy(prefix="elsewhere/", places=frozenset({("files-1250000000", "目录/")})),
    ],
)
async def test_s7_a_body_from_outside_of_the_policy_leaves_no_trace(store: TaskStore, outside: Policy) -> None:
    at = ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), "目录/a-b%.*")
    task = await store.create(replace(new_task(1), at=at))
    with pytest.raises(TaskNotFound):
        await store.begin_part(task.id, 1, "narrow", task.owner, outside)

    for inside in (
        Policy(prefix="目录/a-b%.*"),
        Policy(prefix="目录/", places=frozenset({("files-1250000000", "目")})),
    ):
        assert not (await store.begin_part(task.id, 1, "mine", task.owner, inside)).contested


async def test_a_body_that_ended_without_storing_still_overlapped(store: TaskStore) -> None:
    task = await store.create(new_task())
    await store.begin_part(task.id, 1, "first")
    await store.begin_part(task.id, 1, "second")
    await store.end_part(task.id, 1, "second")

    with pytest.raises(PartInProgress):
        await store.store_part(task, part(1), attempt="first")


async def test_a_body_that_begins_after_another_has_ended_is_alone(store: TaskStore) -> None:
    task = await store.create(new_task())
    await store.begin_part(task.id, 1, "before")
    await store.end_part(task.id, 1, "before")

    assert not (await store.begin_part(task.id, 1, "after")).contested


async def test_a_body_nobody_knows_of_counts_as_overlapping(store: TaskStore) -> None:
    task = await store.create(new_task())

    with pytest.raises(PartInProgress):
        await store.store_part(task, part(1), attempt="never-begun")


async def test_a_part_that_was_in_flight_when_the_user_paused_is_kept(store: TaskStore) -> None:
    task = await store.create(new_task())
    await store.begin_part(task.id, 1, "a1")
    await store.apply(task, PauseRequested())

    after = await store.store_part(task, part(1), attempt="a1")

    assert (after.state, after.loaded) == (TaskState.PAUSED, 1000)


async def test_a_part_of_an_upload_that_was_left_is_refused(store: TaskStore) -> None:
    task = await store.create(new_task())
    await store.begin_part(task.id, 1, "a1")
    await store.apply(await store.apply(task, LOST), RestartRequested())

    with pytest.raises(UploadLost):
        await store.store_part(task, part(1), attempt="a1")


async def test_final_states_take_no_parts(store: TaskStore) -> None:
    task = await store.create(new_task())
    await store.apply(task, CancelRequested())
    with pytest.raises(TaskCanceled):
        await store.store_part(task, part(1), attempt="a")

    task = await store.create(new_task(2))
    task = await store.apply(task, CompleteRequested(Intent.COMPLETE))
    task = await store.apply(task, Succeeded(RESULT))
    with pytest.raises(TaskSucceeded):
        await store.store_part(task, part(1), attempt="a")


async def test_the_first_body_fixes_the_mode(store: TaskStore) -> None:
    task = await stored(store, await store.create(new_task(1)), 1)
    with pytest.raises(TaskMode):
        await store.begin_content(task.id, 1000, None)

    claim = await store.begin_content((await store.create(new_task(2))).id, 0, None)
    await store.begin_part(claim.task.id, 1, "a")
    with pytest.raises(TaskMode):
        await store.store_part(claim.task, part(1), attempt="a")


async def test_forgotten_parts_are_counted_no_longer(store: TaskStore) -> None:
    task = await store.create(new_task())
    for number in (1, 2, 3, 5):
        task = await stored(store, task, number, size=number)

    task = await store.forget_parts(task, [2, 2, 5, 7])

    assert (task.loaded, task.stored_count, task.contiguous_count, task.next_offset) == (4, 2, 1, 1)
    assert [p.number for p in await store.parts(task.id)] == [1, 3]
    assert await store.forget_parts(task, [2]) == task
    with pytest.raises(UploadLost):
        await store.forget_parts(replace(task, upload_id=UploadId("earlier")), [1])


# --- sequential bodies ---


async def test_a_sequential_body_is_recorded_part_by_part(store: TaskStore) -> None:
    task = await store.create(new_task(size=None))

    claim = await store.begin_content(task.id, 0, 5000)
    one = await store.store_content_part(claim.task, part(1, 3000))
    two = await store.store_content_part(claim.task, part(2, 2000))

    assert (claim.task.mode, claim.task.size, claim.task.writer, claim.tail) == (BodyMode.CONTENT, 5000, 1, b"")
    assert claim.task.state is TaskState.UPLOADING
    assert (one.next_offset, two.next_offset, two.stored_count) == (3000, 5000, 2)
    assert await store.store_content_part(claim.task, part(1, 3000)) == two


async def test_a_body_at_the_wrong_offset_learns_the_right_one(store: TaskStore) -> None:
    task = await store.create(new_task())
    claim = await store.begin_content(task.id, 0, None)
    await store.store_content_part(claim.task, part(1))

    with pytest.raises(OffsetMismatch) as caught:
        await store.begin_content(task.id, 999, None)

    assert caught.value.facts == {"next_offset": 1000}
    await store.store_content_part(claim.task, part(2))


async def test_a_body_of_another_size_is_refused(store: TaskStore) -> None:
    task = await store.create(new_task(size=5000))

    with pytest.raises(InvalidSize):
        await store.begin_content(task.id, 0, 5001)
    assert (await store.begin_content(task.id, 0, 5000)).task.size == 5000


async def test_only_the_newest_writer_may_store(store: TaskStore) -> None:
    task = await store.create(new_task())
    old = await store.begin_content(task.id, 0, None)
    new = await store.begin_content(task.id, 0, None)

    with pytest.raises(BodySuperseded):
        await store.store_content_part(old.task, part(1))
    with pytest.raises(BodySuperseded):
        await store.keep_tail(old.task, b"tail")
    assert (await store.store_content_part(new.task, part(1))).loaded == 1000


@pytest.mark.parametrize("jump_seconds", [3600, -3600])
async def test_b54_whatever_the_clocks_say_the_newest_writer_owns_the_task(world: World, jump_seconds: int) -> None:
    """Ownership is a count, so a clock that jumps, here or at Redis, makes nobody the owner twice."""
    task = await world.store.create(new_task())
    older = await world.store.begin_content(task.id, 0, None)
    world.clock.now += jump_seconds
    newer = await world.elsewhere.begin_content(task.id, 0, None)
    world.clock.now -= 2 * jump_seconds

    with pytest.raises(BodySuperseded):
        await world.store.store_content_part(older.task, part(1))
    assert (await world.elsewhere.store_content_part(newer.task, part(1))).stored_count == 1


@pytest.mark.parametrize(
    ("events", "error"),
    [((CancelRequested(),), TaskCanceled), ((LOST, RestartRequested()), UploadLost)],
    ids=["canceled", "another upload"],
)
async def test_what_a_body_brings_too_late_is_refused(
    store: TaskStore, events: tuple[TaskEvent, ...], error: type[GatewayError]
) -> None:
    claim = await store.begin_content((await store.create(new_task())).id, 0, None)
    task = claim.task
    for event in events:
        task = await store.apply(task, event)

    with pytest.raises(error):
        await store.store_content_part(claim.task, part(1))
    with pytest.raises(error):
        await store.keep_tail(claim.task, b"tail")
    assert ((await store.load(task.id)) or task).loaded == 0


async def test_what_was_in_flight_over_a_pause_and_a_restart_moves_the_task(store: TaskStore) -> None:
    claim = await store.begin_content((await store.create(new_task(1))).id, 0, None)
    other = await store.create(new_task(2))
    await store.begin_part(other.id, 1, "a")
    for task in (claim.task, other):
        restarted = await store.apply(await store.apply(task, PauseRequested()), RestartRequested())
        assert restarted.state is TaskState.WAITING

    assert (await store.store_content_part(claim.task, part(1))).state is TaskState.UPLOADING
    assert (await store.store_part(other, part(1), attempt="a")).state is TaskState.UPLOADING


async def test_a_new_writer_drops_the_parts_beyond_the_gap(store: TaskStore) -> None:
    task = await store.create(new_task())
    claim = await store.begin_content(task.id, 0, None)
    for number in (1, 3, 4):
        task = await store.store_content_part(claim.task, part(number))
    assert (task.loaded, task.next_offset) == (3000, 1000)

    claim = await store.begin_content(task.id, 1000, None)

    assert (claim.task.loaded, claim.task.stored_count, claim.task.next_offset) == (1000, 1, 1000)
    assert [p.number for p in await store.parts(task.id)] == [1]


async def test_the_tail_counts_until_the_part_that_holds_it_is_stored(store: TaskStore) -> None:
    task = await store.create(new_task(size=None))
    claim = await store.begin_content(task.id, 0, None)
    task = await store.store_content_part(claim.task, part(1))
    kept = await store.keep_tail(task, b"\x00\xff tail")
    assert (kept.tail_size, kept.loaded, kept.next_offset) == (7, 1007, 1007)

    claim = await store.begin_content(task.id, 1007, None)
    assert claim.tail == b"\x00\xff tail"
    later = await store.store_content_part(claim.task, part(3, 500))
    assert (later.tail_size, later.loaded, later.next_offset) == (7, 1507, 1007)
    whole = await store.store_content_part(claim.task, part(2, 600))
    assert (whole.tail_size, whole.loaded, whole.next_offset) == (0, 2100, 2100)
    assert (await store.begin_content(task.id, 2100, None)).tail == b""


async def test_a_tail_is_replaced_and_an_empty_one_removes_it(store: TaskStore) -> None:
    claim = await store.begin_content((await store.create(new_task())).id, 0, None)
    await store.keep_tail(claim.task, b"long tail")

    short = await store.keep_tail(claim.task, b"s")
    none = await store.keep_tail(claim.task, b"")

    assert (short.next_offset, none.next_offset, none.tail_size) == (1, 0, 0)


async def test_a_tail_goes_with_the_part_before_it(store: TaskStore) -> None:
    claim = await store.begin_content((await store.create(new_task())).id, 0, None)
    before = await store.store_content_part(claim.task, part(1))
    task = await store.keep_tail(before, b"tail")

    task = await store.forget_parts(task, [1])

    assert (task.loaded, task.next_offset, task.tail_size) == (0, 0, 0)
    with pytest.raises(OffsetMismatch):  # it followed what is gone
        await store.keep_tail(before, b"tail")
    assert (await store.begin_content(task.id, 0, None)).tail == b""


async def test_a_paused_task_takes_no_new_body_but_keeps_what_was_in_flight(store: TaskStore) -> None:
    claim = await store.begin_content((await store.create(new_task())).id, 0, None)
    await store.apply(claim.task, PauseRequested())

    with pytest.raises(TaskPaused):
        await store.begin_content(claim.task.id, 0, None)
    task = await store.store_content_part(claim.task, part(1))
    assert (await store.keep_tail(task, b"tail")).next_offset == 1004


# --- speed ---


async def test_speed_follows_what_is_stored_and_falls_to_zero_when_nothing_flows(world: World) -> None:
    task = await world.store.create(new_task())
    for number in range(1, 9):
        await world.store.begin_part(task.id, number, f"a{number}")
        world.clock.now += 0.5
        task = await world.store.store_part(task, part(number, 1_000_000), attempt=f"a{number}")
    assert task.speed == pytest.approx(2_000_000)

    world.clock.now += 9
    assert (await world.store.load(task.id) or task).speed == pytest.approx(2_000_000)
    world.clock.now += 2
    assert (await world.store.load(task.id) or task).speed == 0
    await world.store.begin_part(task.id, 9, "a9")
    world.clock.now += 2
    task = await world.store.store_part(task, part(9, 1_000_000), attempt="a9")
    assert task.speed == pytest.approx(500_000)
    assert (await world.store.apply(task, PauseRequested())) is not None
    assert (await world.store.load(task.id) or task).speed == 0


async def test_speed_forgets_within_seconds_how_slow_it_was(world: World) -> None:
    task = await world.store.create(new_task())
    for number in range(1, 11):
        await world.store.begin_part(task.id, number, f"a{number}")
        world.clock.now += 1
        size = 1_000_000 if number <= 5 else 9_000_000
        task = await world.store.store_part(task, part(number, size), attempt=f"a{number}")

    assert 8_000_000 < task.speed < 9_000_000


# --- lists ---


async def test_lists_are_newest_first_and_each_owner_sees_their_own(store: TaskStore) -> None:
    for number in range(1, 6):
        await store.create(new_task(number, owner="bob" if number == 3 else "alice"))

    mine = await store.list_tasks("alice")
    everybodys = await store.list_tasks(None)

    assert [int(t.id, 16) for t in mine.tasks] == [5, 4, 2, 1]
    assert [int(t.id, 16) for t in everybodys.tasks] == [5, 4, 3, 2, 1]
    assert (mine.next_cursor, everybodys.next_cursor) == (None, None)
    assert await store.list_tasks("carol") == type(mine)((), None)


async def test_pages_are_stable_while_tasks_are_added_at_both_ends(store: TaskStore) -> None:
    for number in range(10, 21):
        await store.create(new_task(number, created_at=1_800_000_000.0 + number // 4))
    seen, cursor = [], None
    for added in range(3, 10):
        page = await store.list_tasks("alice", limit=3, cursor=cursor)
        seen += [int(t.id, 16) for t in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
        await store.create(new_task(100 + added))
    assert seen == list(range(20, 9, -1))


async def test_lists_are_filtered_by_state_and_batch(store: TaskStore) -> None:
    for number in range(1, 7):
        task = await store.create(new_task(number, batch_id="even" if number % 2 == 0 else None))
        if number % 3 == 0:
            await store.apply(task, PauseRequested())

    paused = await store.list_tasks("alice", states=frozenset({TaskState.PAUSED}), limit=2)
    even = await store.list_tasks("alice", batch_id="even", limit=3)
    both = await store.list_tasks(None, states=frozenset({TaskState.PAUSED}), batch_id="even", limit=1)

    assert [int(t.id, 16) for t in paused.tasks] == [6, 3]
    assert [int(t.id, 16) for t in even.tasks] == [6, 4, 2]
    assert [int(t.id, 16) for t in both.tasks] == [6]


async def test_s7_a_list_inside_a_policy_is_filled_by_reading_on(store: TaskStore) -> None:
    for number in range(1, 12):
        task = new_task(number)
        bucket = replace(task.at.bucket, name="other-1250000000") if number % 3 == 0 else task.at.bucket
        await store.create(replace(task, at=ObjectAddress(bucket, f"{'in' if number % 2 else 'out'}/{number}")))
    there = new_task(1).at.bucket.name
    inside = Policy(prefix="in/", places=frozenset({(there, "in/"), (there, "out/")}))

    first = await store.list_tasks("alice", inside=inside, limit=3)
    rest = await store.list_tasks("alice", inside=inside, limit=3, cursor=first.next_cursor)

    assert [int(t.id, 16) for t in first.tasks] == [11, 7, 5]
    assert [int(t.id, 16) for t in rest.tasks] == [1]
    assert rest.next_cursor is None
    assert (await store.list_tasks("alice", inside=Policy(places=frozenset()))).tasks == ()


async def test_s7_a_list_looks_at_a_bounded_number_of_tasks_and_tells_where_to_go_on(
    redis_store: RedisTaskStore,
) -> None:
    for number in range(1, 2 * SCAN_FACTOR + 2):
        await redis_store.create(replace(new_task(number), at=ObjectAddress(new_task(1).at.bucket, f"k/{number}")))
    outside, pages, cursor = Policy(prefix="nowhere/"), list[tuple[Task, ...]](), None
    while not pages or cursor is not None:
        page = await redis_store.list_tasks("alice", inside=outside, limit=1, cursor=cursor)
        pages.append(page.tasks)
        cursor = page.next_cursor

    assert pages == [(), (), ()]


@pytest.mark.parametrize("cursor", ["", "x", "(", "+", "-", "[\x00", "0" * 13, "0" * 14 + "\n", "g" * 30])
async def test_a_cursor_that_is_not_ours_is_refused(store: TaskStore, cursor: str) -> None:
    with pytest.raises(BadQuery):
        await store.list_tasks("alice", cursor=cursor)


# --- what watchers are told ---


async def test_uploads_are_found_by_their_ids_for_their_owner_alone(world: World) -> None:
    mine = await world.store.create(new_task(1, upload_id=None))
    theirs = await world.store.create(new_task(2, upload_id=None, owner="bob"))
    await world.store.apply(mine, UploadOpened(UploadId("mine")))
    await world.store.apply(theirs, UploadOpened(UploadId("theirs")))
    asked = [UploadId("theirs"), UploadId("unknown"), UploadId("mine")]

    assert await world.elsewhere.find_uploads(asked, "alice") == [None, None, mine.id]
    assert await world.elsewhere.find_uploads(asked, None) == [theirs.id, None, mine.id]
    assert await world.elsewhere.find_uploads([], "alice") == []


async def test_the_newest_task_of_a_content_is_found_by_its_owner(world: World) -> None:
    first = await world.store.create(new_task(1, content="c0ffee"))
    await world.store.create(new_task(2, content="decaf"))
    assert await world.elsewhere.find_content("alice", "c0ffee") == first
    newer = await world.store.create(new_task(3, content="c0ffee"))

    assert await world.elsewhere.find_content("alice", "c0ffee") == newer
    assert await world.elsewhere.find_content("bob", "c0ffee") is None
    assert await world.elsewhere.find_content("alice", "tea") is None


async def test_a_lost_task_is_restored_with_its_parts_and_goes_on(world: World) -> None:
    parts = [StoredPart(number, 1000, ETag(f'"etag {number}"'), None) for number in (1, 2, 4)]
    lost = replace(
        new_task(), state=TaskState.UPLOADING, stored_count=3, contiguous_count=2, loaded=3000, next_offset=2000
    )

    async with world.bus.watch_owner("alice") as feed:
        restored = await world.store.restore(lost, parts)
        assert await feed.next(10) == {lost.id: lost.version}
    assert (restored, await world.elsewhere.parts(lost.id)) == (lost, parts)
    assert (await world.elsewhere.list_tasks("alice")).tasks == (lost,)
    assert lost.upload_id is not None
    assert await world.elsewhere.find_uploads([lost.upload_id], "alice") == [lost.id]
    now = await stored(world.store, restored, 3)
    assert (now.stored_count, now.contiguous_count, now.loaded, now.next_offset) == (4, 4, 4000, 4000)


async def test_as_many_parts_as_there_can_be_are_restored(world: World) -> None:
    parts = [StoredPart(number, 1000, ETag('"0123456789abcdef0123456789abcdef"'), None) for number in range(1, 10_001)]
    lost = replace(new_task(), stored_count=10_000, contiguous_count=10_000, loaded=10**7, next_offset=10**7)

    await world.store.restore(lost, parts)

    assert await world.elsewhere.parts(lost.id) == parts


async def test_a_task_that_is_back_is_not_restored_again(world: World) -> None:
    lost = await world.store.create(new_task())
    now = await stored(world.store, lost, 1)

    assert await world.elsewhere.restore(lost, [StoredPart(2, 1000, ETag('"old"'), None)]) == now
    assert await world.elsewhere.parts(lost.id) == [part(1)]


async def test_a_canceled_task_is_never_restored(world: World) -> None:
    task = await world.store.create(new_task())
    canceled = await world.store.apply(task, CancelRequested())

    assert await world.elsewhere.restore(task, [part(1)]) == canceled
    assert await world.elsewhere.parts(task.id) == []


async def test_watchers_of_an_owner_are_told_of_every_change_elsewhere(world: World) -> None:
    async with world.bus.watch_owner("alice") as feed, world.bus.watch_owner("bob") as bobs:
        task = await world.store.create(new_task())
        assert await feed.next(10) == {task.id: 1}
        task = await stored(world.store, task, 1)
        assert await feed.next(10) == {task.id: 2}
        await world.store.apply(task, PauseRequested())
        assert await feed.next(10) == {task.id: 3}
        assert await feed.next(0.05) is None
        assert await bobs.next(0.05) is None


@pytest.mark.parametrize("event", [PauseRequested(), CancelRequested(), LOST])
async def test_bodies_elsewhere_are_told_to_end(world: World, event: TaskEvent) -> None:
    quiet, task = await world.store.create(new_task(1)), await world.store.create(new_task(2))
    async with asyncio.timeout(10), world.bus.watch_control() as control:
        await stored(world.store, quiet, 1)
        await world.store.apply(task, event)

        assert await anext(control) == task.id


async def test_a_newer_writer_tells_the_older_one_to_end(world: World) -> None:
    task = await world.store.create(new_task())
    async with asyncio.timeout(10), world.bus.watch_control() as control:
        await world.store.begin_content(task.id, 0, None)
        waiting = asyncio.create_task(anext(control))
        await world.store.load(task.id)
        assert not waiting.done()
        await world.elsewhere.begin_content(task.id, 0, None)

        assert await waiting == task.id


# --- the fake and Redis agree ---


def _random_call(store: TaskStore, rng: random.Random, known: Task, number: int) -> Awaitable[object]:
    """One call, the same for the same state of *rng*."""
    attempt = rng.choice("abc")
    tail = rng.randbytes(rng.randrange(4))
    events: list[TaskEvent] = [
        PauseRequested(), RestartRequested(), RestartRequested(), CompleteRequested(Intent.COMPLETE), LOST,
        CancelRequested(),
    ]  # fmt: skip
    event = rng.choices(events, weights=[4, 8, 8, 1, 1, 0.2])[0]
    size, offset = rng.randrange(1, 50), known.next_offset + rng.choice([0, 0, 0, 1])
    decided = rng.random() < 0.3
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "begin_part": lambda: store.begin_part(known.id, number, attempt),
        "end_part": lambda: store.end_part(known.id, number, attempt),
        "store_part": lambda: store.store_part(known, part(number, size), attempt=attempt, decided=decided),
        "begin_content": lambda: store.begin_content(known.id, offset, rng.choice([None, None, 77])),
        "store_content_part": lambda: store.store_content_part(known, part(number, size)),
        "keep_tail": lambda: store.keep_tail(known, tail),
        "forget_parts": lambda: store.forget_parts(known, [number, number + 2]),
        "apply": lambda: store.apply(known, event),
    }
    weights = [6, 2, 8, 4, 8, 3, 1, 3]
    return calls[rng.choices(list(calls), weights=weights)[0]]()


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_history_ends_the_same_in_memory_and_in_redis(redis_url: str, seed: int) -> None:
    clock, rng = TurnedClock(), random.Random(seed)
    client = connect(redis_url)
    memory = MemoryTaskStore(ttl_seconds=TTL_SECONDS, clock=clock)
    real = RedisTaskStore(client, ttl_seconds=TTL_SECONDS, clock=clock)
    for number in range(1, 8):
        known = await memory.create(new_task(number, size=None))
        assert await real.create(new_task(number, size=None)) == known
        for step in range(60):
            clock.now += rng.random() * 3
            part_number, state = rng.randrange(1, 7), rng.getstate()
            outcomes = []
            for store in (memory, real):
                rng.setstate(state)
                outcomes.append(await _outcome(_random_call(store, rng, known, part_number)))
            assert outcomes[0] == outcomes[1], f"task {number}, step {step}"
            latest = await real.load(known.id)
            assert latest is not None
            assert latest == await memory.load(known.id)
            assert await real.parts(known.id) == await memory.parts(known.id)
            if rng.random() < 0.8:
                known = latest
    await client.aclose()


async def _outcome(call: Awaitable[object]) -> object:
    """What the call gives; the speed is compared as loaded, since a change repeats the one it was given."""
    try:
        given = await call
        return replace(given, speed=0.0) if isinstance(given, Task) else given
    except Conflict as error:
        return type(error), error.facts
    except GatewayError as error:
        return type(error)


async def opened_upload(world: World, number: int, key: str, owner: str = "alice") -> Task:
    draft = replace(new_task(number, upload_id=None, owner=owner), at=ObjectAddress(new_task().at.bucket, key))
    task = await world.store.create(draft)
    return await world.store.apply(task, UploadOpened(UploadId(f"upload {number}")))


async def test_s11_an_owners_next_open_upload_is_known_by_its_key(world: World) -> None:
    keys = ["a", "films/1", "films/1", "films/2", "films/页", "films0"]
    tasks = [await opened_upload(world, number, key) for number, key in enumerate(keys)]
    await opened_upload(world, 90, "films/0", owner="bob")
    bucket = tasks[0].at.bucket

    async def following(prefix: str, after: str, *, with_it: bool = False) -> str | None:
        return await world.elsewhere.next_upload("alice", bucket, prefix, after, with_it=with_it)

    assert await following("", "") == "a"
    assert await following("films/", "") == "films/1"
    assert await following("films/", "films/1") == "films/2"
    assert await following("films/", "films/1", with_it=True) == "films/1"
    assert await following("films/", "films/2") == "films/页"
    assert await following("films/", "films/页") is None
    assert await following("b", "") is None
    assert await world.elsewhere.next_upload("bob", bucket, "", "") == "films/0"
    assert await world.elsewhere.next_upload("carol", bucket, "", "") is None

    await world.store.apply(tasks[3], CancelRequested())
    assert await following("films/", "films/1") == "films/页"


async def test_s8_a_narrow_list_loads_what_it_shows_and_tells_what_it_cost(world: World) -> None:
    tasks = [await world.store.create(new_task(number)) for number in range(40)]
    for task in tasks[::10]:
        await world.store.apply(task, PauseRequested())
    everything = await world.elsewhere.list_tasks("alice", limit=50)
    paused = await world.elsewhere.list_tasks("alice", states=frozenset({TaskState.PAUSED}), limit=50)

    assert [task.id for task in paused.tasks] == [task.id for task in reversed(tasks[::10])]
    assert everything.loaded >= 40
    assert 4 <= paused.loaded <= 4 + 40 // GLANCES


async def test_s8_a_thousand_tasks_are_loaded_in_their_order(world: World) -> None:
    tasks = [await world.store.create(new_task(number)) for number in range(3)]
    ids = [task.id for task in tasks] + [new_task(99).id]
    wanted = [ids[number % 4] for number in range(3 * LOADED_AT_ONCE + 1)]

    found = await world.elsewhere.load_many(wanted)

    assert [None if task is None else task.id for task in found] == [None if i == ids[3] else i for i in wanted]

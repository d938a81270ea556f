from dataclasses import replace

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import StorageDenied, VersionMismatch
from gateway.domain.notices import NoticeKind
from gateway.domain.objects import Bucket, UploadId
from gateway.domain.task import (
    AbortFinished,
    CancelRequested,
    Failed,
    Intent,
    RestartRequested,
    Task,
    TaskError,
    TaskId,
    TaskState,
    UploadOpened,
)
from gateway.store.duties import NOTICE_GRACE_SECONDS, Duties
from gateway.store.redis_keys import task_keys
from gateway.store.task_store import TOMBSTONE_SECONDS, RedisTaskStore
from gateway.tracing import TRACE, Trace
from tests.store.conftest import START, TTL_SECONDS, TurnedClock, new_task

TERM = 60.0


def _store(redis: Redis, clock: TurnedClock, *announced: Bucket, told: list[TaskId] | None = None) -> RedisTaskStore:
    seen = [] if told is None else told
    return RedisTaskStore(
        redis,
        ttl_seconds=TTL_SECONDS,
        clock=clock,
        intent_seconds=TERM,
        announced=frozenset(announced),
        on_notice=lambda task_id, due: seen.append(task_id),
    )


async def _due(store: RedisTaskStore, clock: TurnedClock) -> list[TaskId]:
    return await store.intents.take(clock.now, clock.now + TERM, 100)


async def test_an_open_intent_is_listed_until_it_is_closed(redis: Redis, clock: TurnedClock) -> None:
    store = _store(redis, clock)
    task = await store.create(new_task())
    assert await store.intents.count() == 0

    canceled = await store.apply(task, CancelRequested())
    assert canceled.intent is Intent.ABORT
    assert await _due(store, clock) == []
    clock.now += TERM + 1
    assert await _due(store, clock) == [task.id]

    await store.apply(canceled, AbortFinished())
    assert await store.intents.count() == 0


async def test_a_change_that_came_too_late_leaves_the_intent_of_another_listed(
    redis: Redis, clock: TurnedClock
) -> None:
    store = _store(redis, clock)
    task = await store.create(new_task(upload_id=None, intent=Intent.INITIATE))
    await store.apply(task, CancelRequested())

    with pytest.raises(VersionMismatch):
        await store.apply(task, UploadOpened(UploadId("late")), expected_version=task.version)

    assert await store.intents.lists(task.id)


async def test_a_task_is_created_with_its_intent_listed(redis: Redis, clock: TurnedClock) -> None:
    clock.now = START + 1
    store = _store(redis, clock)
    task = await store.create(new_task(upload_id=None, intent=Intent.INITIATE))

    clock.now += TERM + 1
    assert await _due(store, clock) == [task.id]


async def test_what_is_to_be_done_is_listed_before_the_change_and_struck_off_behind_it(
    redis: Redis, clock: TurnedClock
) -> None:
    """So whoever dies in between leaves a listing too many, never one too few."""
    task = new_task()
    store = _store(redis, clock, task.at.bucket)
    intents, notices = store.intents, store.notices.due
    duties = Duties(
        intents, notices, intent_seconds=TERM, announced=frozenset({task.at.bucket}), on_notice=lambda *_: None
    )
    canceled = task.after(CancelRequested(), START)

    begun = duties.of(task, canceled)
    assert begun.before == [
        intents.noting(task.id, START + TERM),
        notices.noting(task.id, START + NOTICE_GRACE_SECONDS),
    ]
    assert begun.behind == []
    ended = duties.of(canceled, canceled.after(AbortFinished(), START))
    assert (ended.before, ended.behind) == ([], [intents.dropping(task.id)])


async def test_a_notice_is_stored_with_its_change_and_only_there(redis: Redis, clock: TurnedClock) -> None:
    told: list[TaskId] = []
    task = new_task()
    store = _store(redis, clock, task.at.bucket, told=told)
    task = await store.create(task)
    assert (await store.notices.pending(task.id), told) == ([], [])

    failed = await store.apply(task, Failed(TaskError.of(StorageDenied("no"))))
    restarted = await store.apply(failed, RestartRequested())
    clock.now += 5
    await store.apply(restarted, CancelRequested())

    first, second = await store.notices.pending(task.id)
    assert (first.kind, second.kind) == (NoticeKind.ERROR, NoticeKind.CANCELED)
    assert first.task == failed  # as it was, although it moved on
    assert first.task.expires_at == failed.expires_at
    assert second.task.state is TaskState.CANCELED
    assert told == [task.id, task.id]
    assert await store.notices.due.lists(task.id)

    await store.notices.forget(task.id, first.id)
    assert await store.notices.pending(task.id) == [second]


async def test_a_task_that_is_created_in_its_end_gives_its_notice_too(redis: Redis, clock: TurnedClock) -> None:
    """Small files are written once, with their end in them."""
    failed = replace(new_task(), state=TaskState.ERROR, error=TaskError.of(StorageDenied("no")))
    told: list[TaskId] = []
    store = _store(redis, clock, failed.at.bucket, told=told)

    await store.create(failed)

    assert [notice.kind for notice in await store.notices.pending(failed.id)] == [NoticeKind.ERROR]
    assert told == [failed.id]


async def test_without_a_webhook_nothing_is_written_for_one(redis: Redis, clock: TurnedClock) -> None:
    told: list[TaskId] = []
    store = _store(redis, clock, Bucket("other-1250000000", "ap-guangzhou"), told=told)
    task = await store.create(new_task())

    await store.apply(task, Failed(TaskError.of(StorageDenied("no"))))

    assert (await store.notices.pending(task.id), await store.notices.due.count(), told) == ([], 0, [])


async def test_a_change_that_is_refused_leaves_no_notice(redis: Redis, clock: TurnedClock) -> None:
    """What was listed for it is only a hint."""
    task = new_task()
    here, there = (_store(redis, clock, task.at.bucket) for _ in range(2))
    task = await here.create(task)
    await there.apply(task, CancelRequested())

    again = await here.apply(task, CancelRequested())

    assert again.state is TaskState.CANCELED
    assert len(await here.notices.pending(task.id)) == 1


async def test_tombstones_outlive_every_ticket_by_a_day(redis: Redis, clock: TurnedClock) -> None:
    """A ticket ends at midnight after its task would, so up to a day later."""
    store = _store(redis, clock)
    task: Task = await store.create(new_task())
    key = task_keys(task.id).task
    assert await redis.ttl(key) <= TTL_SECONDS * 1.02

    await store.apply(task, CancelRequested())

    assert TOMBSTONE_SECONDS >= 2 * 24 * 3600
    assert await redis.ttl(key) >= TTL_SECONDS + TOMBSTONE_SECONDS - 5


async def test_a_notice_remembers_the_trace_in_which_it_was_made(redis: Redis, clock: TurnedClock) -> None:
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=False)
    store = _store(redis, clock, new_task().at.bucket)
    task = await store.create(new_task())
    token = TRACE.set(trace)
    await store.apply(task, CancelRequested())
    TRACE.reset(token)

    [notice] = await store.notices.pending(task.id)
    assert notice.traceparent == trace.header

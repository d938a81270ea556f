"""A Redis that is full takes nothing new; what ends, stops or is held by COS is written all the same, and frees it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import PartInProgress, StateStoreUnavailable, StorageDenied
from gateway.domain.objects import ETag
from gateway.domain.task import (
    AbortFinished,
    BodyMode,
    BodyStarted,
    CancelRequested,
    CompleteRequested,
    Failed,
    Intent,
    PartsLost,
    PauseRequested,
    RestartRequested,
    Succeeded,
    Task,
    TaskError,
    TaskEvent,
    TaskResult,
    TaskState,
)
from gateway.store.redis_address import connect
from gateway.store.task_store import RedisTaskStore
from tests.fakes.redis_server import redis_servers, running_redis
from tests.store.conftest import TTL_SECONDS, new_task, part

RESULT = TaskResult("https://host/k", ETag('"e"'), None, 7, 42, crc64_verified=True)
HEADERS = {f"x-cos-meta-{number}": "v" * 250 for number in range(15)}


@pytest.fixture(scope="module", params=redis_servers(), ids=lambda program: "-".join(program.parts[-4:-1]))
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    program: Path = request.param
    with running_redis(program=program) as url:
        yield url


@pytest.fixture
async def full(server: str) -> AsyncIterator[Redis]:
    client = connect(server)
    await client.config_set("maxmemory", 0)
    await client.flushall()
    yield client
    await client.aclose()


def store_on(redis: Redis) -> RedisTaskStore:
    return RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, announced=frozenset({new_task().at.bucket}))


async def fill(redis: Redis) -> None:
    await redis.config_set("maxmemory", 1)


MOVES: list[tuple[TaskEvent, ...]] = [
    (PauseRequested(), RestartRequested()),
    (CancelRequested(), AbortFinished()),
    (BodyStarted(BodyMode.PARTS), PauseRequested(), CancelRequested(), AbortFinished()),
    (CompleteRequested(Intent.COMPLETE), Succeeded(RESULT)),
    (CompleteRequested(Intent.COMPLETE), PartsLost()),
    (Failed(TaskError.of(StorageDenied("COS said no."))), RestartRequested()),
]


@pytest.mark.parametrize("moves", MOVES, ids=lambda moves: "-".join(type(move).__name__ for move in moves))
async def test_f12_control_works_while_redis_is_full(full: Redis, moves: tuple[TaskEvent, ...]) -> None:
    store = store_on(full)
    task = await store.create(new_task(object_headers=HEADERS))
    await fill(full)

    for move in moves:
        expected = task.after(move, 0).state
        task = await store.apply(task, move)
        assert task.state is expected

    assert await store.load(task.id) == task


async def test_f12_parts_that_run_may_end_also_where_two_overlap(full: Redis) -> None:
    store = store_on(full)
    task = await store.create(new_task())
    for attempt in ("one", "two"):
        await store.begin_part(task.id, 1, attempt)
    await store.begin_part(task.id, 2, "three")
    content = await store.begin_content((await store.create(new_task(2))).id, 0, None)
    await fill(full)

    await store.end_part(task.id, 1, "one")
    with pytest.raises(PartInProgress):
        await store.store_part(task, part(1), attempt="two")
    assert (await store.store_part(task, part(1), attempt="two", decided=True)).stored_count == 1
    assert (await store.store_part(task, part(2), attempt="three")).stored_count == 2
    assert (await store.forget_parts(task, [1, 2])).stored_count == 0
    assert (await store.store_content_part(content.task, part(1))).stored_count == 1


NEW: list[Callable[[RedisTaskStore, Task], Awaitable[object]]] = [
    lambda store, task: store.create(new_task(9)),
    lambda store, task: store.begin_part(task.id, 1, "attempt"),
    lambda store, task: store.keep_tail(task, b"tail" * 100),
]


@pytest.mark.parametrize("number", range(len(NEW)))
async def test_f12_nothing_new_is_taken_while_redis_is_full(full: Redis, number: int) -> None:
    store = store_on(full)
    task = (await store.begin_content((await store.create(new_task())).id, 0, None)).task
    await fill(full)

    with pytest.raises(StateStoreUnavailable):
        await NEW[number](store, task)


async def test_f12_what_users_cancel_makes_room_for_new_tasks(full: Redis) -> None:
    store = store_on(full)
    tasks = [await store.create(new_task(number, object_headers=HEADERS)) for number in range(200)]
    await full.config_set("maxmemory", int((await full.info("memory"))["used_memory"]))
    with pytest.raises(StateStoreUnavailable):
        await store.create(new_task(500))

    for task in tasks:
        await store.apply(await store.apply(task, CancelRequested()), AbortFinished())

    assert (await store.create(new_task(500))).state is TaskState.WAITING

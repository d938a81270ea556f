"""One owner never fills Redis for another: what has ended is bounded in bytes per owner, the oldest goes first."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.batch import Batch, BatchFile, BatchId
from gateway.domain.errors import StorageDenied
from gateway.domain.objects import ETag
from gateway.domain.task import (
    AbortFinished,
    CancelRequested,
    CompleteRequested,
    Failed,
    Intent,
    RestartRequested,
    Succeeded,
    Task,
    TaskError,
    TaskId,
    TaskResult,
    TaskState,
    task_id_of,
)
from gateway.store.batch_store import RedisBatchStore
from gateway.store.ledgers import ENDED_BYTES, Shares
from gateway.store.redis_address import connect
from gateway.store.redis_keys import EVERY_OWNER, ledger_keys, owner_index, owner_key
from gateway.store.task_store import RedisTaskStore
from gateway.transfer.ports import Idempotency
from tests.fakes.redis_server import running_redis
from tests.store.conftest import START, TTL_SECONDS, TurnedClock, new_task, part

FULL_BYTES = 12 * 1024 * 1024
OPTIONS = {f"x-cos-meta-{number}": "v" * 250 for number in range(15)}
RESULT = TaskResult("https://host/k", ETag('"' + "e" * 32 + '"'), None, 2**63, 1, crc64_verified=True)


def fresh(owner: str = "alice", **facts: Any) -> Task:
    return new_task(id=task_id_of(secrets.token_bytes(16)), owner=owner, upload_id=None, size=1, **facts)


class Tenant:
    """One owner's ways to leave something behind; each call leaves one thing of its kind."""

    def __init__(self, redis: Redis, store: RedisTaskStore, batches: RedisBatchStore) -> None:
        self.redis = redis
        self.store = store
        self.batches = batches

    async def file(self, owner: str = "alice") -> Task:
        draft = fresh(owner, state=TaskState.COMPLETING, intent=Intent.PUT, object_headers=OPTIONS)
        return await self.store.create(draft.after(Succeeded(RESULT), START))

    async def refused_file(self) -> Task:
        draft = fresh(state=TaskState.COMPLETING, intent=Intent.PUT, object_headers=OPTIONS)
        return await self.store.create(draft.after(Failed(TaskError.of(StorageDenied("No."))), START))

    async def canceled(self) -> Task:
        task = await self.store.create(fresh(object_headers=OPTIONS, content=secrets.token_hex(32)))
        return await self.store.apply(await self.store.apply(task, CancelRequested()), AbortFinished())

    async def stored_in_parts(self) -> Task:
        task = await self.store.create(fresh())
        for number in range(1, 5):
            attempt = secrets.token_hex(4)
            await self.store.begin_part(task.id, number, attempt)
            task = await self.store.store_part(task, part(number), attempt=attempt)
        result = replace(RESULT, size=4000)
        return await self.store.apply(
            await self.store.apply(task, CompleteRequested(Intent.COMPLETE)), Succeeded(result)
        )

    async def under_a_key(self) -> Task:
        task = await self.store.create(fresh(), Idempotency(secrets.token_hex(8), "d" * 64))
        return await self.store.apply(await self.store.apply(task, CancelRequested()), AbortFinished())

    async def batch(self) -> None:
        files = tuple(BatchFile(TaskId("t" * 22), None) for _ in range(200))
        await self.batches.save(Batch(BatchId(secrets.token_hex(16)), "alice", 3, START, files))


@pytest.fixture(scope="module")
def small_server() -> Any:
    with running_redis(None, "--maxmemory", str(FULL_BYTES)) as url:
        yield url


@pytest.fixture
async def tenant(small_server: str) -> AsyncIterator[Tenant]:
    redis = connect(small_server)
    await redis.flushall()
    shares = Shares()
    shares.learn(FULL_BYTES)
    announced = frozenset({new_task().at.bucket})
    yield Tenant(
        redis,
        RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, shares=shares, announced=announced),
        RedisBatchStore(redis, ttl_seconds=TTL_SECONDS, shares=shares),
    )
    await redis.aclose()


async def used_bytes(redis: Redis) -> int:
    """What Redis takes without the buffers of connections."""
    await redis.connection_pool.disconnect()
    return int((await redis.info("memory"))["used_memory"])


@pytest.mark.parametrize(
    ("leave", "count"),
    [
        (Tenant.file, 900),
        (Tenant.refused_file, 400),
        (Tenant.canceled, 700),
        (Tenant.stored_in_parts, 300),
        (Tenant.under_a_key, 700),
        (Tenant.batch, 300),
    ],
)
async def test_s5_whatever_one_owner_leaves_behind_another_creates_and_memory_stays_bounded(
    tenant: Tenant, leave: Callable[[Tenant], Awaitable[object]], count: int
) -> None:
    await leave(tenant)
    before = await used_bytes(tenant.redis)
    for _ in range(count // 10):
        await asyncio.gather(*(leave(tenant) for _ in range(10)))

    share = tenant.store.ledgers.shares.ended
    assert await used_bytes(tenant.redis) - before < 1.2 * share
    assert (await tenant.store.create(fresh("bob"))).state is TaskState.WAITING
    assert (await tenant.file("bob")).state is TaskState.SUCCESS


async def test_s5_the_list_shows_the_latest_and_the_oldest_are_gone_with_all_their_keys(
    redis: Redis, clock: TurnedClock
) -> None:
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock, shares=Shares(20 * ENDED_BYTES))
    ids = []
    for number in range(40):
        clock.now = START + number
        task = await store.restore(new_task(number, upload_id=f"upload-{number}", created_at=clock.now), ())
        await store.apply(await store.apply(task, CancelRequested()), AbortFinished())
        ids.append(task.id)

    listed = [task.id for task in (await store.list_tasks("alice")).tasks]

    assert listed == ids[: -len(listed) - 1 : -1]
    assert 17 <= len(listed) <= 20
    gone = ids[: -len(listed)]
    assert not [key for key in await redis.keys("*") if any(task_id.encode() in key for task_id in gone)]
    assert await redis.zcard(EVERY_OWNER) == await redis.zcard(owner_index(owner_key("alice"))) == len(listed)
    assert len(await redis.keys("gw:upload:*")) == len(listed)
    assert await redis.zcard(ledger_keys(owner_key("alice")).ended) == len(listed) + 1


async def test_s5_a_task_that_lives_is_never_forgotten(redis: Redis, clock: TurnedClock) -> None:
    """One noted by a change that another overtook, or restarted since COS refused its file."""
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock, shares=Shares(5 * ENDED_BYTES))
    tenant = Tenant(redis, store, RedisBatchStore(redis, ttl_seconds=TTL_SECONDS))
    revived = await store.apply(await tenant.refused_file(), RestartRequested())
    clock.now += 1
    for _ in range(20):
        await tenant.file()

    assert await store.load(revived.id) == revived


async def test_s5_nothing_of_a_final_task_keeps_what_nobody_reads_any_more(redis: Redis) -> None:
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS)
    given: dict[str, Any] = {
        "object_headers": OPTIONS,
        "part_headers": {"x-cos-traffic-limit": "819200"},
        "content": "c" * 64,
    }
    task = await store.create(fresh(**given))
    [note] = await redis.keys("gw:content:*")

    task = await store.apply(task, CancelRequested())

    assert (task.object_headers, task.part_headers, task.content) == ({}, {}, None)
    assert await store.load(task.id) == task
    assert not {b"object_headers", b"part_headers", b"content"} & set(await redis.hgetall(f"gw:{{{task.id}}}"))
    assert not await redis.exists(note)


async def test_s5_the_note_of_a_newer_task_with_the_same_content_stays(redis: Redis) -> None:
    store = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS)
    older, newer = [await store.create(fresh(content="c" * 64)) for _ in range(2)]

    await store.apply(older, CancelRequested())

    assert await store.find_content("alice", "c" * 64) == newer

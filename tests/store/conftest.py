"""One task store under test: the fake in memory, or Redis, each with a clock that tests turn."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.objects import Bucket, ETag, ObjectAddress, StoredPart, UploadId
from gateway.domain.task import Task, TaskId
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_address import connect
from gateway.store.redis_calls import RedisCalls
from gateway.store.task_store import RedisTaskStore
from tests.fakes.store import MemoryProgressBus, MemoryTaskStore

TTL_SECONDS = 7 * 24 * 3600
START = 1_800_000_000.0


class TurnedClock:
    """Unix time that stands still until a test turns it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A store, a second instance of it as another process would have, and a bus."""

    store: MemoryTaskStore | RedisTaskStore
    elsewhere: MemoryTaskStore | RedisTaskStore
    bus: MemoryProgressBus | RedisProgressBus
    clock: TurnedClock


def new_task(number: int = 1, **facts: object) -> Task:
    """A task of alice's with an upload, unlike any of another *number*."""
    given: dict[str, object] = {
        "id": TaskId(f"{number:032x}"),
        "owner": "alice",
        "at": ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), f"videos/片段 {number}.mp4"),
        "size": 40 * 1024 * 1024,
        "part_size": 4 * 1024 * 1024,
        "slice_size": 1024 * 1024,
        "async_limit": 3,
        "created_at": START + number,
        "updated_at": START + number,
        "expires_at": START + number + TTL_SECONDS,
        "upload_id": UploadId("upload-1"),
    }
    return Task(**(given | facts))  # type: ignore[arg-type]


def part(number: int, size: int = 1000, etag: str = "") -> StoredPart:
    """A stored part whose ETag tells its number."""
    return StoredPart(number, size, ETag(etag or f'"etag {number}"'), 2**64 - number)


async def answers_again(client: Any, seconds: float = 2.0) -> float:
    """Wait until calls to *client*'s Redis are answered; the seconds it took."""
    began, calls = time.monotonic(), RedisCalls(client)
    while True:
        try:
            await calls.command("PING")
        except StateStoreUnavailable:
            assert time.monotonic() - began < seconds
            await asyncio.sleep(0.01)
        else:
            return time.monotonic() - began


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def redis_store(redis: Redis, clock: Callable[[], float]) -> RedisTaskStore:
    return RedisTaskStore(redis, ttl_seconds=TTL_SECONDS, clock=clock)


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest, clock: TurnedClock) -> AsyncIterator[World]:
    if request.param == "memory":
        memory = MemoryTaskStore(ttl_seconds=TTL_SECONDS, clock=clock)
        yield World(memory, memory, memory.bus, clock)
        return
    url = request.getfixturevalue("redis_url")
    here, there = connect(url), connect(url)
    bus = RedisProgressBus(there)
    await bus.start()
    yield World(
        RedisTaskStore(here, ttl_seconds=TTL_SECONDS, clock=clock),
        RedisTaskStore(there, ttl_seconds=TTL_SECONDS, clock=clock),
        bus,
        clock,
    )
    await bus.aclose()
    await here.aclose()
    await there.aclose()


@pytest.fixture
def store(world: World) -> MemoryTaskStore | RedisTaskStore:
    return world.store

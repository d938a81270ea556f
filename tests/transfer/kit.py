"""What the tests of the use cases stand on: a gateway without its doors, before a real Redis and the local COS."""

import asyncio
import gc
import itertools
import logging
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from gateway.cos.client import CosClient
from gateway.cos.credentials import FixedCredentials
from gateway.domain.checksums import crc64
from gateway.domain.objects import ObjectAddress, StoredPart
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Destination, Destinations, Policy
from gateway.domain.task import Task, TaskState
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_address import connect
from gateway.store.task_store import RedisTaskStore
from gateway.transfer.bodies_in_flight import BodiesInFlight
from gateway.transfer.completion import Completion
from gateway.transfer.control import Control
from gateway.transfer.digests import Digests
from gateway.transfer.drafts import NewTask
from gateway.transfer.engine import Engine
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.ports import ProgressBus
from gateway.transfer.relay import PartConditions, PartRelay
from gateway.transfer.replay import ReplayBudget
from gateway.transfer.sequential import SequentialRelay
from gateway.transfer.sequential_flow import ContentRange
from tests.fakes.local_cos import BUCKET, RunningCos
from tests.fakes.objects import WatchedObjects

TTL_SECONDS: Final = 3600
CHUNK_BYTES: Final = 256 * 1024
ALICE: Final = Caller("alice", Policy(), 2e9)
BOB: Final = Caller("bob", Policy(), 2e9)
PLACES: Final = Destinations((Destination("files", BUCKET, ""),))
_SERIAL: Final = itertools.count(1)


class ClientLeft(Exception):
    """What a door's body raises when the connection is gone."""


class Client:
    """A body whose bytes come when the test says so."""

    def __init__(self, *chunks: bytes) -> None:
        self._coming: asyncio.Queue[bytes | BaseException] = asyncio.Queue()
        self._idle = asyncio.Event()
        self.send(*chunks)

    def send(self, *chunks: bytes) -> None:
        """Let *chunks* arrive."""
        for chunk in chunks:
            self._coming.put_nowait(chunk)
            self._idle.clear()

    def end(self) -> None:
        """The body is over."""
        self._coming.put_nowait(StopAsyncIteration())

    def leave(self) -> None:
        """The connection breaks."""
        self._coming.put_nowait(ClientLeft())

    async def taken(self) -> None:
        """Return when the gateway has taken everything and waits for more."""
        async with asyncio.timeout(10):
            await self._idle.wait()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._coming.empty():
            self._idle.set()
        item = await self._coming.get()
        if isinstance(item, BaseException):
            raise item
        return item


async def sent(data: bytes, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
    """*data* as a body that arrives at once."""
    for start in range(0, len(data), chunk_bytes):
        yield data[start : start + chunk_bytes]


def random_bytes(size: int, seed: int = 1) -> bytes:
    """Bytes that differ at every place, the same for the same *seed*."""
    return random.Random(seed).randbytes(size)


@dataclass
class World:
    """One process's use cases, and the shorthands of tests."""

    cos: RunningCos
    tasks: RedisTaskStore
    objects: WatchedObjects
    engine: Engine
    completion: Completion
    parts: PartRelay
    sequential: SequentialRelay
    control: Control
    watching: "asyncio.Task[None]"

    async def create(self, **new: Any) -> Task:
        """A task of alice's under a key of its own."""
        return await self.control.create(ALICE, new_task(**new))

    async def put_part(
        self,
        task: Task,
        number: int,
        body: bytes | AsyncIterator[bytes],
        length: int | None = None,
        *,
        digests: Digests | None = None,
        conditions: PartConditions | None = None,
    ) -> StoredPart:
        """Part *number*, as a door would hand it over."""
        return await self.parts.receive_part(
            ALICE,
            task.id,
            number,
            len(body) if isinstance(body, bytes) and length is None else length or 0,
            sent(body) if isinstance(body, bytes) else body,
            digests=digests or Digests(),
            conditions=conditions or PartConditions(),
        )

    async def put_content(
        self,
        task: Task,
        body: bytes | AsyncIterator[bytes],
        span: ContentRange | None = None,
        digests: Digests | None = None,
    ) -> Task:
        """A sequential body, by default the whole file with its length."""
        if span is None:
            span = ContentRange(length=len(body) if isinstance(body, bytes) else None)
        source = sent(body) if isinstance(body, bytes) else body
        return await self.sequential.receive_content(ALICE, task.id, span, source, digests or Digests())

    async def load(self, task: Task) -> Task:
        found = await self.tasks.load(task.id)
        assert found is not None
        return found

    async def stored(self, task: Task) -> list[tuple[int, int]]:
        """Numbers and sizes of the stored parts."""
        return [(part.number, part.size) for part in await self.tasks.parts(task.id)]

    def read(self, at: ObjectAddress) -> bytes:
        """The object's bytes at COS."""
        return self.cos.read(at.bucket, at.key)

    def exists(self, task: Task) -> bool:
        return task.at.key in self.cos.keys(task.at.bucket)

    def has_open_upload(self, task: Task) -> bool:
        """Whether COS still holds fragments of *task*."""
        return task.at.key in self.cos.open_uploads(task.at.bucket)

    def journal(self, task: Task, operation: str) -> list[dict[str, Any]]:
        """What COS was asked for *task*'s key."""
        return self.cos.journal(operation, key=task.at.key)

    async def until(self, task: Task, *states: TaskState) -> Task:
        """*task* once it is in one of *states*."""
        async with asyncio.timeout(10):
            while True:
                if (now := await self.load(task)).state in states:
                    return now

    async def until_offset(self, task: Task, offset: int) -> None:
        """Return once *offset* bytes of *task* are stored from the first on."""
        async with asyncio.timeout(10):
            while True:
                if (await self.load(task)).next_offset >= offset:
                    return

    def require_success(self, task: Task, data: bytes) -> None:
        """The object at COS is *data*, and the task says so, and nothing is left over."""
        assert task.state is TaskState.SUCCESS
        assert task.result is not None
        assert (task.result.size, task.result.crc64, task.result.crc64_verified) == (len(data), crc64(data), True)
        assert (task.size, task.loaded, task.next_offset, task.tail_size) == (len(data), len(data), len(data), 0)
        assert self.read(task.at) == data
        assert not self.has_open_upload(task)


def new_task(**new: Any) -> NewTask:
    """What alice wants, under a key that no other test has; its name is as awkward as COS allows."""
    return NewTask(**{"key": f"t/{next(_SERIAL)}/片段 a+b%2F.bin", "part_size": MIB, **new})


@asynccontextmanager
async def running_world(
    redis_url: str,
    cos: RunningCos,
    *,
    budget_bytes: int = 64 * MIB,
    wait_seconds: float = 20,
    bus: ProgressBus | None = None,
) -> AsyncIterator[World]:
    """One process. When it ends, nothing may be left: no lease, no body, no owned task, no error that nobody saw."""
    redis = connect(redis_url)
    tasks = RedisTaskStore(redis, ttl_seconds=TTL_SECONDS)
    real_bus = RedisProgressBus(redis)
    await real_bus.start()
    client = CosClient(FixedCredentials(cos.key), endpoint=cos.url)
    objects = WatchedObjects(client)
    bodies, owned = BodiesInFlight(tasks, bus or real_bus), OwnedTasks()
    engine = Engine(tasks, objects, bodies, ReplayBudget(budget_bytes), owned)
    completion = Completion(tasks, objects, owned, wait_seconds)
    sequential = SequentialRelay(engine, completion)
    control = Control(engine, completion, sequential, PLACES, task_ttl_seconds=TTL_SECONDS)
    watching = asyncio.create_task(bodies.run(), name="bodies")
    try:
        async with real_bus.watch_control():
            pass  # from here on nothing that the bus tells is missed
        with _no_error_goes_unseen():
            yield World(cos, tasks, objects, engine, completion, PartRelay(engine), sequential, control, watching)
            cos.clear_faults()
            assert await owned.drain(20) == 0
            # A release runs as a callback of the work that ended just now.
            await asyncio.sleep(0)
            assert not watching.done(), "nobody watches the bodies any more"
            assert (engine.budget.used_bytes, len(bodies), len(owned)) == (0, 0, 0)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await client.aclose()
        await real_bus.aclose()
        await redis.aclose()


class _no_error_goes_unseen(logging.Handler):  # noqa: N801 -- reads as a statement
    """Fail if asyncio, or one of our modules, told of an error that nobody handled."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))

    def __enter__(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.seen.append(str(context)))
        logging.getLogger().addHandler(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        gc.collect()
        logging.getLogger().removeHandler(self)
        if error is None:
            assert self.seen == []


def part_of(data: bytes, number: int, size: int = MIB) -> bytes:
    """The bytes of part *number*."""
    return data[(number - 1) * size : number * size]


async def all_of(*bodies: Any) -> list[Any]:
    """The outcomes of several requests at once, errors as values."""
    return await asyncio.gather(*bodies, return_exceptions=True)


def kinds(outcomes: Iterable[object]) -> list[str]:
    """The outcomes' types by name, sorted."""
    return sorted(type(outcome).__name__ for outcome in outcomes)

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import StorageDenied
from gateway.domain.notices import Notice, NoticeKind, NoticeRefused
from gateway.domain.task import CancelRequested, Failed, RestartRequested, Task, TaskError, TaskId
from gateway.store.due_index import SHARDS
from gateway.store.redis_address import connect
from gateway.store.task_store import RedisTaskStore
from gateway.telemetry import Metrics
from gateway.transfer import notices as telling
from gateway.transfer.notices import CLAIM_SECONDS, Notices, wait_after
from tests.store.conftest import TTL_SECONDS, TurnedClock, new_task

GIVE_UP_SECONDS = 1000.0


@dataclass
class Receivers:
    """Takes notices, or refuses them while ``down``; ``holds`` keeps them waiting."""

    down: bool = False
    told: list[Notice] = field(default_factory=list)
    tried: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def send(self, notice: Notice) -> None:
        self.tried += 1
        self.reached.set()
        await self.open.wait()
        if self.down:
            raise NoticeRefused("status 503")
        self.told.append(notice)


@dataclass
class World:
    """One process that tells, and the clock and receivers that it shares with others."""

    store: RedisTaskStore
    notices: Notices
    metrics: Metrics
    clock: TurnedClock
    receivers: Receivers
    another: "Callable[[], World]"

    async def ended(self, number: int = 1) -> Task:
        """A task that was canceled just now."""
        return await self.store.apply(await self.store.create(new_task(number)), CancelRequested())

    async def turn(self, seconds: float = 0.0) -> None:
        """Let *seconds* pass, and tell what is due then."""
        self.clock.now += seconds
        await self.notices.round()
        await self.notices.idle()

    def sample(self, name: str) -> float:
        lines = self.metrics.exposition().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def world(redis: Redis) -> World:
    clock, receivers = TurnedClock(), Receivers()

    def process() -> World:
        metrics = Metrics()
        store = RedisTaskStore(
            redis,
            ttl_seconds=TTL_SECONDS,
            clock=clock,
            announced=frozenset({new_task().at.bucket}),
            on_notice=lambda task_id, due: notices.wake(task_id, due),
        )
        due, sender = store.notices.due, receivers
        notices = Notices(due, store.notices, sender, metrics, give_up_seconds=GIVE_UP_SECONDS, clock=clock)
        return World(store, notices, metrics, clock, receivers, process)

    return process()


def _ids(world: World) -> list[TaskId]:
    return [notice.task.id for notice in world.receivers.told]


async def test_what_this_process_made_is_told_at_once_and_once(world: World) -> None:
    task = await world.ended()

    await world.turn()
    await world.turn(3600)

    assert _ids(world) == [task.id]
    assert (await world.store.notices.pending(task.id), await world.store.notices.due.count()) == ([], 0)


async def test_what_a_dead_process_made_is_told_by_another(world: World) -> None:
    task = await world.ended()
    other = world.another()

    await other.turn()
    assert _ids(other) == []  # its maker has a moment to itself
    await other.turn(4)
    assert _ids(other) == [task.id]


async def test_several_processes_tell_each_notice_once(world: World) -> None:
    tasks = [await world.ended(number) for number in range(1, 30)]
    processes = [world, world.another(), world.another()]
    world.clock.now += 4

    for _ in range(3):
        await asyncio.gather(*(process.turn() for process in processes))

    assert sorted(_ids(world)) == sorted(task.id for task in tasks)


async def test_a_process_that_dies_while_it_tells_is_followed_after_its_claim(world: World) -> None:
    task = await world.ended()
    world.receivers.open.clear()
    running = asyncio.create_task(world.notices.run())
    await world.receivers.reached.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    world.receivers.open.set()
    other = world.another()

    await other.turn(CLAIM_SECONDS - 5)
    assert _ids(other) == []
    await other.turn(12)
    assert _ids(other) == [task.id]


async def test_a_receiver_that_is_down_is_asked_ever_more_rarely_until_it_is_back(world: World) -> None:
    task = await world.ended()
    world.receivers.down = True
    for _ in range(300):
        await world.turn(1.0)

    assert 6 <= world.receivers.tried <= 11  # at about 0, 2, 4, 8, 16, 32, 64, 128 and 256 seconds
    world.receivers.down = False
    await world.turn(400)
    assert _ids(world) == [task.id]
    assert await world.store.notices.due.count() == 0


async def test_a_notice_is_given_up_in_the_end(world: World) -> None:
    task = await world.ended()
    world.receivers.down = True
    await world.turn()

    await world.turn(GIVE_UP_SECONDS + 1)

    assert await world.store.notices.pending(task.id) == []
    assert await world.store.notices.due.count() == 0
    assert 'gateway_webhook_events_total{outcome="given_up"} 1.0' in world.metrics.exposition().decode()


async def test_a_tasks_notices_are_told_in_order(world: World) -> None:
    task = await world.store.create(new_task())
    world.receivers.down = True
    failed = await world.store.apply(task, Failed(TaskError.of(StorageDenied("no"))))
    await world.turn()
    world.clock.now += 1
    await world.store.apply(await world.store.apply(failed, RestartRequested()), CancelRequested())
    await world.turn()
    assert world.receivers.tried == 2  # the first one twice; the second waits behind it

    world.receivers.down = False
    await world.turn(10)

    assert [notice.kind for notice in world.receivers.told] == [NoticeKind.ERROR, NoticeKind.CANCELED]


async def test_a_notice_that_comes_while_another_is_told_is_told_too(world: World) -> None:
    task = await world.store.create(new_task())
    failed = await world.store.apply(task, Failed(TaskError.of(StorageDenied("no"))))
    world.receivers.open.clear()
    await world.notices.round()
    await world.receivers.reached.wait()

    await world.store.apply(await world.store.apply(failed, RestartRequested()), CancelRequested())
    world.receivers.open.set()
    await world.notices.idle()
    await world.another().turn(4)

    assert {notice.kind for notice in world.receivers.told} == {NoticeKind.ERROR, NoticeKind.CANCELED}
    assert await world.store.notices.pending(task.id) == []


async def test_whoever_has_lost_a_task_to_another_tells_no_more_of_it(world: World) -> None:
    failed = Failed(TaskError.of(StorageDenied("no")))
    task = await world.store.apply(await world.store.create(new_task()), failed)
    task = await world.store.apply(await world.store.apply(task, RestartRequested()), failed)
    world.receivers.open.clear()
    await world.notices.round()
    await world.receivers.reached.wait()

    await world.store.apply(task, CancelRequested())
    world.clock.now += 4
    world.receivers.reached.clear()
    other = world.another()
    await other.notices.round()
    await world.receivers.reached.wait()
    world.receivers.open.set()
    await asyncio.gather(world.notices.idle(), other.notices.idle())

    kinds = [notice.kind for notice in world.receivers.told]
    assert kinds == [NoticeKind.ERROR] * 3 + [NoticeKind.CANCELED]  # both began with the first
    assert len({notice.id for notice in world.receivers.told}) == 3


async def test_few_are_told_at_once_and_the_rest_follow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "AT_WORK_MOST", 4)
    monkeypatch.setattr(telling, "WOKEN_MOST", 3)
    tasks = [await world.ended(number) for number in range(1, 31)]
    world.receivers.open.clear()
    world.clock.now += 4

    await world.notices.round()
    await world.notices.round()
    await asyncio.sleep(0.05)
    assert 4 <= world.receivers.tried < 4 + SHARDS  # each shard gives one at least

    world.receivers.open.set()
    await world.notices.idle()
    for _ in range(12):
        await world.turn(4)
    assert sorted(_ids(world)) == sorted(task.id for task in tasks)


async def test_it_tells_as_long_as_it_runs(world: World) -> None:
    running = asyncio.create_task(world.notices.run())
    await asyncio.sleep(0)

    task = await world.ended()

    async with asyncio.timeout(5):
        await world.receivers.reached.wait()
        await world.notices.idle()
    assert _ids(world) == [task.id]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_what_waits_is_measured_and_what_another_told_waits_no_more(world: World) -> None:
    await world.ended()
    world.receivers.down = True
    await world.turn()
    world.clock.now += 50
    await world.notices.measure()
    assert (world.sample("gateway_webhook_tasks_pending"), world.sample("gateway_webhook_oldest_seconds")) == (1, 50)

    world.receivers.down = False
    await world.another().turn()
    await world.notices.measure()
    assert (world.sample("gateway_webhook_tasks_pending"), world.sample("gateway_webhook_oldest_seconds")) == (0, 0)


def test_waits_double_within_bounds() -> None:
    assert [wait_after(age) for age in (0, 1, 5, 100, 10_000)] == [2, 2, 5, 100, 3600]

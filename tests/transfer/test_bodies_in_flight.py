"""How a pause, a cancel or a newer writer reaches the bodies of this process: by the bus, or by looking."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.errors import (
    BodySuperseded,
    GatewayError,
    TaskCanceled,
    TaskCompleting,
    TaskInError,
    TaskPaused,
    TaskSucceeded,
)
from gateway.domain.task import BodyMode, Task, TaskId, TaskState
from gateway.store.progress_bus import RedisProgressBus
from gateway.transfer import bodies_in_flight
from gateway.transfer.bodies_in_flight import BodiesInFlight, BodyInFlight
from tests.fakes.local_cos import RunningCos
from tests.fakes.store import MemoryProgressBus, MemoryTaskStore
from tests.transfer.kit import ALICE, World, running_world


class SilentBus(RedisProgressBus):
    """A bus whose news never arrive."""

    def __init__(self) -> None:
        """No connection at all."""

    @asynccontextmanager
    async def _watch(self, name: str, feed: Any) -> AsyncIterator[Any]:
        yield feed


async def stopped(world: World, task: Task, event: str, seconds: float) -> GatewayError:
    """What ends a body of *task* when *event* happens, if that takes no more than *seconds*."""
    ended: asyncio.Future[GatewayError] = asyncio.get_running_loop().create_future()
    with world.engine.bodies.registered(task, ended.set_result):
        await getattr(world.control, event)(ALICE, task.id, None)
        async with asyncio.timeout(seconds):
            return await ended


@pytest.mark.parametrize(("event", "error"), [("pause", TaskPaused), ("cancel", TaskCanceled)])
async def test_news_from_the_bus_ends_a_body_without_waiting_for_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch, event: str, error: type[GatewayError]
) -> None:
    monkeypatch.setattr(bodies_in_flight, "CHECK_SECONDS", 3600.0)
    await asyncio.sleep(0.55)  # the look that was under way with the old interval
    task = await world.create(size=10)

    assert isinstance(await stopped(world, task, event, 1), error)


@pytest.mark.parametrize(("event", "error"), [("pause", TaskPaused), ("cancel", TaskCanceled)])
async def test_a_look_every_half_second_ends_a_body_though_the_bus_is_silent(
    redis_url: str, cos: RunningCos, event: str, error: type[GatewayError]
) -> None:
    async with running_world(redis_url, cos, bus=SilentBus()) as world:
        task = await world.create(size=10)

        assert isinstance(await stopped(world, task, event, 1), error)


async def test_redis_that_does_not_answer_lets_bodies_flow_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_in_flight, "CHECK_SECONDS", 0.01)
    store = MemoryTaskStore(bus=MemoryProgressBus())
    task = await store.create(TASK)
    bodies = BodiesInFlight(store, store.bus)
    running = asyncio.create_task(bodies.run())
    ended: asyncio.Future[GatewayError] = asyncio.get_running_loop().create_future()

    with bodies.registered(task, ended.set_result):
        store.down = True
        await asyncio.sleep(0.05)
        assert not ended.done()
        assert not running.done()
        store.down = False
        paused = replace(task, state=TaskState.PAUSED, version=task.version + 1)
        store._kept[task.id].task = paused
        assert isinstance(await ended, TaskPaused)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


TASK = Task(
    id=TaskId("t"),
    owner="alice",
    at=None,  # type: ignore[arg-type]
    size=1,
    part_size=1,
    slice_size=1,
    async_limit=1,
    created_at=0,
    updated_at=0,
    expires_at=0,
    state=TaskState.UPLOADING,
    writer=3,
    version=10,
)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"state": TaskState.PAUSED}, TaskPaused),
        ({"state": TaskState.ERROR}, TaskInError),
        ({"state": TaskState.CANCELED}, TaskCanceled),
        ({"state": TaskState.COMPLETING}, TaskCompleting),
        ({"state": TaskState.SUCCESS}, TaskSucceeded),
        ({"writer": 4}, BodySuperseded),
    ],
)
def test_a_body_ends_with_the_reason_and_only_once(change: dict[str, Any], error: type[GatewayError]) -> None:
    reasons: list[GatewayError] = []
    body = BodyInFlight(TASK, reasons.append)

    for _ in range(2):
        body.judge(replace(TASK, version=11, **change))

    assert [type(reason) for reason in reasons] == [error]


@pytest.mark.parametrize("change", [{}, {"loaded": 5}, {"state": TaskState.WAITING}, {"mode": BodyMode.PARTS}])
def test_a_body_that_is_still_wanted_flows_on(change: dict[str, Any]) -> None:
    reasons: list[GatewayError] = []

    BodyInFlight(TASK, reasons.append).judge(replace(TASK, version=11, **change))

    assert reasons == []


def test_what_was_read_before_the_body_began_does_not_end_it() -> None:
    """The task was paused, restarted, and the answer about the pause came late."""
    reasons: list[GatewayError] = []

    BodyInFlight(TASK, reasons.append).judge(replace(TASK, version=9, state=TaskState.PAUSED))

    assert reasons == []


def test_bodies_are_counted_while_they_flow() -> None:
    store = MemoryTaskStore()
    bodies = BodiesInFlight(store, store.bus)

    with bodies.registered(TASK, lambda _: None), bodies.registered(TASK, lambda _: None):
        assert len(bodies) == 2

    assert len(bodies) == 0

"""So many unfinished tasks for each owner, counted in Redis by all processes together."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task, TaskId, TaskState
from gateway.store.ledgers import Ledgers, Shares
from gateway.store.open_tasks import FULL_SECONDS
from gateway.store.task_quota import RedisTaskQuota
from tests.store.conftest import TTL_SECONDS, TurnedClock, new_task


class Scene:
    """The quota of two processes, and what they know of tasks."""

    def __init__(self, redis: Redis, clock: TurnedClock, most: int) -> None:
        self.kept: dict[TaskId, Task] = {}
        self.asked = 0
        self.now = 0.0
        self.here, self.elsewhere = (
            RedisTaskQuota(
                redis,
                Ledgers(Shares(tasks=most), TTL_SECONDS, clock),
                self.load_many,
                clock=clock,
                monotonic=lambda: self.now,
            )
            for _ in range(2)
        )

    async def load_many(self, ids: Sequence[TaskId]) -> list[Task | None]:
        self.asked += 1
        return [self.kept.get(task_id) for task_id in ids]

    async def create(self, task: Task, quota: RedisTaskQuota | None = None) -> None:
        await (quota or self.here).claim(task)
        self.kept[task.id] = task

    def end(self, number: int) -> None:
        task = self.kept[new_task(number).id]
        self.kept[task.id] = replace(task, state=TaskState.CANCELED)


@pytest.fixture
def scene(redis: Redis, clock: TurnedClock) -> Scene:
    return Scene(redis, clock, 3)


async def test_one_task_more_than_the_quota_is_refused_and_another_owner_has_a_quota_of_its_own(scene: Scene) -> None:
    for number in range(3):
        await scene.create(new_task(number))

    for quota in (scene.here, scene.elsewhere):
        with pytest.raises(QuotaExceeded):
            await quota.claim(new_task(3))
    await scene.create(new_task(4, owner="bob"))


async def test_the_same_task_again_takes_no_second_place(scene: Scene) -> None:
    for _ in range(5):
        await scene.create(new_task(0))
    await scene.create(new_task(1))
    await scene.create(new_task(2))


@pytest.mark.parametrize("how", ["ended", "gone", "expired"])
async def test_a_task_that_is_over_makes_room(scene: Scene, clock: TurnedClock, how: str) -> None:
    for number in range(3):
        await scene.create(new_task(number))
    if how == "ended":
        scene.end(1)
    elif how == "gone":
        del scene.kept[new_task(1).id]
    else:
        clock.now += TTL_SECONDS + 1.5

    await scene.create(new_task(100))

    if how != "expired":
        with pytest.raises(QuotaExceeded):
            await scene.elsewhere.claim(new_task(101))


async def test_a_place_taken_a_moment_ago_is_kept_for_the_task_that_is_about_to_come(scene: Scene) -> None:
    for number in range(3):
        await scene.here.claim(new_task(number))

    with pytest.raises(QuotaExceeded):
        await scene.elsewhere.claim(new_task(3))


async def test_of_many_who_come_at_once_no_more_than_the_quota_stay(scene: Scene) -> None:
    outcomes = await asyncio.gather(
        *(scene.create(new_task(n), (scene.here, scene.elsewhere)[n % 2]) for n in range(20)), return_exceptions=True
    )

    assert sum(outcome is None for outcome in outcomes) <= 3
    assert {type(outcome) for outcome in outcomes if outcome is not None} == {QuotaExceeded}


async def test_whoever_is_at_the_limit_costs_one_look_a_second(scene: Scene) -> None:
    for number in range(3):
        await scene.create(new_task(number))
    for _ in range(50):
        with pytest.raises(QuotaExceeded):
            await scene.here.claim(new_task(3))
    assert scene.asked == 1

    scene.end(0)
    scene.now += FULL_SECONDS
    await scene.create(new_task(3))


async def test_who_was_refused_holds_no_place(scene: Scene) -> None:
    for number in range(3):
        await scene.create(new_task(number))
    with pytest.raises(QuotaExceeded):
        await scene.here.claim(new_task(3))
    scene.end(0)
    scene.now += FULL_SECONDS

    await scene.create(new_task(4))


async def test_the_count_outlives_no_task(scene: Scene, redis: Redis) -> None:
    await scene.create(new_task(0))

    (key,) = await redis.keys("gw:ledger:*")
    assert TTL_SECONDS - 60 < await redis.ttl(key) <= TTL_SECONDS

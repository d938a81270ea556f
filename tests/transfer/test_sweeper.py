import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import StateStoreUnavailable, UploadLost
from gateway.domain.objects import ObjectAddress, UploadId
from gateway.domain.policy import Destination
from gateway.domain.task import CancelRequested, Failed, RestartRequested, TaskError, TaskId
from gateway.store.due_index import SHARDS
from gateway.store.redis_keys import due_key
from gateway.telemetry import Metrics
from gateway.transfer import sweeper as sweeping
from gateway.transfer.sweeper import Sweeper, SweepRules, unix_time
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET
from tests.fakes.redis_server import send_command
from tests.fakes.store import MemoryTaskStore
from tests.transfer.kit import World, random_bytes

IDLE_SECONDS = 3600
OURS = Destination("ours", BUCKET, "in/")


class OpenClaims:
    """Every claim is free; ``taken`` tells which were asked for."""

    def __init__(self, *, free: bool = True) -> None:
        self.free = free
        self.taken: list[str] = []

    async def take(self, name: str, seconds: float) -> bool:
        self.taken.append(name)
        return self.free


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def _sweeper(world: World, metrics: Metrics, *places: Destination, **options: Any) -> Sweeper:
    rules = SweepRules(60, IDLE_SECONDS, whole_buckets=options.pop("whole_buckets", False))
    claims = options.pop("claims", OpenClaims())
    tasks = options.pop("tasks", world.tasks)
    return Sweeper(tasks, world.objects, places or (OURS,), rules, claims, world.tasks.repair, metrics)


async def _orphan(world: World, key: str, *, age: float = IDLE_SECONDS + 60, parts: Sequence[float] = ()) -> UploadId:
    """An upload that no task has, begun *age* seconds ago, with parts of the ages *parts*."""
    upload_id = await world.objects.initiate(ObjectAddress(BUCKET, key), {})
    _age(world, upload_id, age)
    upload = world.cos.app.uploads.find(BUCKET.name, key, upload_id)
    for number, part_age in enumerate(parts, 1):
        body = _Body(random_bytes(1000, number))
        await world.objects.upload_part(ObjectAddress(BUCKET, key), upload_id, number, body, {})
        object.__setattr__(upload.parts[number], "last_modified", time.time() - part_age)
    return upload_id


def _age(world: World, upload_id: str, seconds: float) -> None:
    for upload in world.cos.app.uploads.all(BUCKET.name):
        if upload.upload_id == upload_id:
            upload.initiated = time.time() - seconds


def _open(world: World) -> set[str]:
    return {upload.upload_id for upload in world.cos.app.uploads.all(BUCKET.name)}


def _sample(metrics: Metrics, name: str) -> float:
    lines = metrics.exposition().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def _gone(world: World, upload_id: UploadId) -> None:
    while upload_id in _open(world):  # noqa: ASYNC110 -- the local COS has no event to wait for
        await asyncio.sleep(0.01)


class _Body:
    """A part in memory."""

    replayable = True

    def __init__(self, data: bytes) -> None:

        self._data = data
        self.size, self.crc64 = len(data), crc64(data)

    async def chunks(self) -> Any:
        yield self._data


@pytest.mark.promise(14, 17)
async def test_uploads_that_nobody_has_are_aborted_once_nothing_came_for_long(world: World, metrics: Metrics) -> None:
    """Judged by the last part's time: an old upload that still gets parts lives."""
    old = await _orphan(world, "in/old")
    old_with_parts = await _orphan(world, "in/old with parts", parts=[IDLE_SECONDS + 5, IDLE_SECONDS + 9])
    young = await _orphan(world, "in/young", age=IDLE_SECONDS - 60)
    busy = await _orphan(world, "in/busy", parts=[IDLE_SECONDS + 9, 60, IDLE_SECONDS + 5])
    known = _open(world)

    await _sweeper(world, metrics).round()

    assert known - _open(world) == {old, old_with_parts}
    assert {young, busy} <= _open(world)
    assert _sample(metrics, "gateway_sweep_aborted_total") == 2
    assert time.time() - _sample(metrics, "gateway_sweep_last_success_seconds") < 10


@pytest.mark.promise(17)
async def test_other_prefixes_and_other_buckets_are_left_alone(world: World, metrics: Metrics) -> None:
    others = {await _orphan(world, key) for key in ("out/old", "inn", "IN/old", "a/in/old")}
    elsewhere = await world.objects.initiate(ObjectAddress(OTHER_BUCKET, "in/old"), {})
    world.cos.app.uploads.find(OTHER_BUCKET.name, "in/old", elsewhere).initiated = 0.0

    await _sweeper(world, metrics).round()

    assert others <= _open(world)
    assert [upload.upload_id for upload in world.cos.app.uploads.all(OTHER_BUCKET.name)] == [elsewhere]
    world.cos.app.uploads.close(world.cos.app.uploads.find(OTHER_BUCKET.name, "in/old", elsewhere))


async def test_a_bucket_without_a_prefix_is_swept_only_when_told_so(world: World, metrics: Metrics) -> None:
    everything = Destination("all", BUCKET, "")
    upload_id = await _orphan(world, "anywhere")

    await _sweeper(world, metrics, everything).round()
    assert upload_id in _open(world)

    await _sweeper(world, metrics, everything, whole_buckets=True).round()
    assert upload_id not in _open(world)


@pytest.mark.promise(17)
async def test_what_a_living_task_has_stays_whatever_its_age(world: World, metrics: Metrics) -> None:
    """Redis tells who lives; an upload that a task has left is nobody's."""
    task = await world.create(key="in/living", size=3 << 20)
    left = await world.create(key="in/left", size=3 << 20)
    assert task.upload_id is not None
    assert left.upload_id is not None
    failed = await _fail_for_good(world, left.id)
    now = await world.tasks.apply(failed, RestartRequested())
    assert now.upload_id is None
    _age(world, task.upload_id, 10 * IDLE_SECONDS)
    _age(world, left.upload_id, 10 * IDLE_SECONDS)

    await _sweeper(world, metrics).round()

    assert task.upload_id in _open(world)
    assert left.upload_id not in _open(world)


async def _fail_for_good(world: World, task_id: TaskId) -> Any:

    task = await world.tasks.load(task_id)
    assert task is not None
    return await world.tasks.apply(task, Failed(TaskError.of(UploadLost("gone"))))


async def test_every_page_is_looked_at(world: World, metrics: Metrics) -> None:
    world.objects.uploads_listed_most = world.objects.parts_listed_most = 2
    orphans = {await _orphan(world, f"in/{number}", parts=[IDLE_SECONDS + 9] * number) for number in range(5)}
    busy = await _orphan(world, "in/busy at its end", parts=[IDLE_SECONDS + 9, IDLE_SECONDS + 9, 60])

    await _sweeper(world, metrics).round()

    assert not orphans & _open(world)
    assert busy in _open(world)


@pytest.mark.promise(17)
async def test_what_a_canceled_task_has_left_at_cos_is_nobody_s(world: World, metrics: Metrics) -> None:
    task = await world.create(key="in/canceled", size=3 << 20)
    assert task.upload_id is not None
    await world.tasks.apply(task, CancelRequested())  # and its process dies before COS hears of it
    _age(world, task.upload_id, 10 * IDLE_SECONDS)

    await _sweeper(world, metrics).round()

    assert task.upload_id not in _open(world)


async def test_every_page_of_the_index_is_mended(
    world: World, metrics: Metrics, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "REPAIR_PAGE", 2)
    for number in range(5):
        task = await world.create(key=f"in/open/{number}", size=3 << 20)
        await world.tasks.apply(task, CancelRequested())
    send_command(redis_url, "DEL", *(due_key("intents", shard) for shard in range(SHARDS)))

    await _sweeper(world, metrics).mend()

    assert await world.tasks.intents.count() == 5


async def test_two_sweepers_at_once_do_no_harm(world: World, metrics: Metrics) -> None:
    orphans = {await _orphan(world, f"in/twice/{number}") for number in range(6)}
    gate = world.objects.hold("abort")

    rounds = [asyncio.create_task(_sweeper(world, metrics).sweep(OURS)) for _ in range(2)]
    await gate.reached_by(2)
    gate.open()
    await asyncio.gather(*rounds)

    assert not orphans & _open(world)
    assert _sample(metrics, "gateway_sweep_errors_total") == 0


async def test_work_that_another_has_claimed_is_left_to_it(world: World, metrics: Metrics) -> None:
    orphan = await _orphan(world, "in/claimed")
    claims = OpenClaims(free=False)

    await _sweeper(world, metrics, claims=claims).round()

    assert orphan in _open(world)
    assert claims.taken == [f"sweep:{BUCKET.name}:in/", "repair"]


@pytest.mark.promise(17)
async def test_b85_an_upload_is_aborted_until_cos_does_not_know_it(world: World, metrics: Metrics) -> None:
    orphan = await _orphan(world, "in/tough")
    world.cos.fault("early_error", operation="AbortMultipartUpload", key="in/tough", status=200, times=2)

    await _sweeper(world, metrics).round()

    assert orphan not in _open(world)
    assert len(world.cos.journal("AbortMultipartUpload", key="in/tough")) == 3


async def test_a_cos_that_fails_ends_the_round_and_the_next_goes_on(world: World, metrics: Metrics) -> None:
    orphans = {await _orphan(world, f"in/brown/{number}") for number in range(6)}
    world.cos.fault("early_error", operation="AbortMultipartUpload", status=500, code="", times=None)

    await _sweeper(world, metrics).round()
    assert orphans <= _open(world)
    assert world.objects.calls["abort"] == sweeping.FAILURES_IN_A_ROW
    assert _sample(metrics, 'gateway_sweeps_total{outcome="failed"}') == 1
    world.cos.clear_faults()

    await _sweeper(world, metrics).round()
    assert not orphans & _open(world)


@pytest.mark.parametrize("fate", ["aborted", "lost"])
async def test_failures_with_an_answer_in_between_are_not_in_a_row(world: World, metrics: Metrics, fate: str) -> None:
    orphans = [await _orphan(world, f"in/{fate}/{number}") for number in range(6)]
    for number in (0, 1, 3, 4):
        rule = {"operation": "ListParts", "key": f"in/{fate}/{number}", "times": None}
        world.cos.fault("error", status=403, code="AccessDenied", **rule)
    if fate == "lost":
        world.cos.fault("error", operation="ListParts", key=f"in/{fate}/2", status=404, code="NoSuchUpload", times=None)

    await _sweeper(world, metrics).round()

    assert orphans[5] not in _open(world)
    assert {orphans[0], orphans[1], orphans[3], orphans[4]} <= _open(world)


@pytest.mark.promise(17)
async def test_uploads_that_cos_refuses_to_end_keep_none_behind_them(world: World, metrics: Metrics) -> None:
    """However many there are; operators hear of them by the round that failed."""
    orphans = [await _orphan(world, f"in/refused/{number}") for number in range(6)]
    for number in range(5):
        rule = {"operation": "AbortMultipartUpload", "key": f"in/refused/{number}", "times": None}
        world.cos.fault("early_error", status=403, code="AccessDenied", **rule)

    await _sweeper(world, metrics).round()

    assert _open(world) & set(orphans) == set(orphans[:5])
    assert _sample(metrics, 'gateway_sweeps_total{outcome="failed"}') == 1
    assert _sample(metrics, "gateway_sweep_errors_total") == 5


async def test_one_upload_that_cannot_be_aborted_stops_no_other(world: World, metrics: Metrics) -> None:
    orphans = [await _orphan(world, f"in/one/{number}") for number in range(3)]
    world.cos.fault(
        "early_error", operation="AbortMultipartUpload", key="in/one/0", status=403, code="AccessDenied", times=None
    )

    await _sweeper(world, metrics).round()

    assert _open(world) & set(orphans) == {orphans[0]}


@pytest.mark.promise(17)
async def test_without_redis_nothing_is_aborted(world: World, metrics: Metrics) -> None:
    """Nobody could tell who lives."""
    orphan = await _orphan(world, "in/no redis")
    tasks = MemoryTaskStore()
    tasks.down = True

    with pytest.raises(StateStoreUnavailable):
        await _sweeper(world, metrics, tasks=tasks).sweep(OURS)

    assert orphan in _open(world)


async def test_a_failing_round_never_ends_the_process(world: World, metrics: Metrics) -> None:
    class BrokenClaims(OpenClaims):
        async def take(self, name: str, seconds: float) -> bool:
            raise StateStoreUnavailable("down")

    await _sweeper(world, metrics, claims=BrokenClaims()).round()

    assert _sample(metrics, 'gateway_sweeps_total{outcome="failed"}') == 2


async def test_a_round_has_an_end(world: World, metrics: Metrics) -> None:
    await _orphan(world, "in/endless")
    world.objects.hold("list_parts")
    rules = SweepRules(0.05, IDLE_SECONDS)
    sweeper = Sweeper(world.tasks, world.objects, [OURS], rules, OpenClaims(), world.tasks.repair, metrics)

    await sweeper.round()

    assert _sample(metrics, 'gateway_sweeps_total{outcome="unfinished"}') == 1


async def test_it_runs_each_period_until_it_is_cancelled(world: World, metrics: Metrics) -> None:
    orphan = await _orphan(world, "in/run")
    rules = SweepRules(0.02, IDLE_SECONDS)
    sweeper = Sweeper(world.tasks, world.objects, [OURS], rules, OpenClaims(), world.tasks.repair, metrics)
    running = asyncio.create_task(sweeper.run())

    async with asyncio.timeout(10):
        await _gone(world, orphan)
    later = await _orphan(world, "in/run again")
    async with asyncio.timeout(10):
        await _gone(world, later)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-22T00:00:00.000Z", 1_795_305_600.0),
        ("2026-11-22T08:00:00+08:00", 1_795_305_600.0),
        ("2026-11-22T00:00:00", 1_795_305_600.0),
        ("", None),
        ("Sun, 22 Nov 2026 00:00:00 GMT", None),
    ],
)
def test_a_time_that_cannot_be_read_is_no_time(moment: str, expected: float | None) -> None:
    assert unix_time(moment) == expected


@pytest.mark.promise(17)
async def test_an_upload_of_unknown_age_is_left_alone(
    world: World, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = await _orphan(world, "in/ageless")
    monkeypatch.setattr(sweeping, "unix_time", lambda moment: None)

    await _sweeper(world, metrics).round()

    assert orphan in _open(world)

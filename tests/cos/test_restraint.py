"""Each bucket is spared alone, what ends an upload waits longer, and operators see it."""

import asyncio
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.cos import wire_requests
from gateway.cos.restraint import Restraint
from gateway.cos.wire_requests import CosRequest
from gateway.domain import errors
from gateway.domain.errors import CosAnswer
from gateway.domain.objects import Bucket, ObjectAddress, UploadId
from gateway.telemetry import Metrics

BUCKET: Final = Bucket("b-125", "r")
PUT: Final = wire_requests.put_object(ObjectAddress(BUCKET, "k"), {})
OTHER: Final = wire_requests.put_object(ObjectAddress(Bucket("other-125", "r"), "k"), {})
ABORT: Final = wire_requests.abort(ObjectAddress(BUCKET, "k"), UploadId("u"))
SLOW_DOWN: Final = CosAnswer(503, "SlowDown", "r")
OUTAGE: Final = errors.StorageUnavailable("gone")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def restraint(metrics: Metrics, clock: Clock) -> Restraint:
    return Restraint(metrics, clock)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(found.name, *found.labels.values()): found.value for family in families for found in family.samples}


async def test_a_bucket_that_asked_to_slow_down_is_not_asked_before_then_and_others_are(
    restraint: Restraint, metrics: Metrics
) -> None:
    restraint.failed(BUCKET, errors.StorageSlowDown(retry_after_seconds=8, cos=SLOW_DOWN))

    with pytest.raises(errors.StorageSlowDown) as refused:
        await restraint.admit(PUT, SLOW_DOWN)
    await restraint.admit(OTHER, None)

    assert refused.value.retry_after_seconds == pytest.approx(8, abs=0.5)
    assert refused.value.cos == SLOW_DOWN
    restraint.report()
    seen = samples(metrics)
    assert seen["gateway_cos_errors_total", "SlowDown"] == 1
    assert seen["gateway_cos_held_back_total", "slow_down"] == 1
    assert seen["gateway_cos_pace_share", "b-125"] == pytest.approx(0.7)
    assert seen["gateway_cos_pace_share", "other-125"] == 1


@pytest.mark.parametrize(
    ("request_", "streams", "hold_seconds"), [(PUT, True, 1.0), (PUT, False, 5.5), (ABORT, False, 10.0)]
)
async def test_what_is_in_memory_waits_longer_than_what_streams_and_what_ends_an_upload_longest(
    clock: Clock, request_: CosRequest, streams: bool, hold_seconds: float
) -> None:
    restraint = Restraint(Metrics(), clock)
    restraint.failed(BUCKET, errors.StorageSlowDown(retry_after_seconds=10, cos=SLOW_DOWN))
    clock.now += 10 - hold_seconds - 0.1
    if request_ is not ABORT:
        with pytest.raises(errors.StorageSlowDown):
            await restraint.admit(request_, None, streams=streams)
    clock.now += 0.2

    admitted = asyncio.create_task(restraint.admit(request_, None, streams=streams))
    await asyncio.sleep(0)

    assert not admitted.done()  # it waits
    admitted.cancel()


async def test_a_turn_is_waited_for(restraint: Restraint, clock: Clock) -> None:
    loop = asyncio.get_running_loop()
    restraint.failed(BUCKET, errors.StorageSlowDown(retry_after_seconds=3, cos=SLOW_DOWN))
    clock.now += 2.7
    began = loop.time()

    await restraint.admit(PUT, None)

    assert 0.25 < loop.time() - began < 1.0


def fail_for_ever(restraint: Restraint, clock: Clock, error: errors.GatewayError = OUTAGE) -> None:
    for _ in range(10):
        clock.now += 1
        restraint.failed(BUCKET, error)


async def test_a_bucket_that_fails_every_time_is_refused_at_once_until_it_answers(
    restraint: Restraint, metrics: Metrics, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fail_for_ever(restraint, clock)
    restraint.report()

    with pytest.raises(errors.StorageUnavailable) as refused:
        await restraint.admit(PUT, None)

    assert 0 < (refused.value.retry_after_seconds or 0) <= 1
    assert samples(metrics)["gateway_cos_breaker_open", "b-125"] == 1
    assert samples(metrics)["gateway_cos_held_back_total", "failing"] == 1
    await restraint.admit(OTHER, None)
    restraint.succeeded(BUCKET)
    await restraint.admit(PUT, None)
    assert [record.getMessage().partition(" ")[2] for record in caplog.records] == [
        "fails every time; it is asked only now and then until it answers",
        "answers again",
    ]


@pytest.mark.parametrize(
    "error",
    [
        errors.StorageUnavailable(cos=CosAnswer(500, "InternalError", "")),
        errors.StorageBadAnswer(cos=CosAnswer(200, "", "")),
    ],
)
async def test_a_bucket_that_answers_only_nonsense_fails_as_well(
    restraint: Restraint, clock: Clock, error: errors.GatewayError
) -> None:
    fail_for_ever(restraint, clock, error)

    with pytest.raises(errors.StorageUnavailable):
        await restraint.admit(PUT, None)


async def test_while_a_bucket_fails_what_ends_an_upload_waits_for_its_trial() -> None:
    restraint = Restraint(Metrics(), clock := Clock())
    fail_for_ever(restraint, clock)
    admitted = asyncio.create_task(restraint.admit(ABORT, None))
    await asyncio.sleep(0)
    with pytest.raises(errors.StorageUnavailable):
        await restraint.admit(PUT, None)
    assert not admitted.done()
    clock.now += 1

    async with asyncio.timeout(3):
        await admitted


@pytest.mark.parametrize(
    "error",
    [
        errors.StorageDenied(cos=CosAnswer(403, "AccessDenied", "")),
        errors.StorageUnavailable(cos=CosAnswer(400, "RequestTimeout", "")),
        errors.StorageSlowDown(cos=SLOW_DOWN),
        errors.UploadLost(cos=CosAnswer(404, "NoSuchUpload", "")),
        errors.StorageIntegrity(cos=CosAnswer(200, "", "")),
    ],
)
async def test_an_answer_of_whatever_kind_is_no_outage(
    restraint: Restraint, clock: Clock, error: errors.GatewayError
) -> None:
    fail_for_ever(restraint, clock)
    restraint.failed(BUCKET, error)

    await restraint.admit(PUT, None)

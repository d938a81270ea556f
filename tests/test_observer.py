import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway import tracing
from gateway.domain.task import TaskState
from gateway.observer import Observer
from gateway.telemetry import DOOR, Metrics
from tests.test_telemetry import samples
from tests.web.sample_tasks import new_task


@pytest.fixture
def spans() -> Iterator[list[tracing.Span]]:
    """What an exporter would get."""
    got: list[tracing.Span] = []
    tracing.install(got.append)
    token = tracing.TRACE.set(tracing.Trace("a" * 32, "b" * 16, sampled=True))
    yield got
    tracing.TRACE.reset(token)
    tracing.install(None)


def test_a_call_to_redis_is_a_time_and_a_failure_is_counted_besides(spans: list[tracing.Span]) -> None:
    metrics = Metrics()
    observer = Observer(metrics)

    observer.redis("load", 0.003, True)
    observer.redis("load", 1.0, False)

    found = samples(metrics.exposition())
    assert found["gateway_redis_call_seconds_count", "load"] == 2
    assert found["gateway_redis_failures_total", "load"] == 1
    assert [(span.name, span.failed) for span in spans] == [("Redis load", False), ("Redis load", True)]


def test_an_attempt_at_cos_tells_how_cos_is(spans: list[tracing.Span]) -> None:
    metrics = Metrics()
    observer = Observer(metrics)
    assert observer.cos_state == "unknown"

    observer.cos("upload_part", 200, 0.1, 4096)
    assert observer.cos_state == "ok"
    observer.cos("head_object", 404, 0.1, 0)
    assert observer.cos_state == "ok"
    observer.cos("upload_part", 0, 0.1, 100)
    assert observer.cos_state == "failing"

    found = samples(metrics.exposition())
    assert found["gateway_cos_calls_total", "upload_part", "0"] == 1
    assert found["gateway_cos_bytes_total",] == 4196
    assert found["gateway_parts_stored_total",] == found["gateway_part_seconds_count",] == 1
    assert [span.failed for span in spans] == [False, False, True]
    assert spans[0].end - spans[0].start == pytest.approx(1e8)


def test_a_move_is_told_with_the_door_it_came_through() -> None:
    metrics = Metrics()
    token = DOOR.set("cos")
    succeeded = replace(new_task("t"), state=TaskState.SUCCESS)
    Observer(metrics).move("Succeeded", succeeded)
    DOOR.reset(token)
    Observer(metrics).move("Succeeded", succeeded)

    found = samples(metrics.exposition())
    assert found["gateway_task_transitions_total", "cos", "Succeeded", "success"] == 1
    assert found["gateway_task_transitions_total", "none", "Succeeded", "success"] == 1


@pytest.mark.parametrize(
    ("event", "state", "written"),
    [
        ("Created", TaskState.WAITING, ["create"]),
        ("Created", TaskState.SUCCESS, ["create", "complete"]),
        ("Restored", TaskState.WAITING, []),
        ("PartStored", TaskState.UPLOADING, []),
        ("Succeeded", TaskState.SUCCESS, ["complete"]),
        ("CancelRequested", TaskState.CANCELED, ["cancel"]),
    ],
)
def test_s12_what_becomes_of_a_task_is_in_the_audit_trail(
    caplog: pytest.LogCaptureFixture, event: str, state: TaskState, written: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    Observer(Metrics()).move(event, replace(new_task("t", owner="alice"), state=state))

    assert [line.message for line in caplog.records if line.name == "gateway.audit"] == written
    for line in caplog.records:
        assert {"task_id": "t", "owner": "2bd806c97f0e00af", "bucket": "b-1250000000"}.items() <= vars(line).items()

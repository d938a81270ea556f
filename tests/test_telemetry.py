import asyncio
import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import (
    COS_REQUEST_ID,
    METRICS,
    REQUEST_ID,
    TASK_ID,
    JsonFormatter,
    Metrics,
    UnregisteredMetric,
    configure_logging,
    metrics_folder,
    redacted,
    watch_loop_lag,
)

_CANARY = "canaryCANARY0123456789canaryCANARY"
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
_ROOT = Path(__file__).parents[1]


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a process with our logging writes; the loggers are as they were afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", secrets=[_CANARY, 'quo"ted-secret'], stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def _lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_ids_of_the_moment(output: io.StringIO) -> None:
    tokens = [
        (REQUEST_ID, REQUEST_ID.set("r1")),
        (TASK_ID, TASK_ID.set("t1")),
        (COS_REQUEST_ID, COS_REQUEST_ID.set("c1")),
    ]
    logging.getLogger("gateway.web").info("part %d\nstored", 3, extra={"status": 200, "路": "上传"})
    for variable, token in tokens:
        variable.reset(token)

    [line] = _lines(output)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "gateway.web",
        "message": "part 3\nstored",
        "request_id": "r1",
        "task_id": "t1",
        "cos_request_id": "c1",
        "status": 200,
        "路": "上传",
    }


def test_ids_that_are_not_known_are_left_out(output: io.StringIO) -> None:
    logging.getLogger("gateway").warning("hello")

    assert set(_lines(output)[0]) == {"time", "level", "logger", "message"}


def test_time_is_utc_with_milliseconds() -> None:
    record = logging.makeLogRecord({"created": 1_700_000_000.25, "msg": "x", "levelname": "INFO"})

    assert json.loads(JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.250Z"


def test_an_exception_is_told_with_its_stack(output: io.StringIO) -> None:
    try:
        raise RuntimeError(f"failed with {_CANARY}")
    except RuntimeError:
        logging.getLogger("gateway").exception("unexpected")

    [line] = _lines(output)
    assert "RuntimeError: failed with ***" in line["exception"]


def test_below_the_level_and_from_noisy_libraries_nothing_is_written(output: io.StringIO) -> None:
    logging.getLogger("gateway").debug("detail")
    logging.getLogger("httpx").info("HTTP Request: PUT …")
    logging.getLogger("python_multipart.multipart").warning("a malformed byte")

    assert output.getvalue() == ""


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {_CANARY}",
        f"authorization={_CANARY}",
        f"bearer.{_CANARY}",
        f"gateway.v1, bearer.{_CANARY}",
        f"q-sign-algorithm=sha1&q-signature={_CANARY}&x=1",
        f"x-cos-security-token: {_CANARY}",
        f"/key?x-cos-security-token={_CANARY}&part=1",
        f"Upload-Ticket: {_CANARY}",
        f"{{'upload-ticket': '{_CANARY}'}}",
        f"(b'upload-ticket', b'{_CANARY}')",
        f"http://127.0.0.1:8080/#token={_CANARY}",
    ],
)
def test_what_looks_like_a_secret_is_starred_wherever_it_stands(text: str) -> None:
    for line in (text, json.dumps({"message": text}), json.dumps({"outer": json.dumps({"inner": text})})):
        cleaned = redacted(line)

        assert _CANARY not in cleaned
        assert "***" in cleaned
        if line != text:
            json.loads(cleaned)


def test_a_bare_token_is_starred() -> None:
    assert redacted(f"got {_JWT}.") == "got ***."


def test_what_is_no_secret_stays_as_it_is() -> None:
    text = "GET /v1/tasks/{id}/parts/{n} 200 from 127.0.0.1, key=report.pdf, 16384 bytes, bearing 12"

    assert redacted(text) == text


@pytest.mark.parametrize("where", ["message", "extra", "header"])
def test_the_processes_own_secrets_never_reach_the_log(where: str, output: io.StringIO) -> None:
    logger = logging.getLogger("gateway")
    for secret in (_CANARY, 'quo"ted-secret', _JWT):
        match where:
            case "message":
                logger.info("value %s", secret)
            case "extra":
                logger.info("x", extra={"value": {"deep": [secret]}})
            case _:
                logger.info("x", extra={"headers": {"upload-ticket": secret}})

    text = output.getvalue()
    assert len(_lines(output)) == 3
    assert not any(part in text for part in (_CANARY, "ted-secret", "c2lnbmF0dXJl"))


def _samples(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "pid")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_is_counted_is_exposed() -> None:
    metrics = Metrics()

    metrics.count("gateway_cos_calls_total", "upload_part", "200")
    metrics.count("gateway_cos_calls_total", "upload_part", "200")
    metrics.count("gateway_body_bytes_total", by=16384)
    metrics.add("gateway_bodies_in_flight", 2)
    metrics.add("gateway_bodies_in_flight", -1)
    metrics.observe("gateway_redis_call_seconds", 0.003, "load")

    samples = _samples(metrics.exposition())
    assert samples["gateway_cos_calls_total", "upload_part", "200"] == 2
    assert samples["gateway_body_bytes_total",] == 16384
    assert samples["gateway_bodies_in_flight",] == 1
    assert samples["gateway_redis_call_seconds_bucket", "load", "0.0025"] == 0
    assert samples["gateway_redis_call_seconds_bucket", "load", "0.005"] == 1


def test_each_registry_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()

    first.count("gateway_parts_stored_total")

    assert _samples(second.exposition())["gateway_parts_stored_total",] == 0


def test_every_metric_can_be_used_as_the_table_says() -> None:
    metrics = Metrics()
    for name, metric in METRICS.items():
        labels = ["x"] * len(metric.labels)
        match metric.kind:
            case "counter":
                metrics.count(name, *labels)
            case "gauge":
                metrics.add(name, 1, *labels)
            case "histogram":
                metrics.observe(name, 1, *labels)

    exposed = {name for name, *_ in _samples(metrics.exposition())}
    for name, metric in METRICS.items():
        assert (f"{name}_count" if metric.kind == "histogram" else name) in exposed


def test_what_is_not_registered_cannot_be_counted() -> None:
    metrics = Metrics()

    with pytest.raises(UnregisteredMetric, match="no counter gateway_surprises_total with 0 labels"):
        metrics.count("gateway_surprises_total")
    with pytest.raises(UnregisteredMetric):
        metrics.count("gateway_cos_retries_total")
    with pytest.raises(UnregisteredMetric):
        metrics.observe("gateway_parts_stored_total", 1)


def test_a_metric_is_not_used_as_another_kind_after_its_first_use() -> None:
    metrics = Metrics()
    metrics.count("gateway_parts_stored_total")

    with pytest.raises(UnregisteredMetric):
        metrics.add("gateway_parts_stored_total", -1)


_WORKER = """
import sys
from pathlib import Path
from gateway.telemetry import Metrics
metrics = Metrics(Path(sys.argv[1]))
metrics.count("gateway_cos_retries_total", "upload_part", by=3)
metrics.add("gateway_bodies_in_flight", 1)
metrics.observe("gateway_part_seconds", 0.2)
"""
_SCRAPE = """
import os, sys
from pathlib import Path
from gateway.telemetry import Metrics, forget_worker
folder = Path(sys.argv[1])
for left in folder.glob("gauge_livesum_*.db"):
    forget_worker(folder, int(left.stem.rpartition("_")[2]))
metrics = Metrics(folder)
metrics.add("gateway_bodies_in_flight", 5)
sys.stdout.buffer.write(metrics.exposition())
"""


def test_one_scrape_tells_all_workers_and_forgets_the_gauges_of_the_dead() -> None:
    with metrics_folder(None) as folder:
        for _ in range(2):
            subprocess.run([sys.executable, "-c", _WORKER, str(folder)], check=True, cwd=_ROOT)
        answer = subprocess.run(
            [sys.executable, "-c", _SCRAPE, str(folder)], check=True, cwd=_ROOT, capture_output=True
        )

    samples = _samples(answer.stdout)
    assert samples["gateway_cos_retries_total", "upload_part"] == 6
    assert samples["gateway_part_seconds_count",] == 2
    assert samples["gateway_bodies_in_flight",] == 5
    assert not folder.exists()


def test_a_configured_metrics_folder_is_emptied_first_and_kept(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "counter_1.db").write_bytes(b"of an earlier run")

    with metrics_folder(tmp_path / "m") as folder:
        assert list(folder.iterdir()) == []

    assert folder.is_dir()


class _Lag(Metrics):
    """Tells when the first value has been entered."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()

    def observe(self, name: str, value: float, *labels: str) -> None:
        super().observe(name, value, *labels)
        self.entered.set()


async def test_a_blocked_loop_shows_in_its_lag() -> None:
    metrics = _Lag()
    watcher = asyncio.create_task(watch_loop_lag(metrics, every_seconds=0.001))
    await asyncio.sleep(0)

    until = time.perf_counter() + 0.06
    while time.perf_counter() < until:
        pass
    await metrics.entered.wait()
    watcher.cancel()

    assert _samples(metrics.exposition())["gateway_loop_lag_seconds_sum",] >= 0.05

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import (
    METRICS,
    Metrics,
    UnregisteredMetric,
    metrics_folder,
)

_ROOT = Path(__file__).parents[1]


def samples(text: bytes) -> dict[tuple[str, ...], float]:
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

    found = samples(metrics.exposition())
    assert found["gateway_cos_calls_total", "upload_part", "200"] == 2
    assert found["gateway_body_bytes_total",] == 16384
    assert found["gateway_bodies_in_flight",] == 1
    assert found["gateway_redis_call_seconds_bucket", "load", "0.0025"] == 0
    assert found["gateway_redis_call_seconds_bucket", "load", "0.005"] == 1


def test_rare_outcomes_are_told_before_they_happen() -> None:
    """Prometheus sees an increase only between two samples: the first event would be lost on it."""
    found = samples(Metrics().exposition())

    assert found["gateway_webhook_events_total", "given_up"] == 0
    assert found["gateway_sweeps_total", "failed"] == 0
    assert found["gateway_cos_held_back_total", "slow_down"] == 0
    assert found["gateway_log_lines_dropped_total",] == 0


def test_a_gauge_can_be_put_where_it_is() -> None:
    metrics = Metrics()
    for share in (0.5, 0.25):
        metrics.put("gateway_cos_pace_share", share, "files")

    assert samples(metrics.exposition())["gateway_cos_pace_share", "files"] == 0.25
    with pytest.raises(UnregisteredMetric):
        metrics.put("gateway_parts_stored_total", 1)


_TWO_WORKERS = """
import os, sys
from pathlib import Path
from gateway.telemetry import Metrics
metrics = Metrics(Path(sys.argv[1]))
child = os.fork()
metrics.put("gateway_cos_pace_share", 0.25 if child else 0.5, "files")
metrics.put("gateway_cos_clock_offset_seconds", 25 if child else 50)
if child:
    os.waitpid(child, 0)
    sys.stdout.buffer.write(metrics.exposition())
"""


def test_of_two_workers_gauges_the_worst_is_told() -> None:
    with metrics_folder(None) as folder:
        argv = [sys.executable, "-c", _TWO_WORKERS, str(folder)]
        answer = subprocess.run(argv, check=True, cwd=_ROOT, capture_output=True)

    found = samples(answer.stdout)
    assert found["gateway_cos_pace_share", "files"] == 0.25
    assert found["gateway_cos_clock_offset_seconds",] == 50


def test_each_registry_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()

    first.count("gateway_parts_stored_total")

    assert samples(second.exposition())["gateway_parts_stored_total",] == 0


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

    exposed = {name for name, *_ in samples(metrics.exposition())}
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

    found = samples(answer.stdout)
    assert found["gateway_cos_retries_total", "upload_part"] == 6
    assert found["gateway_part_seconds_count",] == 2
    assert found["gateway_bodies_in_flight",] == 5
    assert not folder.exists()


def test_a_configured_metrics_folder_is_emptied_first_and_kept(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "counter_1.db").write_bytes(b"of an earlier run")

    with metrics_folder(tmp_path / "m") as folder:
        assert list(folder.iterdir()) == []

    assert folder.is_dir()


def test_names_carry_their_units_and_are_safe_for_every_scraper() -> None:
    """Prometheus adds _bucket, _count, _sum and _created by itself, and OpenMetrics wants counters to end in _total."""
    for name, metric in METRICS.items():
        assert re.fullmatch(r"gateway(_[a-z]+)+", name), name
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert not name.endswith(("_bucket", "_count", "_sum", "_created")), name
        assert metric.kind != "histogram" or name.endswith("_seconds"), name
        assert metric.help.endswith("."), name
        assert len(metric.labels) <= 3, name


SCRAPE_SECONDS = 0.05


def test_a_scrape_of_a_busy_gateway_takes_no_longer_than_50_ms() -> None:
    """No number depends on how many tasks there are: 10,000 or none, it is routes, calls and states that count."""
    metrics = Metrics()
    for n in range(10_000):
        metrics.count("gateway_task_transitions_total", f"event {n % 14}", f"state {n % 8}", f"door {n % 3}")
        metrics.count("gateway_http_requests_total", f"/v1/route-{n % 30}", f"M{n % 3}", str(200 + n % 8))
        metrics.observe("gateway_http_request_seconds", 0.1, f"/v1/route-{n % 30}", f"M{n % 3}")
        metrics.observe("gateway_redis_call_seconds", 0.001, f"call {n % 30}")
        metrics.count("gateway_cos_calls_total", f"operation {n % 12}", str(200 + n % 6))

    times = []
    for _ in range(5):
        began = time.perf_counter()
        text = metrics.exposition()
        times.append(time.perf_counter() - began)
    assert len(text) > 100_000
    assert min(times) < SCRAPE_SECONDS

import subprocess
import sys
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


def test_a_gauge_can_be_put_where_it_is() -> None:
    metrics = Metrics()
    for share in (0.5, 0.25):
        metrics.put("gateway_cos_pace_share", share, "files")

    assert _samples(metrics.exposition())["gateway_cos_pace_share", "files"] == 0.25
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

    samples = _samples(answer.stdout)
    assert samples["gateway_cos_pace_share", "files"] == 0.25
    assert samples["gateway_cos_clock_offset_seconds",] == 50


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

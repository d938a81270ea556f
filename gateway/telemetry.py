"""The metrics: every one there is stands in ``METRICS``; one that does not cannot be counted."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway import VERSION

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
TASK_ID: Final[ContextVar[str | None]] = ContextVar("task_id", default=None)
COS_REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("cos_request_id", default=None)
SUBJECT: Final[ContextVar[str | None]] = ContextVar("subject", default=None)
"""Whose request of the moment it is, as a pseudonym."""
TOKEN: Final[ContextVar[str | None]] = ContextVar("token", default=None)
"""With which token, as a pseudonym; None where it has no ``jti``."""
CODE: Final[ContextVar[str | None]] = ContextVar("code", default=None)
"""The code of the error that it was answered with."""
DOOR: Final[ContextVar[str]] = ContextVar("door", default="none")
"""Which door the request of the moment came through: rest, cos, or none when the gateway acts by itself."""
_OF_A_REQUEST: Final = (REQUEST_ID, TASK_ID, COS_REQUEST_ID, SUBJECT, TOKEN, CODE)
EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]
_FAST_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)
_SLOW_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what kind, what it means, its labels in order, a histogram's upper bounds, what becomes of the gauges
    of several workers, and values of its one label that are told from the start: an increase is only seen from there.
    """

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    workers: Literal["sum", "max", "min"] = "sum"
    values: tuple[str, ...] = ()


METRICS: Final[Mapping[str, Metric]] = {
    "gateway_http_requests_total": Metric(
        "counter", "HTTP requests answered, by route template.", ("route", "method", "status")
    ),
    "gateway_http_request_seconds": Metric(
        "histogram", "Time from a request's head to its answer's end.", ("route", "method"), _SLOW_SECONDS
    ),
    "gateway_body_bytes_total": Metric("counter", "Bytes of files received from front ends."),
    "gateway_cos_bytes_total": Metric("counter", "Bytes of files sent to COS, those sent again included."),
    "gateway_task_transitions_total": Metric(
        "counter", "Tasks made and moved: by event, new state and door (rest, cos, none).", ("event", "state", "door")
    ),
    "gateway_parts_stored_total": Metric("counter", "Parts and whole objects that COS acknowledged."),
    "gateway_part_seconds": Metric("histogram", "Time to store one part or object in COS.", (), _SLOW_SECONDS),
    "gateway_cos_calls_total": Metric(
        "counter", "Calls to COS; status 0 means that no answer came.", ("operation", "status")
    ),
    "gateway_cos_retries_total": Metric("counter", "Calls to COS that were sent again.", ("operation",)),
    "gateway_cos_errors_total": Metric(
        "counter", "Failed attempts at COS, by COS's error code, or by ours where it gave none.", ("code",)
    ),
    "gateway_cos_held_back_total": Metric(
        "counter",
        "Calls refused without asking COS: slow_down, or failing (the breaker).",
        ("reason",),
        values=("slow_down", "failing"),
    ),
    "gateway_cos_pace_share": Metric(
        "gauge", "Share of its usual request rate that a bucket is asked at; 1 is no limit.", ("bucket",), workers="min"
    ),
    "gateway_cos_breaker_open": Metric(
        "gauge", "1 while a bucket fails every time and is only asked now and then.", ("bucket",), workers="max"
    ),
    "gateway_cos_clock_offset_seconds": Metric(
        "gauge", "How far our clock is from COS's, once COS refused a signature for it.", workers="max"
    ),
    "gateway_redis_call_seconds": Metric("histogram", "Time of one call to Redis.", ("call",), _FAST_SECONDS),
    "gateway_redis_failures_total": Metric("counter", "Calls that Redis refused or did not answer.", ("call",)),
    "gateway_redis_servers_down": Metric(
        "gauge", "Redis servers known not to answer; calls to them fail at once.", workers="max"
    ),
    "gateway_redis_memory_share": Metric(
        "gauge", "Share of its maxmemory that the fullest Redis server takes; 0 where none has a limit.", workers="max"
    ),
    "gateway_redis_evicted_keys_total": Metric("counter", "Keys that Redis evicted while this process looked on."),
    "gateway_sweeps_total": Metric(
        "counter",
        "Sweeps of one bucket or of the indexes: done, failed or unfinished.",
        ("outcome",),
        values=("done", "failed", "unfinished"),
    ),
    "gateway_sweep_uploads_seen_total": Metric("counter", "Open uploads that sweeps found at COS."),
    "gateway_sweep_aborted_total": Metric("counter", "Uploads without a living task that sweeps aborted."),
    "gateway_sweep_errors_total": Metric("counter", "Uploads that sweeps could not look at or abort."),
    "gateway_sweep_last_success_seconds": Metric("gauge", "When a sweep was last done, in Unix time.", workers="max"),
    "gateway_completion_oldest_seconds": Metric(
        "gauge", "How long the oldest completion that runs has waited for COS's verdict.", workers="max"
    ),
    "gateway_intents_finished_total": Metric(
        "counter", "Looks after what another process had left open at COS.", ("intent",)
    ),
    "gateway_webhook_events_total": Metric(
        "counter",
        "Events for webhooks: delivered, failed (told again) or given_up.",
        ("outcome",),
        values=("delivered", "failed", "given_up"),
    ),
    "gateway_webhook_seconds": Metric("histogram", "Time a webhook took to answer, or to fail.", (), _SLOW_SECONDS),
    "gateway_webhook_tasks_pending": Metric(
        "gauge", "Tasks with events not delivered yet, of all processes.", workers="max"
    ),
    "gateway_webhook_oldest_seconds": Metric(
        "gauge", "Age of the oldest event that this process failed to deliver; 0 when none is left.", workers="max"
    ),
    "gateway_replay_budget_bytes": Metric("gauge", "Memory in use to send parts again."),
    "gateway_replay_budget_limit_bytes": Metric("gauge", "Memory that there is to send parts again."),
    "gateway_replay_short_total": Metric("counter", "Times that there was too little memory to keep a part."),
    "gateway_memory_budget_bytes": Metric(
        "gauge", "Memory in use for what is no file: of callers, and of strangers who are not known yet.", ("of",)
    ),
    "gateway_memory_budget_limit_bytes": Metric("gauge", "Memory that there is for what is no file.", ("of",)),
    "gateway_memory_short_total": Metric(
        "counter",
        "Times that there was too little memory for what is no file.",
        ("of",),
        values=("callers", "strangers"),
    ),
    "gateway_bodies_in_flight": Metric("gauge", "Bodies being received."),
    "gateway_body_bytes_in_flight": Metric("gauge", "Announced bytes of the requests under way: what to scale on."),
    "gateway_calls_in_flight": Metric("gauge", "Calls to COS and Redis that go on whatever becomes of their request."),
    "gateway_draining": Metric("gauge", "Processes on their way out."),
    "gateway_resident_memory_bytes": Metric("gauge", "Memory of the processes."),
    "gateway_open_files": Metric("gauge", "Descriptors open, of the process with the most.", workers="max"),
    "gateway_open_files_limit": Metric("gauge", "Descriptors that a process may open.", workers="min"),
    "gateway_build_info": Metric("gauge", "Always 1; the version is in the label.", ("version",), workers="max"),
    "gateway_websockets_open": Metric("gauge", "Progress websockets open."),
    "gateway_connections_open": Metric("gauge", "Connections open, of clients and operators."),
    "gateway_connections_refused_total": Metric(
        "counter", "Connections ended by the edge itself, before there was a request.", ("code",)
    ),
    "gateway_proxy_buffered_bodies_total": Metric(
        "counter", "Bodies that a proxy in front collected before it passed them on."
    ),
    "gateway_loop_lag_seconds": Metric("histogram", "How late the event loop wakes a sleeper.", (), _FAST_SECONDS),
    "gateway_loop_stalls_total": Metric("counter", "Times that the event loop stood still for more than a second."),
    "gateway_log_lines_dropped_total": Metric("counter", "Log lines that were dropped because stderr took no more."),
}


def forget_request() -> None:
    """A new request begins: one that was pipelined behind another inherits what was known of that."""
    for variable in _OF_A_REQUEST:
        variable.set(None)


class UnregisteredMetric(LookupError):
    """The metric is not in the table, or is of another kind, or has other labels: a mistake in our code."""


class Metrics:
    """Counts what ``METRICS`` names. Labels are given by position, in the table's order.

    Args:
        folder: with several workers, where each keeps its numbers so that one scrape tells the whole; see
            :func:`metrics_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        self._children: dict[tuple[str, ...], Any] = {}
        if folder is not None:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # the library takes it from nowhere else
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._instruments = {name: self._instrument(name, metric) for name, metric in METRICS.items()}
        for name, metric in METRICS.items():
            for value in metric.values:
                self._new_child(metric.kind, name, (value,))
        self.put("gateway_build_info", 1, VERSION)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add *by* to a counter."""
        self._child("counter", name, labels).inc(by)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Enter *value* into a histogram."""
        self._child("histogram", name, labels).observe(value)

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Raise a gauge by *amount*, or lower it by a negative one."""
        self._child("gauge", name, labels).inc(amount)

    def put(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge to *value*."""
        self._child("gauge", name, labels).set(value)

    def exposition(self) -> bytes:
        """Every metric, of all workers, in Prometheus's text format (``EXPOSITION_TYPE``)."""
        if self._folder is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _child(self, kind: Kind, name: str, labels: tuple[str, ...]) -> Any:
        child = self._children.get((name, *labels))
        return child if child is not None and METRICS[name].kind == kind else self._new_child(kind, name, labels)

    def _new_child(self, kind: Kind, name: str, labels: tuple[str, ...]) -> Any:
        metric = METRICS.get(name)
        if metric is None or metric.kind != kind or len(metric.labels) != len(labels):
            raise UnregisteredMetric(f"no {kind} {name} with {len(labels)} labels is registered")
        child = self._instruments[name].labels(*labels) if labels else self._instruments[name]
        self._children[(name, *labels)] = child
        return child

    def _instrument(self, name: str, metric: Metric) -> Any:
        match metric.kind:
            case "counter":
                return Counter(name, metric.help, metric.labels, registry=self._registry)
            case "gauge":
                mode: Any = f"live{metric.workers}"
                return Gauge(name, metric.help, metric.labels, registry=self._registry, multiprocess_mode=mode)
            case "histogram":
                return Histogram(name, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets)


@contextmanager
def metrics_folder(configured: Path | None) -> Iterator[Path]:
    """An empty folder for the metrics of several workers while the block lasts: *configured*, or one in memory."""
    memory = Path("/dev/shm")  # noqa: S108 -- the tmpfs that Linux has
    path = configured or Path(tempfile.mkdtemp(prefix="gateway-metrics-", dir=memory if memory.is_dir() else None))
    path.mkdir(parents=True, exist_ok=True)
    for left in path.glob("*.db"):
        left.unlink()
    try:
        yield path
    finally:
        if configured is None:
            shutil.rmtree(path, ignore_errors=True)


def forget_worker(folder: Path, pid: int) -> None:
    """Take the gauges of a worker that has ended out of the sum; its counters stay."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]

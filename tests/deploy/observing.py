"""What is to be watched, read from ``deploy/``; and a real Prometheus that watches gateways of a test."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import yaml

from gateway.telemetry import METRICS
from tests.system.processes import HTTP, ROOT, Program, free_port, wait_until
from tests.tools import require_tool

CONFIG: Final = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboards" / "gateway.json"
SCRAPE_SECONDS: Final = 0.25
_ADDED_LABELS: Final = {"instance", "job", "le", "alertname", "alertstate", "version"}


class Alert(NamedTuple):
    """One rule of ``rules.yml``."""

    name: str
    expr: str
    wait: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def anchor(self) -> str:
        """Where in the README its paragraph is."""
        return self.annotations["runbook"].removeprefix("README.md#")


class Query(NamedTuple):
    """One query of the dashboard, with the title of its panel."""

    panel: str
    expr: str


def alerts() -> list[Alert]:
    """Every alert."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [
        Alert(rule["alert"], rule["expr"], rule.get("for", "at once"), rule["labels"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    ]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def queries() -> list[Query]:
    """Every query of every panel, and that of the annotations."""
    shown = dashboard()
    told = [Query(f"annotation {each['name']}", each["expr"]) for each in shown["annotations"]["list"]]
    return told + [Query(each["title"], one["expr"]) for each in shown["panels"] for one in each.get("targets", ())]


def metrics_of(expr: str) -> set[str]:
    """The gateway's metrics that *expr* reads, as the registry names them."""
    names = re.findall(r"\bgateway_[a-z_]+", expr)
    return {name if name in METRICS else re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


def strange_labels(expr: str) -> set[str]:
    """Labels that *expr* selects or groups by, and that no metric in it has."""
    named = re.findall(r"[{,]\s*([a-z_]+)\s*[=!]", expr)
    grouped = [label.strip() for group in re.findall(r"by \(([^)]*)\)", expr) for label in group.split(",")]
    had = {label for name in metrics_of(expr) if name in METRICS for label in METRICS[name].labels}
    return {*named, *grouped} - had - _ADDED_LABELS


class Prometheus:
    """A Prometheus with our rules, which scrapes four times a second."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        config = yaml.safe_load(CONFIG.read_text())
        every = f"{SCRAPE_SECONDS * 1000:.0f}ms"
        config["global"] = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        argv = [
            *(require_tool("prometheus"), f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
        ]
        self.program = Program(argv, folder / "prometheus.log")
        wait_until(self._is_ready, "prometheus")

    def ask(self, path: str, **params: str) -> Any:
        """The data that ``/api/v1`` answers; a query that it cannot read fails the test."""
        answer = httpx.get(f"{self._url}/api/v1/{path}", params=params, timeout=10, **HTTP)
        assert answer.status_code == 200, f"{params}: {answer.text}"
        return answer.json()["data"]

    def numbers(self, expr: str) -> list[float]:
        """The samples that *expr* answers now, without those that are no numbers."""
        values = [float(sample["value"][1]) for sample in self.ask("query", query=expr)["result"]]
        return [value for value in values if value == value]

    def _is_ready(self) -> bool:
        self.program.alive_or_fail("prometheus")
        try:
            return httpx.get(f"{self._url}/-/ready", **HTTP).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running_prometheus(folder: Path, targets: list[str]) -> Iterator[Prometheus]:
    """One that scrapes *targets* while the block lasts."""
    prometheus = Prometheus(folder, targets)
    try:
        yield prometheus
    finally:
        prometheus.program.stop()

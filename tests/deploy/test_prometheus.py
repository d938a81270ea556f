"""The alerts: Prometheus takes them, each fires when it should, and each leads to a paragraph that says what to do."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.telemetry import METRICS
from tests.deploy.observing import CONFIG, RULES, Alert, alerts, metrics_of, strange_labels
from tests.system.processes import ROOT
from tests.tools import require_tool

SCENARIOS = ROOT / "tests" / "deploy" / "alerts.yml"
_OPERATE = (ROOT / "README.md").read_text().partition("\n## Operate\n")[2].partition("\n## ")[0]


def promtool(*arguments: str | Path) -> None:
    ended = subprocess.run(
        [require_tool("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=50
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("check", [("config", CONFIG), ("rules", "--lint-fatal", RULES)], ids=["config", "rules"])
def test_prometheus_takes_what_it_is_given(check: tuple[str | Path, ...]) -> None:
    promtool("check", *check)


def test_at_each_time_of_each_scenario_the_alerts_fire_that_should_and_no_others() -> None:
    promtool("test", "rules", SCENARIOS)


def test_each_alert_has_a_scenario_in_which_it_begins_to_fire() -> None:
    begin: set[str] = set()
    for scenario in yaml.safe_load(SCENARIOS.read_text())["tests"]:
        seen: set[str] = set()
        for number, look in enumerate(scenario.get("promql_expr_test", ())):
            now = set(re.findall(r'alertname="(\w+)"', str(look["exp_samples"])))
            begin |= now - seen if number else set()
            seen = now

    assert begin == {alert.name for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(alert: Alert) -> None:
    assert alert.labels.keys() == {"severity"}
    assert alert.labels["severity"] in ("critical", "warning")
    assert alert.annotations.keys() == {"summary", "description", "runbook"}
    assert alert.annotations["summary"].endswith(".")
    assert alert.annotations["description"].endswith(".")
    assert "{{" not in alert.annotations["summary"]
    assert f'<a id="{alert.anchor}"></a>*' in _OPERATE


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_reads_metrics_that_there_are(alert: Alert) -> None:
    assert metrics_of(alert.expr) <= METRICS.keys()
    assert strange_labels(alert.expr) == set()


def test_each_paragraph_that_an_alert_may_lead_to_has_one_and_says_what_to_do() -> None:
    paragraphs = re.findall(
        r'^- <a id="([a-z-]+)"></a>\*[^*]+\*(.*?)(?=^- |^\S|\Z)', _OPERATE, re.MULTILINE | re.DOTALL
    )

    assert len(paragraphs) == _OPERATE.count("<a id=")
    assert {anchor for anchor, _ in paragraphs} == {alert.anchor for alert in alerts()}
    assert [anchor for anchor, text in paragraphs if "*Do*" not in text] == []


def test_the_readme_lists_every_alert() -> None:
    rows: list[Any] = re.findall(
        r"^\| \[`(\w+)`\]\(#([a-z-]+)\) \| (\w+) \| ([^|]+) \| ([^|]+) \|$", _OPERATE, re.MULTILINE
    )

    assert rows == [
        (alert.name, alert.anchor, alert.labels["severity"], alert.wait, alert.annotations["summary"])
        for alert in alerts()
    ]

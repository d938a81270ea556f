"""The dashboard as a document: Grafana can read it, finds it by itself, and it shows all that there is to see."""

from pathlib import Path
from typing import Final

import httpx
import pytest
import yaml

from gateway.telemetry import METRICS
from tests.deploy.observing import DASHBOARD, Query, alerts, dashboard, metrics_of, queries, strange_labels

_GRAFANA: Final = DASHBOARD.parents[1]
_UNITS: Final = {"none", "Bps", "bytes", "s", "percentunit", "reqps", "cps"}
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.panel)
def test_a_query_reads_metrics_that_there_are_of_the_gateways_chosen(query: Query) -> None:
    assert metrics_of(query.expr) <= METRICS.keys()
    assert strange_labels(query.expr) == set()
    assert query.expr.count("gateway_") == query.expr.count('{instance=~"$instance"') or "ALERTS" in query.expr


def test_every_metric_is_shown_or_raises_an_alert() -> None:
    exprs = [query.expr for query in queries()] + [alert.expr for alert in alerts()]
    read = {name for expr in exprs for name in metrics_of(expr)}

    assert METRICS.keys() - read == set()


def test_panels_have_ids_of_their_own_and_lie_side_by_side_in_rows() -> None:
    panels = dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    cells = [
        (at["x"] + x, at["y"] + y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["w"])
        for y in range(at["h"])
    ]

    assert len(set(ids)) == len(ids)
    assert len(set(cells)) == len(cells) == 24 * (max(y for _, y in cells) + 1)
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Now",
        "Traffic",
        "COS",
        "Redis",
        "Tasks",
        "Process",
    ]


def test_every_panel_asks_the_prometheus_that_is_chosen() -> None:
    shown = dashboard()
    panels = [panel for panel in shown["panels"] if panel["type"] != "row"]

    assert {variable["name"] for variable in shown["templating"]["list"]} == {"datasource", "instance"}
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])
        assert all(each["datasource"] == _SOURCE for each in [panel, *panel["targets"]])


def test_grafana_finds_the_dashboard_and_a_prometheus_by_itself() -> None:
    provisioning = _GRAFANA / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "gateway.yml").read_text())["providers"]
    services = yaml.safe_load((_GRAFANA.parent / "compose.yaml").read_text())["services"]

    assert source["type"] == "prometheus"
    assert httpx.URL(source["url"]).host in services
    assert provider["options"]["path"] in [mount.split(":")[1] for mount in services["grafana"]["volumes"]]
    assert [path.name for path in Path(DASHBOARD.parent).iterdir()] == [DASHBOARD.name]

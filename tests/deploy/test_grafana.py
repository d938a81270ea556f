"""The dashboard: Grafana can read it, and a real Prometheus that scrapes a busy gateway answers its every query."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from gateway.telemetry import METRICS
from tests.deploy.observing import (
    DASHBOARD,
    Prometheus,
    alerts,
    dashboard,
    metrics_of,
    queries,
    running_prometheus,
    strange_labels,
)
from tests.system.cos_door import Door, running_door
from tests.system.processes import wait_until
from tests.system.receiver import HOOK_SECRET, running_receiver
from tests.system.stack import MIB, Caller, body, good

ANSWER_SECONDS: Final = 25.0
_GRAFANA: Final = DASHBOARD.parents[1]
_UNITS: Final = {"none", "Bps", "bytes", "s", "percentunit", "reqps", "cps"}
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@contextmanager
def busy(door: Door) -> Iterator[None]:
    """Uploads through both doors for as long as the block lasts, and what else a front end does."""
    alice, over = door.stack.caller("alice"), threading.Event()
    working = threading.Thread(target=_work, args=(door, alice, over), name="busy")
    working.start()
    try:
        yield
    finally:
        over.set()
        working.join(30)


def _work(door: Door, alice: Caller, over: threading.Event) -> None:
    sdk = door.key(alice).python_sdk()
    data = body("watched", 2 * MIB)
    for number in itertools.count():
        if over.is_set():
            return
        good(alice.post_form(f"watched/form-{number}", data[:100_000]), 201)
        task = alice.create(f"watched/parts-{number}", len(data), part_size=MIB)
        for part in (1, 2):
            good(alice.put_part(task["id"], part, data[(part - 1) * MIB : part * MIB]))
        good(alice.control(task["id"], "complete"))
        sdk.put_object(Bucket=door.cos.BUCKET, Key=f"watched/sdk-{number}", Body=data[:100_000])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus beside a gateway under load, whose COS failed a moment ago."""
    folder = tmp_path_factory.mktemp("watched")
    with running_receiver() as receiver:
        hooks = {"webhooks": f"files={receiver.url}", "webhook_secret": HOOK_SECRET, "sweep_seconds": "1"}
        with (
            running_door(folder, **hooks) as door,
            running_prometheus(folder, [f"127.0.0.1:{door.stack.gateway.admin_port}"]) as prometheus,
        ):
            door.cos.fault("error", operation="UploadPart", status=500, code="InternalError", times=2)
            with busy(door):
                yield prometheus


def as_asked(expr: str) -> str:
    """*expr* as Grafana sends it, with every variable in its place."""
    return expr.replace("$__rate_interval", "5s").replace("$instance", ".*")


@pytest.mark.parametrize("expr", sorted({query.expr for query in queries()}))
def test_a_query_is_answered_while_the_gateway_works(watched: Prometheus, expr: str) -> None:
    asked = as_asked(expr)
    assert "$" not in asked
    if expr.startswith("ALERTS"):
        assert watched.ask("query", query=asked)["resultType"] == "vector"  # none fires: all is well
    else:
        wait_until(lambda: watched.numbers(asked) != [], expr, ANSWER_SECONDS)


def test_every_rule_is_carried_out_and_nothing_fires_that_tells_of_an_outage(watched: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in watched.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule", ANSWER_SECONDS)

    assert {rule["name"]: rule["health"] for rule in rules()} == {alert.name: "ok" for alert in alerts()}
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


def test_the_choice_of_gateways_offers_those_there_are(watched: Prometheus) -> None:
    (instance,) = (each for each in dashboard()["templating"]["list"] if each["name"] == "instance")
    assert instance["query"]["query"] == "label_values(gateway_build_info, instance)"

    wait_until(lambda: len(watched.ask("label/instance/values", **{"match[]": "gateway_build_info"})) == 1, "a gateway")


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.panel)
def test_a_query_reads_metrics_that_there_are_of_the_gateways_chosen(query: Any) -> None:
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

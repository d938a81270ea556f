"""A real Prometheus beside a gateway at work: the dashboard's queries have answers, and what fails becomes an alert."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.deploy.observing import Prometheus, alerts, dashboard, queries, running_prometheus
from tests.system.cos_door import Door, running_door
from tests.system.processes import wait_until
from tests.system.receiver import HOOK_SECRET, running_receiver
from tests.system.stack import MIB, body, good, require_problem

ANSWER_SECONDS: Final = 25.0
"""Prometheus takes up a target within 5 s, and a rate needs two scrapes: on a machine with much else to do."""


@dataclass
class Busy:
    """Somebody who uploads through both doors until ``stop``."""

    door: Door
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._working = threading.Thread(target=self._work, name="busy")
        self._working.start()

    def stop(self) -> None:
        """Return when the last upload has ended."""
        self._over.set()
        self._working.join(30)

    def _work(self) -> None:
        alice, data = self.door.stack.caller("alice"), body("watched", 2 * MIB)
        sdk = self.door.key(alice).python_sdk()
        for number in itertools.count():
            if self._over.is_set():
                return
            good(alice.post_form(f"watched/form-{number}", data[:100_000]), 201)
            task = alice.create(f"watched/parts-{number}", len(data), part_size=MIB)
            for part in (1, 2):
                good(alice.put_part(task["id"], part, data[(part - 1) * MIB : part * MIB]))
            good(alice.control(task["id"], "complete"))
            sdk.put_object(Bucket=self.door.cos.BUCKET, Key=f"watched/sdk-{number}", Body=data[:100_000])


@dataclass(frozen=True)
class Watched:
    """What the tests share; the last of them ends it piece by piece."""

    door: Door
    prometheus: Prometheus
    busy: Busy

    def is_told(self, alert: str) -> bool:
        """Whether *alert* fires, or will once it has lasted long enough."""
        return self.prometheus.numbers(f'ALERTS{{alertname="{alert}"}}') != []

    def until_told(self, alert: str) -> None:
        wait_until(lambda: self.is_told(alert), alert, ANSWER_SECONDS)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A Prometheus beside a gateway under load, whose COS failed a moment ago."""
    folder = tmp_path_factory.mktemp("watched")
    with running_receiver() as receiver:
        hooks = {"webhooks": f"files={receiver.url}", "webhook_secret": HOOK_SECRET, "sweep_seconds": "1"}
        with (
            running_door(folder, **hooks) as door,
            running_prometheus(folder, [f"127.0.0.1:{door.stack.gateway.admin_port}"]) as prometheus,
        ):
            door.cos.fault("error", operation="UploadPart", status=500, code="InternalError", times=2)
            busy = Busy(door)
            try:
                yield Watched(door, prometheus, busy)
            finally:
                busy.stop()


def as_asked(expr: str) -> str:
    """*expr* as Grafana sends it, with every variable in its place."""
    return expr.replace("$__rate_interval", "5s").replace("$instance", ".*")


@pytest.mark.parametrize("expr", sorted({query.expr for query in queries()}))
def test_a_query_is_answered_while_the_gateway_works(watched: Watched, expr: str) -> None:
    asked, prometheus = as_asked(expr), watched.prometheus
    assert "$" not in asked
    if expr.startswith("ALERTS"):
        assert prometheus.ask("query", query=asked)["resultType"] == "vector"  # none fires: all is well
    else:
        wait_until(lambda: prometheus.numbers(asked) != [], expr, ANSWER_SECONDS)


def test_every_rule_is_carried_out_and_none_wakes_anybody_while_all_is_well(watched: Watched) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in watched.prometheus.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule", ANSWER_SECONDS)

    assert {rule["name"]: rule["health"] for rule in rules()} == {alert.name: "ok" for alert in alerts()}
    woken = [rule["name"] for rule in rules() if rule["labels"]["severity"] == "critical" and rule["state"] == "firing"]
    assert woken == []


def test_the_choice_of_gateways_offers_those_there_are(watched: Watched) -> None:
    (choice,) = (each for each in dashboard()["templating"]["list"] if each["name"] == "instance")
    assert choice["query"]["query"] == "label_values(gateway_build_info, instance)"

    instances = watched.prometheus.ask("label/instance/values", **{"match[]": "gateway_build_info"})
    assert instances == [f"127.0.0.1:{watched.door.stack.gateway.admin_port}"]


def test_a_denial_a_lost_redis_and_a_dead_gateway_are_each_told(watched: Watched) -> None:
    """The last test: it leaves nothing to watch."""
    watched.busy.stop()
    stack, alice = watched.door.stack, watched.door.stack.caller("alice")
    named = ("GatewayCosDenies", "GatewayRedisDown", "GatewayDown")
    assert [alert for alert in named if watched.is_told(alert)] == []

    stack.cos.fault("error", operation="PutObject", status=403, code="AccessDenied", times=None)

    def is_denied_and_told() -> bool:
        require_problem(alice.post_form("denied", body("denied", 1000)), 502, "storage_denied")
        return watched.is_told("GatewayCosDenies")

    wait_until(is_denied_and_told, "the denial", ANSWER_SECONDS)
    stack.redis.program.kill()
    wait_until(lambda: stack.gateway.readiness() == 503, "the loss")
    watched.until_told("GatewayRedisDown")
    assert not watched.is_told("GatewayDown")
    stack.gateway.program.kill()
    watched.until_told("GatewayDown")

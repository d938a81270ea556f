"""What nginx itself answers and writes down: limits by address, gateways that are away, and no secret of a request."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import httpx
import pytest
import yaml
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from gateway.cos.xml_tree import read_xml
from tests.deploy.topology import DEPLOY, Nginx, Topology
from tests.system.processes import free_port, wait_until
from tests.system.stack import require_problem, token

REQUESTS_OF_AN_ADDRESS: Final = 256
ORIGIN: Final = "https://anywhere.example"
SLOW: Final[dict[str, Any]] = {"X-Test-Slow": "1"}
_NAMED: Final = "server_name _;"
_PRETENDING: Final = _NAMED + " set_real_ip_from 127.0.0.0/8; real_ip_header X-Test-Address;"
_CANARY: Final = "CANARY"
_PRESIGNED: Final = (
    f"/uploads/x?q-sign-algorithm=sha1&q-ak=AKID{_CANARY}&q-signature={_CANARY}SIGNATURE"
    f"&x-cos-security-token={_CANARY}TOKEN"
)


@pytest.fixture(scope="module")
def limited(topology: Topology) -> Nginx:
    """One that takes the word of these tests for their addresses, and few requests a second."""
    pretending = (_NAMED, _PRETENDING)
    slow = "limit_req_zone $http_x_test_slow zone=slow:1m rate=1r/m;\nlimit_req zone=slow burst=2 nodelay;\n"
    slower = ("rate=1000r/s;\n", f"rate=1000r/s;\n{slow}")
    return topology.another_nginx("limits", rest=pretending, cos=pretending, limits=slower)


@pytest.fixture(scope="module")
def away(topology: Topology) -> Iterator[Nginx]:
    """One before a gateway that is gone and another that takes requests and never answers."""
    nginx = topology.another_nginx("away", rest=(_NAMED, f"{_NAMED} proxy_read_timeout 500ms;"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rules = nginx.folder / "nginx"
        lines = (rules / "upstreams.conf").read_text().splitlines()
        ports = iter([free_port(), silent.getsockname()[1]] * 2)
        changed = [f"server 127.0.0.1:{next(ports)};" if "    server " in line else line for line in lines]
        (rules / "upstreams.conf").write_text("\n".join(changed))
        whole = (rules / "nginx.conf").read_text()
        (rules / "nginx.conf").write_text(whole.replace("proxy_read_timeout 180s", "proxy_read_timeout 500ms"))
        nginx.program.signal(signal.SIGHUP)
        wait_until_answered(nginx, 503)
        yield nginx


def ask(
    nginx: Nginx, method: str, path: str, *, at_cos: bool = False, address: str = "198.51.100.1", **headers: str
) -> httpx.Response:
    """One request from *address*, where nginx takes its word for it."""
    return httpx.request(
        method,
        f"https://127.0.0.1:{nginx.cos_port if at_cos else nginx.port}{path}",
        headers={"X-Test-Address": address, "Origin": ORIGIN, **headers},
        content=b"x" if method == "PUT" else None,
        verify=nginx.tls,
        trust_env=False,
    )


def wait_until_answered(nginx: Nginx, status: int, address: str = "198.51.100.1") -> None:
    wait_until(lambda: ask(nginx, "GET", "/readyz", address=address).status_code == status, f"{status} to {address}")


def require_refusal(answer: httpx.Response) -> None:
    """A page of any origin may read it, and when to come back; nobody keeps it."""
    told = answer.headers
    assert told["access-control-allow-origin"] == ORIGIN
    assert "retry-after" in told["access-control-expose-headers"].lower()
    assert (told["retry-after"], told["cache-control"], told["x-content-type-options"]) == ("1", "no-store", "nosniff")
    assert told["strict-transport-security"] == "max-age=31536000"


def require_cos_error(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/xml")
    document = read_xml(answer.content)
    assert (document.name, document.text_of("Code")) == ("Error", code)
    assert document.text_of("RequestId") == answer.headers["x-cos-request-id"]
    require_refusal(answer)


def hold(held: ExitStack, nginx: Nginx, bearer: str, address: str, count: int) -> None:
    """Begin *count* bodies from *address* that go on until *held* ends."""
    head = (
        f"PUT /v1/objects/held HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {bearer}\r\n"
        f"X-Test-Address: {address}\r\nContent-Length: 1000000\r\n\r\n"
    )
    for _ in range(count):
        raw = held.enter_context(socket.create_connection(("127.0.0.1", nginx.port), timeout=10))
        held.enter_context(nginx.tls.wrap_socket(raw, server_hostname="127.0.0.1")).sendall(head.encode())


def test_s10_one_address_has_so_many_requests_under_way_and_takes_nobody_elses(limited: Nginx) -> None:
    with ExitStack() as held:
        hold(held, limited, token("holder"), "198.51.100.1", REQUESTS_OF_AN_ADDRESS)
        wait_until_answered(limited, 429)

        refused = ask(limited, "GET", "/v1/tasks")
        assert require_problem(refused, 429, "rate_limited")["retryable"] is True
        require_refusal(refused)
        require_cos_error(ask(limited, "PUT", "/x", at_cos=True), 503, "SlowDown")
        assert ask(limited, "GET", "/readyz", address="198.51.100.2").status_code == 200
    wait_until_answered(limited, 200)


def test_s10_an_ipv6_network_of_64_bits_is_one_address(limited: Nginx) -> None:
    """Also where a byte of it is a line's end or nothing."""
    with ExitStack() as held:
        for number in range(REQUESTS_OF_AN_ADDRESS // 64):
            hold(held, limited, token("holder"), f"2001:db8:a00:a::{number:x}0a", 64)
        wait_until_answered(limited, 429, "2001:db8:a00:a:ffff:ffff:ffff:ff0a")

        assert ask(limited, "GET", "/readyz", address="2001:db8:a00:b::a").status_code == 200


def test_s10_a_websocket_is_no_request_under_way(limited: Nginx) -> None:
    address = "198.51.100.3"
    with ExitStack() as held:
        hold(held, limited, token("holder"), address, REQUESTS_OF_AN_ADDRESS)
        wait_until_answered(limited, 429, address)
        url, bearer = f"wss://127.0.0.1:{limited.port}/v1/progress", Subprotocol(f"bearer.{token('watcher')}")

        said = {"X-Test-Address": address}
        with connect(url, ssl=limited.tls, subprotocols=[bearer], additional_headers=said) as watching:
            assert json.loads(watching.recv(timeout=10))["type"] == "snapshot"


def test_s10_an_address_has_so_many_requests_a_second(limited: Nginx) -> None:
    """The rule that is shipped, at a rate that a test can reach."""
    rules = (DEPLOY / "nginx" / "limits.conf").read_text()
    assert "limit_req_zone $address zone=rate:10m rate=1000r/s;" in rules
    assert "limit_req zone=rate burst=2000 nodelay;" in rules

    statuses = [ask(limited, "GET", "/readyz", **SLOW).status_code for _ in range(5)]

    assert statuses == [200, 200, 200, 429, 429]


def test_s19_every_answer_through_nginx_asks_for_tls_from_now_on(topology: Topology) -> None:
    paths = ["/", "/console/page.js", "/v1/tasks", "/nowhere"]
    answers = [ask(topology.nginx, "GET", path, at_cos=at_cos) for path in paths for at_cos in (False, True)]

    assert {answer.status_code for answer in answers} >= {200, 401, 403, 404}
    assert {answer.headers["strict-transport-security"] for answer in answers} == {"max-age=31536000"}


def test_s15_nginx_writes_down_no_query_when_gateways_are_away(away: Nginx) -> None:
    """Refused connections and answers that never come: nginx's own line would hold the whole request."""
    bearer: dict[str, Any] = {"Authorization": f"Bearer {_CANARY}BEARER"}
    for _ in range(3):
        answer = ask(away, "GET", f"/v1/tasks?cursor={_CANARY}CURSOR", **bearer)
        require_problem(answer, 503, "overloaded")
        require_refusal(answer)
        require_problem(ask(away, "PUT", f"/v1/files?key=a&q-signature={_CANARY}"), 503, "overloaded")
        for method in ("PUT", "GET"):
            require_cos_error(ask(away, method, _PRESIGNED, at_cos=True), 503, "ServiceUnavailable")

    lines = unanswered(away)
    assert _CANARY not in away.program.log.read_text()
    assert {status for line in lines for status in line["upstream_status"].split(", ")} >= {"502", "504"}
    assert {line["path"] for line in lines} >= {"/v1/tasks", "/v1/files", "/uploads/x"}
    assert {line["status"] for line in lines} == {503}


def test_s15_what_a_gateway_has_answered_is_in_its_own_log_only(topology: Topology) -> None:
    require_problem(ask(topology.nginx, "GET", "/v1/tasks"), 401, "unauthenticated")
    require_problem(ask(topology.nginx, "GET", "/nowhere"), 404, "not_found")

    assert [line for line in unanswered(topology.nginx) if line["status"] in (401, 404)] == []


def test_s15_the_log_of_an_ingress_holds_no_query_either(topology: Topology) -> None:
    told = yaml.safe_load((DEPLOY / "k8s" / "ingress-nginx" / "configmap.yaml").read_text())["data"]
    ours = "access_log /dev/stdout unanswered if=$is_unanswered;"
    theirs = f"log_format ingress escape=json '{told['log-format-upstream']}'; access_log /dev/stdout ingress;"
    nginx = topology.another_nginx("ingress", nginx=(ours, theirs))

    ask(nginx, "PUT", _PRESIGNED, at_cos=True)

    wait_until(lambda: "/uploads/x" in nginx.program.log.read_text(), "the line is written")
    [line] = [line for line in unanswered(nginx) if line["path"] == "/uploads/x"]
    assert (line["method"], line["status"]) == ("PUT", "400")
    assert _CANARY not in nginx.program.log.read_text()
    assert (told["log-format-escape-json"], told["error-log-level"]) == ("true", "emerg")


def unanswered(nginx: Nginx) -> list[dict[str, Any]]:
    """Its lines on requests that no gateway answered."""
    return [json.loads(line) for line in nginx.program.log.read_text().splitlines() if line.startswith("{")]

"""The hostile input of C1 at the other doors: COS's, which answers in COS's XML, and the operators'."""

import socket
from contextlib import ExitStack
from typing import Final
from xml.etree import ElementTree

import httpx
import pytest

from tests.system.cos_door import Door
from tests.system.processes import HTTP, wait_until
from tests.system.stack import Caller, read_answer, require_problem
from tests.system.test_hostile_framing import RAW
from tests.system.test_hostile_sockets import UPGRADE

HANDSHAKE: Final = "\r\n".join(["GET /v1/progress HTTP/1.1", "Host: localhost", *UPGRADE]).encode() + b"\r\n\r\n"
COS_S: Final = {
    "bad_framing": (400, "InvalidRequest"),
    "bad_host": (404, "NoSuchBucket"),
    "bad_request": (400, "InvalidRequest"),
    "bad_request_target": (400, "InvalidURI"),
    "expectation_failed": (400, "InvalidRequest"),
    "header_too_large": (400, "InvalidRequest"),
    "method_not_allowed": (405, "MethodNotAllowed"),
    "upgrade_not_supported": (400, "InvalidRequest"),
    "uri_too_long": (400, "InvalidURI"),
}
"""What COS's door says instead of each of our codes."""
UNSIGNED: Final = {
    "c21 DELETE of the list",
    "c24 //",
    "c24 an encoded slash",
    "c24 a line break at the end",
    "c112 metrics on the public port",
    "c112 docs",
    "c112 version on the public port",
}
"""At COS's door these ask for keys, and nobody signed them."""
FRAMING: Final = [row for row, (_, _, code) in RAW.items() if code == "bad_framing" and "HTTP/1.0" not in row]


def ask(port: int, raw: bytes) -> httpx.Response:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        return read_answer(connection)


def require_cos_error(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/xml")
    document = ElementTree.fromstring(answer.content)  # noqa: S314 -- our own server's
    assert document.findtext("Code") == code
    assert document.findtext("RequestId") == answer.headers["x-cos-request-id"]
    told = {element.tag: element.text for element in document if element.tag != "Resource"}
    assert "evil" not in str(told), "input is echoed only where COS does"


@pytest.mark.promise(28)
@pytest.mark.parametrize("row", list(RAW))
def test_c1_to_c28_at_cos_s_door_the_answer_is_cos_s(door: Door, row: str) -> None:
    raw, _, code = RAW[row]
    require_cos_error(ask(door.port, raw), *((403, "AccessDenied") if row in UNSIGNED else COS_S[code]))


@pytest.mark.promise(28, 29)
@pytest.mark.parametrize("row", FRAMING)
def test_c1_to_c15_at_the_operators_door_no_message_is_guessed_at_either(door: Door, row: str) -> None:
    raw, status, code = RAW[row]
    require_problem(ask(door.stack.gateway.admin_port, raw), status, code)


@pytest.mark.promise(29)
def test_p29_the_operators_door_refuses_in_problems_too(door: Door) -> None:
    url = f"http://127.0.0.1:{door.stack.gateway.admin_port}"

    require_problem(httpx.get(f"{url}/nothing", **HTTP), 404, "not_found")
    require_problem(httpx.post(f"{url}/metrics", **HTTP), 405, "method_not_allowed")


def test_c97_g8_there_is_no_websocket_but_at_the_public_door(door: Door) -> None:
    require_cos_error(ask(door.port, HANDSHAKE), 400, "InvalidRequest")
    require_problem(ask(door.stack.gateway.admin_port, HANDSHAKE), 404, "not_found")


ODD: Final = {"no UTF-8": "\udcff", "half a character": "\udced\udca0\udc80", "a control character": "\x01"}


@pytest.mark.parametrize("row", list(ODD))
def test_c85_a_query_that_no_xml_can_tell_is_refused_and_nothing_fails(door: Door, dora: Caller, row: str) -> None:
    caller, odd = door.key(dora).caller(), ODD[row]
    asked: list[tuple[str, str, dict[str, str]]] = [
        ("GET", "", {"uploads": "", "prefix": odd}),
        ("GET", "", {"uploads": "", "delimiter": odd}),
        ("GET", "", {"uploads": "", "key-marker": odd}),
        ("GET", "", {"uploads": "", "key-marker": "a", "upload-id-marker": odd}),
        ("GET", "k", {"uploadId": odd}),
        ("DELETE", "k", {"uploadId": odd}),
        ("PUT", "k", {"uploadId": odd, "partNumber": "1"}),
        ("PUT", "k", {"uploadId": "x", "partNumber": odd}),
        ("POST", "k", {"append": "", "position": odd}),
        ("PUT", "k", {odd: ""}),
    ]
    for method, key, query in asked:
        answer = caller.call(method, key, query, body=b"" if method in ("PUT", "POST") else None)
        if row != "a control character" or "uploads" in query:
            assert (answer.status, answer.code) in {(400, "InvalidURI"), (400, "InvalidArgument")}, query
        assert answer.status < 500
    assert [line for line in door.stack.gateway.log_lines() if line["level"] == "error"] == []


def test_c55_an_address_at_its_rate_is_told_to_slow_down_at_cos_s_door_too(door: Door) -> None:
    gateway, listed = door.another(requests_per_address_rate="1")
    raw = b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    answers = [ask(listed.port, raw) for _ in range(15)]

    require_cos_error(answers[0], 403, "AccessDenied")
    require_cos_error(answers[-1], 503, "SlowDown")
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert gateway.readiness() == 200


@pytest.mark.promise(21)
def test_c62_what_comes_of_a_form_before_anybody_signed_it_is_little(door: Door) -> None:
    line = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 500000"
    field = b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n' + bytes(4000) + b"\r\n"
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n".encode()
    most, more = (b"".join(field % number for number in numbers) for numbers in (range(16), range(16, 20)))
    server = door.stack.gateway.program
    rss, read = server.rss_bytes, server.read_bytes
    with ExitStack() as crowd:
        connections = [crowd.enter_context(socket.create_connection(("127.0.0.1", door.port))) for _ in range(30)]
        for connection in connections:
            connection.sendall(head + most)
        wait_until(lambda: server.read_bytes - read >= 30 * len(head + most), "what was sent", 10)
        held = server.rss_bytes - rss
        for connection in connections:
            connection.sendall(more)
            require_cos_error(read_answer(connection), 400, "MalformedPOSTRequest")

    assert held < 30 * 160 * 1024

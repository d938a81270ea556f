"""Heads, methods, paths and upgrades that are none: what of promises C1 this version answers."""

import json
from typing import Final

import pytest

from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, require_problem

pytestmark = pytest.mark.usefixtures("unharmed")

HOST: Final = b"Host: localhost\r\n"

RAW: Final[dict[str, tuple[bytes, int, str]]] = {
    "1 length -1": (b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, "bad_framing"),
    "1 length 1_0": (b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\n", 400, "bad_framing"),
    "5 two lengths": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
        "bad_framing",
    ),
    "6 length and encoding": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_framing",
    ),
    "7 encoding xchunked": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n",
        400,
        "bad_framing",
    ),
    "9 space before the colon": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n",
        400,
        "bad_framing",
    ),
    "15 NUL in a value": (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400, "bad_framing"),
    "18 another host": (b"GET /v1/tasks HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400, "bad_host"),
    "18 a host with a path": (b"GET /v1/tasks HTTP/1.1\r\nHost: localhost/b?c=\r\n\r\n", 400, "bad_host"),
    "18 an empty host": (b"GET /v1/tasks HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad_host"),
    "18 a host with a user": (b"GET /v1/tasks HTTP/1.1\r\nHost: localhost@evil\r\n\r\n", 400, "bad_host"),
    "19 absolute form": (b"GET http://evil.example/v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "19 asterisk form": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "21 a method in lower case": (b"get /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "21 FOOBAR": (b"FOOBAR /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "21 TRACE": (b"TRACE /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "21 CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "21 DELETE of the list": (b"DELETE /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "22 a path of 70 KB": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "22 a path of 9 KB": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "22 a query of 9 KB": (b"GET /v1/tasks?" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "22 a path without an end": (b"GET /" + b"a" * 500_000, 414, "uri_too_long"),
    "23 a header of 70 KB": (
        b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        431,
        "header_too_large",
    ),
    "23 65 headers": (b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 64 + b"\r\n", 431, "header_too_large"),
    "23 20,000 headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 20_000 + b"\r\n", 431, "header_too_large"),
    "23 a head without an end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 40_000, 431, "header_too_large"),
    "24 an 8-bit path": (b"GET /v1/tasks/\xe4\xbd\xa0 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_framing"),
    "24 %00": (b"GET /v1/tasks/%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "24 //": (b"GET //v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "24 dot segments": (b"GET /x/../v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "24 encoded dot segments": (b"GET /v1/%2e%2e/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "24 dot segment, encoded slash": (b"GET /v1/..%2ftasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "24 an encoded slash": (b"GET /v1%2ftasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "24 a broken escape": (b"GET /v1/tasks/%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "26 Expect: wat": (b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"Expect: wat\r\n\r\n", 417, "expectation_failed"),
    "28 h2c with a body": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        400,
        "upgrade_not_supported",
    ),
    "97 POST with an upgrade to a websocket": (
        b"POST /v1/progress HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        400,
        "upgrade_not_supported",
    ),
    "112 metrics on the public port": (b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n", 404, "not_found"),
    "112 docs": (b"GET /docs HTTP/1.1\r\n" + HOST + b"\r\n", 404, "not_found"),
    "112 version on the public port": (b"GET /version HTTP/1.1\r\n" + HOST + b"\r\n", 404, "not_found"),
}


@pytest.mark.parametrize("row", list(RAW))
def test_a_message_that_is_none_is_answered_as_a_problem(alice: Caller, row: str) -> None:
    raw, status, code = RAW[row]
    with alice.connect() as connection:
        connection.sendall(raw)
        answer = read_answer(connection)

    document = require_problem(answer, status, code)
    assert "evil" not in json.dumps(document), "input is never echoed"
    if status == 405:
        assert answer.headers["allow"]


def test_3_a_length_of_60_000_digits_is_refused_for_one_of_its_faults(alice: Caller) -> None:
    """Which of them shows first depends on how the packets fall."""
    with alice.connect() as connection:
        connection.sendall(alice.head("POST", "/v1/tasks", "Content-Length: " + "9" * 60_000))
        answer = read_answer(connection)

    require_problem(answer, answer.status_code, ["bad_framing", "header_too_large"])


CHUNKED: Final[dict[str, bytes]] = {
    "10 chunk size zz": b"zz\r\nhello\r\n0\r\n\r\n",
    "10 chunk size -1": b"-1\r\nhello\r\n0\r\n\r\n",
    "10 bytes behind the data": b"5\r\nhelloXX\r\n0\r\n\r\n",
    "11 chunk size of 21 F": b"F" * 21 + b"\r\nhello\r\n",
}


@pytest.mark.parametrize("row", list(CHUNKED))
def test_10_11_broken_chunks_commit_nothing(stack: Stack, alice: Caller, row: str) -> None:
    head = alice.head("POST", "/v1/files?key=framing/chunked.bin", "Transfer-Encoding: chunked")
    with alice.connect() as connection:
        connection.sendall(head + CHUNKED[row])
        answer = read_answer(connection)

    require_problem(answer, 400, "bad_framing")
    assert answer.headers["connection"] == "close"
    with pytest.raises(FileNotFoundError):
        stack.cos.read("framing/chunked.bin")


def test_14_a_body_behind_bare_line_feeds_is_no_second_request(alice: Caller) -> None:
    """h11 takes a bare line feed for a line's end, as RFC 9112 allows; what counts is that it and we agree."""
    with alice.connect() as connection:
        connection.sendall(alice.head("GET", "/v1/tasks").replace(b"\r\n", b"\n"))

        assert good(read_answer(connection))["tasks"] == []


@pytest.mark.parametrize("sent", [0, 1, 1000, MIB - 1])
@pytest.mark.parametrize("way", ["length", "chunked"])
def test_29_a_body_that_ends_early_commits_nothing(stack: Stack, alice: Caller, way: str, sent: int) -> None:
    key = f"framing/short-{way}-{sent}.bin"
    line = f"Content-Length: {MIB}" if way == "length" else "Transfer-Encoding: chunked"
    data = body("short", sent)
    raw = data if way == "length" else b"%x\r\n%s\r\n" % (sent, data) if sent else b""
    with alice.connect() as connection:
        connection.sendall(alice.head("POST", f"/v1/files?key={key}", line) + raw)

    good(alice.call("POST", f"/v1/files?key={key}-after", content=b"x"), 201)
    with pytest.raises(FileNotFoundError):
        stack.cos.read(key)


@pytest.mark.parametrize("size", [MIB, 30 * MIB])
def test_31_a_client_that_keeps_sending_reads_why_it_was_refused(alice: Caller, size: int) -> None:
    sent = 0
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{'A' * 22}/parts/1", f"Content-Length: {size}"))
        try:
            while sent < size:
                sent += connection.send(bytes(65536))
        except ConnectionError:
            assert sent < size
        require_problem(read_answer(connection), 404, "task_not_found")

    assert sent == size or sent < 20 * MIB


def test_a_head_and_what_follows_it_are_cut_where_the_length_says(alice: Caller) -> None:
    """The smuggler's request behind the body is a request of its own, without a token."""
    inner = b"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n"
    document = b'{"key":"framing/cut","size":1}'
    head = alice.head("POST", "/v1/tasks", "Content-Type: application/json", f"Content-Length: {len(document)}")
    with alice.connect() as connection:
        connection.sendall(head + document + inner)
        file = connection.makefile("rb")
        first = file.readline()
        length = 0
        while (line := file.readline().rstrip()) != b"":
            length = int(line.split(b":")[1]) if line.startswith(b"content-length:") else length
        file.read(length)
        second = file.readline()

    assert first.startswith(b"HTTP/1.1 201 ")
    assert second.startswith(b"HTTP/1.1 401 ")


def test_probes_answer_whatever_their_host(stack: Stack) -> None:
    with stack.caller("probe").connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 10.1.2.3:8080\r\n\r\n")

        assert good(read_answer(connection)) == {"status": "live"}

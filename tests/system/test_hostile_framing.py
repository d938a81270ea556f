"""Heads, methods, paths, upgrades and chunks that are none: promises C1, G1-G11. What takes its time is elsewhere."""

import json
import time
from contextlib import suppress
from typing import Final

import pytest

from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, require_problem

pytestmark = pytest.mark.usefixtures("unharmed")

HOST: Final = b"Host: localhost\r\n"

RAW: Final[dict[str, tuple[bytes, int, str]]] = {
    "c1 length -1": (b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, "bad_framing"),
    "c1 length 1_0": (b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\n", 400, "bad_framing"),
    "c1 length +3": (b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\n", 400, "bad_framing"),
    "c1 length 0x3": (b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 0x3\r\n\r\n", 400, "bad_framing"),
    "c2 length 2^64": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551616\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c2 length of 20 digits": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c3 length of 60,000 digits": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 60_000 + b"\r\n\r\n",
        431,
        "header_too_large",
    ),
    "c5 one length twice": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c5 a list of lengths": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c5 two lengths": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c6 length and encoding": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c6 encoding and length": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c7 encoding chunked, identity": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c7 encoding twice": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c7 encoding xchunked": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c9 space before the colon": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n",
        400,
        "bad_framing",
    ),
    "c14 bare line feeds": (b"GET /v1/tasks HTTP/1.1\nHost: localhost\n\n", 400, "bad_framing"),
    "c14 one bare line feed": (b"GET /v1/tasks HTTP/1.1\r\nX: 1\n" + HOST + b"\r\n", 400, "bad_framing"),
    "c14 a folded header": (b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"X: 1\r\n 2\r\n\r\n", 400, "bad_framing"),
    "c15 CR in a value": (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400, "bad_framing"),
    "c15 space in a name": (b"GET /livez HTTP/1.1\r\n" + HOST + b"X Y: 1\r\n\r\n", 400, "bad_framing"),
    "c16 8-bit token": (
        b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"Authorization: Bearer \xe4\xbd\xa0\r\n\r\n",
        400,
        "bad_request",
    ),
    "c16 8-bit host": (b"GET /v1/tasks HTTP/1.1\r\nHost: loc\xe4lhost\r\n\r\n", 400, "bad_request"),
    "c15 NUL in a value": (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400, "bad_framing"),
    "c18 another host": (b"GET /v1/tasks HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400, "bad_host"),
    "c18 a host with a path": (b"GET /v1/tasks HTTP/1.1\r\nHost: localhost/b?c=\r\n\r\n", 400, "bad_host"),
    "c18 an empty host": (b"GET /v1/tasks HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad_host"),
    "c18 a host with a user": (b"GET /v1/tasks HTTP/1.1\r\nHost: localhost@evil\r\n\r\n", 400, "bad_host"),
    "c18 no host": (b"GET /v1/tasks HTTP/1.1\r\n\r\n", 400, "bad_framing"),
    "c18 two hosts": (b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", 400, "bad_framing"),
    "c18 one host twice": (b"GET /v1/tasks HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, "bad_framing"),
    "c19 absolute form": (b"GET http://evil.example/v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c19 asterisk form": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c21 a method in lower case": (b"get /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "c21 FOOBAR": (b"FOOBAR /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "c21 TRACE": (b"TRACE /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "c21 CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "c21 DELETE of the list": (b"DELETE /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "c22 a path of 70 KB": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "c22 a path of 9 KB": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "c22 a query of 9 KB": (b"GET /v1/tasks?" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "c22 a path without an end": (b"GET /" + b"a" * 500_000, 414, "uri_too_long"),
    "c23 a header of 70 KB": (
        b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        431,
        "header_too_large",
    ),
    "c23 65 headers": (b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 64 + b"\r\n", 431, "header_too_large"),
    "c23 20,000 headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 20_000 + b"\r\n", 431, "header_too_large"),
    "c23 a head without an end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 40_000, 431, "header_too_large"),
    "c24 an 8-bit path": (b"GET /v1/tasks/\xe4\xbd\xa0 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 %00": (b"GET /v1/tasks/%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 //": (b"GET //v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 dot segments": (b"GET /x/../v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 encoded dot segments": (b"GET /v1/%2e%2e/tasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 dot segment, encoded slash": (b"GET /v1/..%2ftasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 an encoded slash": (b"GET /v1%2ftasks HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 a line break at the end": (b"GET /v1/tasks%0A HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c24 a broken escape": (b"GET /v1/tasks/%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_target"),
    "c26 Expect: wat": (b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"Expect: wat\r\n\r\n", 417, "expectation_failed"),
    "c28 h2c with a body": (
        b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        400,
        "upgrade_not_supported",
    ),
    "g8 a websocket on another route": (
        b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        400,
        "upgrade_not_supported",
    ),
    "g11 HTTP/1.0": (b"GET /v1/tasks HTTP/1.0\r\n" + HOST + b"\r\n", 400, "bad_framing"),
    "g11 HTTP/1.9": (b"GET /v1/tasks HTTP/1.9\r\n" + HOST + b"\r\n", 400, "bad_framing"),
    "c97 POST with an upgrade to a websocket": (
        b"POST /v1/progress HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        400,
        "upgrade_not_supported",
    ),
    "c112 metrics on the public port": (b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n", 404, "not_found"),
    "c112 docs": (b"GET /docs HTTP/1.1\r\n" + HOST + b"\r\n", 404, "not_found"),
    "c112 version on the public port": (b"GET /version HTTP/1.1\r\n" + HOST + b"\r\n", 404, "not_found"),
}


PROBE: Final = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
PLACES: Final = {"first": b"", "behind another": PROBE, "in the packet of another": PROBE}


@pytest.mark.promise(28, 29)
@pytest.mark.parametrize("row", list(RAW))
def test_c1_to_c28_a_message_that_is_none_is_answered_as_a_problem(alice: Caller, row: str) -> None:
    """The same wherever it stands on its connection, which goes on only where the next message surely begins."""
    raw, status, code = RAW[row]
    for place, ahead in PLACES.items():
        began = time.monotonic()
        with alice.connect() as connection, connection.makefile("rb") as told:
            for packet in (ahead + raw,) if place.startswith("in") else (ahead, raw):
                connection.sendall(packet)
                if packet.startswith(PROBE):
                    assert read_answer(told).status_code == 200
            answer = read_answer(told)

            document = require_problem(answer, status, code)
            assert "evil" not in json.dumps(document), "input is never echoed"
            assert not document["retryable"]
            assert time.monotonic() - began < 2
            if status == 405:
                assert answer.headers["allow"]
            if answer.headers.get("connection") == "close":
                assert told.read() == b""
            else:
                assert code != "bad_framing"
                connection.sendall(PROBE)
                assert read_answer(told).status_code == 200


def test_c16_bytes_beyond_ascii_that_nobody_reads_are_ignored_and_logged_escaped(stack: Stack, alice: Caller) -> None:
    head = alice.head("GET", "/v1/tasks", "User-Agent: here").replace(b"here", b"\x80\xff")
    with alice.connect() as connection:
        connection.sendall(head)

        assert good(read_answer(connection))["tasks"] == []
    assert stack.gateway.log_lines(), "each is one line of JSON"


CHUNKED: Final[dict[str, tuple[bytes, int, str]]] = {
    "c10 chunk size zz": (b"zz\r\nhello\r\n0\r\n\r\n", 400, "bad_framing"),
    "c10 chunk size -1": (b"-1\r\nhello\r\n0\r\n\r\n", 400, "bad_framing"),
    "c10 bytes behind the data": (b"5\r\nhelloXX\r\n0\r\n\r\n", 400, "bad_framing"),
    "c10 line feed in an extension": (b"5;a=\nb\r\nhello\r\n0\r\n\r\n", 400, "bad_framing"),
    "c10 line feed behind the data": (b"5\r\nhello\n0\r\n\r\n", 400, "bad_framing"),
    "c11 chunk size of 17 F": (b"F" * 17 + b"\r\nhello\r\n", 413, "body_too_large"),
    "c11 chunk size of 2^52": (b"1" + b"0" * 13 + b"\r\nhello\r\n", 413, "body_too_large"),
    "c12 an extension of 20 KB": (b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", 400, "bad_framing"),
    "c12 an extension without an end": (b"5;" + b"a" * 2_000_000, 400, "bad_framing"),
    "c12 trailers without an end": (b"5\r\nhello\r\n0\r\n" + b"X: 1\r\n" * 100_000, 431, "header_too_large"),
}


@pytest.mark.promise(9, 28)
@pytest.mark.parametrize("row", list(CHUNKED))
def test_c10_to_c12_broken_chunks_commit_nothing(stack: Stack, alice: Caller, row: str) -> None:
    raw, status, code = CHUNKED[row]
    head = alice.head("POST", "/v1/files?key=framing/chunked.bin", "Transfer-Encoding: chunked")
    with alice.connect() as connection:
        with suppress(ConnectionError):  # refused while it still sent
            connection.sendall(head + raw)
        answer = read_answer(connection)

    require_problem(answer, status, code)
    assert answer.headers["connection"] == "close"
    with pytest.raises(FileNotFoundError):
        stack.cos.read("framing/chunked.bin")


def test_c12_short_extensions_and_trailers_are_allowed_and_dropped(stack: Stack, alice: Caller) -> None:
    head = alice.head("PUT", "/v1/objects/framing/extended.bin", "Transfer-Encoding: chunked")
    with alice.connect() as connection:
        connection.sendall(head + b"5;a=b\r\nhello\r\n0;c\r\nX-Trailer: 1\r\n\r\n")

        good(read_answer(connection), 201, 200)
    assert stack.cos.read("framing/extended.bin") == b"hello"


def test_c27_whoever_waits_to_be_told_to_go_on_is_refused_without_it(alice: Caller) -> None:
    head = alice.head("POST", "/v1/files", "Content-Length: 1000000", "Expect: 100-continue")
    with alice.connect() as connection:
        connection.sendall(head.replace(alice.bearer.encode(), b"none"))
        came = b""
        while data := connection.recv(65536):
            came += data

    assert came.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in came.lower()


@pytest.mark.promise(9, 21)
def test_c30_a_body_longer_than_its_file_is_refused_where_that_shows(stack: Stack, alice: Caller) -> None:
    task, sent = alice.create("framing/longer.bin", MIB), 0
    piece = b"10000\r\n" + bytes(65536) + b"\r\n"
    before = stack.gateway.metrics()["gateway_body_bytes_total"]
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{task['id']}/content", "Transfer-Encoding: chunked"))
        with suppress(ConnectionError):
            while sent < 64 * MIB:
                connection.sendall(piece)
                sent += 65536
        require_problem(read_answer(connection), 413, "body_too_large")

    assert sent < 64 * MIB
    assert stack.gateway.metrics()["gateway_body_bytes_total"] - before <= MIB + 256 * 1024
    assert alice.task(task["id"])["state"] != "success"


@pytest.mark.promise(9)
@pytest.mark.parametrize("sent", [0, 1, 1000, MIB - 1])
@pytest.mark.parametrize("way", ["length", "chunked"])
def test_c29_a_body_that_ends_early_commits_nothing(stack: Stack, alice: Caller, way: str, sent: int) -> None:
    key, before = f"framing/short-{way}-{sent}.bin", deserted(stack)
    line = f"Content-Length: {MIB}" if way == "length" else "Transfer-Encoding: chunked"
    data = body("short", sent)
    raw = data if way == "length" else b"%x\r\n%s\r\n" % (sent, data) if sent else b""
    with alice.connect() as connection:
        connection.sendall(alice.head("POST", f"/v1/files?key={key}", line) + raw)

    good(alice.call("POST", f"/v1/files?key={key}-after", content=b"x"), 201)
    wait_until(lambda: deserted(stack) == before + 1, "status 499 in the log", 5)
    with pytest.raises(FileNotFoundError):
        stack.cos.read(key)


def deserted(stack: Stack) -> int:
    """Requests whose clients left before the answer."""
    return sum(line.get("status") == 499 for line in stack.gateway.log_lines())


@pytest.mark.promise(21)
@pytest.mark.parametrize(
    ("way", "size"), [("length", MIB), ("length", 30 * MIB), ("chunked", 30 * MIB), ("no message", 30 * MIB)]
)
def test_c31_a_client_that_keeps_sending_reads_why_it_was_refused(
    stack: Stack, alice: Caller, way: str, size: int
) -> None:
    piece = b"10000\r\n" + bytes(65536) + b"\r\n" if way == "chunked" else bytes(65536)
    line = f"Content-Length: {size}" if way == "length" else "Transfer-Encoding: chunked"
    lines = (line, "Content-Length: 5") if way == "no message" else (line,)
    expected = (400, "bad_framing") if way == "no message" else (404, "task_not_found")
    sent, before = 0, stack.gateway.program.read_bytes
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{'A' * 22}/content", *lines))
        try:
            while sent < size:
                connection.sendall(piece)
                sent += 65536
        except ConnectionError:
            assert sent < size
        require_problem(read_answer(connection), *expected)

    assert sent == size or sent < 20 * MIB, "the rest lay in the buffers of the two sockets"
    assert stack.gateway.program.read_bytes - before < 3.5 * MIB, "1 MiB is drained, behind what was on its way"


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

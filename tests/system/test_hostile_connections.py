"""Clients that take their time, never read, or come in crowds: promises C1 rows 31 to 34, B2 rows 19 to 22, and G12."""

import re
import resource
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Final

import httpx
import pytest

from tests.system.cos_door import Door, running_door
from tests.system.processes import Gateway, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, require_problem

pytestmark = pytest.mark.usefixtures("unharmed")

IDLE_SECONDS: Final = 1.0
CROWD: Final = 20
"""Connections that one address may hold here."""
USUAL_CROWD: Final = 1024
"""And where the settings say nothing."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Redis, a local COS and a gateway with both doors and little patience."""
    with running_door(
        tmp_path_factory.mktemp("hasty"),
        head_seconds="1",
        body_idle_seconds=str(IDLE_SECONDS),
        body_min_rate_bytes="2000",
        answer_stall_seconds="1",
        connections_per_address_count=str(CROWD),
        connections_count=str(3 * CROWD),
        trusted_proxies="127.0.0.9",
    ) as door:
        yield door


@pytest.fixture(scope="module")
def stack(hasty: Door) -> Stack:
    """What `victim` and `alice` use."""
    return hasty.stack


def at_cos_door(hasty: Door) -> socket.socket:
    return socket.create_connection(("127.0.0.1", hasty.port), timeout=30)


def require_cos_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert f"<Code>{code}</Code>" in answer.text
    assert answer.headers["x-cos-request-id"]


def ends(connection: socket.socket) -> bool:
    """Whether the server closes *connection*, after nothing more."""
    with suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


HEADS: Final = {
    "no byte": b"",
    "half a line": b"GET /v1/ta",
    "half a head": b"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\nX: ",
}


@pytest.mark.promise(20)
def test_c32_a_head_that_does_not_come_is_answered_408(hasty: Door, alice: Caller) -> None:
    began = time.monotonic()
    with ExitStack() as held:
        waiting = [
            (held.enter_context(alice.connect()), held.enter_context(at_cos_door(hasty)), begun)
            for begun in HEADS.values()
        ]
        for front, cos, begun in waiting:
            front.sendall(begun)
            cos.sendall(begun)
        for front, cos, _ in waiting:
            require_problem(read_answer(front), 408, "head_timeout")
            require_cos_error(read_answer(cos), 400, "RequestTimeout")
            assert ends(front)
            assert ends(cos)

    assert 0.9 < time.monotonic() - began < 3


@pytest.mark.promise(20)
def test_c32_a_head_that_drips_is_answered_408_all_the_same(alice: Caller) -> None:
    began = time.monotonic()
    with alice.connect() as connection:
        connection.settimeout(0.1)
        for byte in alice.head("GET", "/v1/tasks", "X: " + "a" * 1000):
            with suppress(TimeoutError):
                connection.sendall(bytes([byte]))
                if connection.recv(1, socket.MSG_PEEK):
                    break
        require_problem(read_answer(connection), 408, "head_timeout")

    assert time.monotonic() - began < 3


@pytest.mark.promise(20)
def test_b21_c33_a_body_that_comes_to_a_halt_is_answered_408(alice: Caller) -> None:
    tasks = [alice.create(f"slow/halt-{number}.bin", MIB, part_size=MIB) for number in range(2)]
    form, json = "Content-Type: multipart/form-data; boundary=b", "Content-Type: application/json"
    halted = (
        alice.head("PUT", f"/v1/tasks/{tasks[0]['id']}/parts/1", f"Content-Length: {MIB}") + b"half",
        alice.head("PUT", f"/v1/tasks/{tasks[1]['id']}/content", f"Content-Length: {MIB}") + b"half",
        alice.head("PUT", "/v1/objects/slow/halt.bin", "Transfer-Encoding: chunked") + b"5\r\nhal",
        alice.head("POST", "/v1/files", form, f"Content-Length: {MIB}") + b"--b\r\n",
        alice.head("POST", "/v1/tasks", json, "Content-Length: 100") + b"{",
    )
    began = time.monotonic()
    with ExitStack() as held:
        connections = [held.enter_context(alice.connect()) for _ in halted]
        for connection, raw in zip(connections, halted, strict=True):
            connection.sendall(raw)
        for connection in connections:
            answer = read_answer(connection)
            require_problem(answer, 408, "body_timeout")
            assert answer.headers["connection"] == "close"
            assert ends(connection)

    assert IDLE_SECONDS - 0.1 < time.monotonic() - began < IDLE_SECONDS + 2
    for task in tasks:
        now = alice.task(task["id"])
        assert (now["state"], now["stored_parts"]) in (("waiting", 0), ("uploading", 0))


def test_b21_c33_at_the_cos_door_it_is_request_timeout(hasty: Door, alice: Caller) -> None:
    def half() -> Iterator[bytes]:
        yield b"half"
        time.sleep(1.4 * IDLE_SECONDS)

    answer = hasty.key(alice).caller().call("PUT", "slow/cos.bin", headers={"Content-Length": "1000"}, body=half())

    assert (answer.status, answer.code) == (400, "RequestTimeout")
    with pytest.raises(FileNotFoundError):
        hasty.cos.read("slow/cos.bin")


@pytest.mark.promise(20)
def test_b22_c33_a_body_that_drips_is_answered_408_and_its_part_can_be_sent_again(stack: Stack, alice: Caller) -> None:
    task = alice.create("slow/drip.bin", MIB, part_size=MIB)
    began = time.monotonic()
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{task['id']}/parts/1", f"Content-Length: {MIB}"))
        connection.settimeout(0.1)
        while time.monotonic() - began < 10:
            with suppress(TimeoutError):
                connection.sendall(b"x")
                if connection.recv(1, socket.MSG_PEEK):
                    break
        require_problem(read_answer(connection), 408, "body_too_slow")

    assert time.monotonic() - began < 2 * IDLE_SECONDS + 2
    data = body("after the drip", MIB)
    good(alice.put_part(task["id"], 1, data))
    good(alice.control(task["id"], "complete"))
    assert stack.cos.read("slow/drip.bin") == data


def test_b19_a_client_that_resets_in_mid_part_frees_it_within_a_second(stack: Stack, alice: Caller) -> None:
    task = alice.create("slow/reset.bin", MIB, part_size=MIB)
    connection = alice.connect()
    connection.sendall(alice.head("PUT", f"/v1/tasks/{task['id']}/parts/1", f"Content-Length: {MIB}") + bytes(MIB // 2))
    wait_until(lambda: stack.gateway.metrics()["gateway_bodies_in_flight"] == 1, "the body")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

    def ended() -> bool:
        return all(entry["ended"] for entry in stack.cos.journal("UploadPart", key="slow/reset.bin"))

    assert wait_until(ended, "the end at COS", 5) < 1.0
    # The gauge looks once a second.
    assert wait_until(lambda: stack.gateway.metrics()["gateway_bodies_in_flight"] == 0, "its end", 5) < 2.5
    good(alice.put_part(task["id"], 1, body("again", MIB)))


@pytest.mark.promise(20, 21)
def test_a_client_that_never_reads_its_answers_is_cut_off(stack: Stack, alice: Caller) -> None:
    before, rss = stack.gateway.metrics()["gateway_connections_open"], stack.gateway.program.rss_bytes
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        connection.connect(("127.0.0.1", stack.gateway.port))
        requests = alice.head("GET", "/v1/tasks") * 100
        with suppress(ConnectionError, TimeoutError):
            for _ in range(200):
                connection.sendall(requests)
        wait_until(lambda: stack.gateway.metrics()["gateway_connections_open"] <= before, "the end", 10)

    assert stack.gateway.program.rss_bytes - rss < 4 * MIB


@pytest.mark.promise(21)
def test_c34_an_address_keeps_so_many_connections_and_the_oldest_idle_one_goes(stack: Stack) -> None:
    with ExitStack() as crowd:
        before = stack.gateway.program.rss_bytes
        connections = [crowd.enter_context(_from("127.0.0.2", stack.gateway)) for _ in range(5 * CROWD)]
        assert all(ends(connection) for connection in connections[: 4 * CROWD])
        newest = connections[-1]
        newest.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(newest).status_code == 200
        assert stack.gateway.program.rss_bytes - before < 4 * MIB
        with _from("127.0.0.3", stack.gateway) as another:
            another.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(another).status_code == 200


@pytest.mark.promise(21)
def test_c34_of_ten_thousand_idle_connections_an_address_keeps_as_many_as_it_may(stack: Stack) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gateway = stack.start_gateway()
    before = gateway.program.rss_bytes
    with ExitStack() as crowd:
        latest: deque[socket.socket] = deque()
        for _ in range(10_000):
            latest.append(crowd.enter_context(_from("127.0.0.2", gateway)))
            if len(latest) > USUAL_CROWD:
                with latest.popleft() as oldest:
                    assert ends(oldest)
        open_connections = gateway.metrics()["gateway_connections_open"]
        assert USUAL_CROWD <= open_connections < USUAL_CROWD + 10  # and the operator's
        assert gateway.program.rss_bytes - before < 24 * MIB
        for connection in (latest[-1], crowd.enter_context(_from("127.0.0.3", gateway))):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection).status_code == 200


@pytest.mark.promise(21)
def test_c32_c34_beyond_all_connections_there_may_be_new_ones_hear_503_and_operators_come_in(stack: Stack) -> None:
    """From a trusted proxy, which no address limit holds."""
    with ExitStack() as crowd:
        connections = [crowd.enter_context(_from("127.0.0.9", stack.gateway)) for _ in range(3 * CROWD + 5)]
        told = [connection for connection in connections[-CROWD:] if _hears(connection)]
        require_problem(read_answer(told[0]), 503, "overloaded")
        assert stack.gateway.metrics()['gateway_connections_refused_total{code="overloaded"}'] >= len(told)
    wait_until(lambda: stack.gateway.readiness() == 200, "room again", 5)


def _hears(connection: socket.socket) -> bool:
    """Whether something lies here for *connection* to read, within a moment."""
    readable, _, _ = select.select([connection], [], [], 0.02)
    try:
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) != b""
    except ConnectionError:
        return False


def _from(address: str, gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), 30, (address, 0))


@pytest.mark.parametrize(("peer", "client"), [("127.0.0.9", "198.51.100.7"), ("127.0.0.2", "127.0.0.2")])
def test_g12_c54_only_a_listed_proxy_tells_who_the_client_is(stack: Stack, peer: str, client: str) -> None:
    request_id = f"g12-{peer}"
    with _from(peer, stack.gateway) as connection:
        lines = f"X-Request-Id: {request_id}\r\nX-Forwarded-For: 1.1.1.1, 198.51.100.7\r\nX-Forwarded-Host: evil\r\n"
        connection.sendall(f"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        require_problem(read_answer(connection), 401, "unauthenticated")

    wait_until(lambda: request_id in stack.gateway.program.log.read_text(), "the log line")
    logged = [line for line in stack.gateway.log_lines() if line.get("request_id") == request_id and "client" in line]
    assert [line["client"] for line in logged] == [client]


def test_c31_a_flood_behind_a_refusal_is_read_for_a_mebibyte_or_two_seconds(stack: Stack, alice: Caller) -> None:
    sent, began = 0, time.monotonic()
    with alice.connect() as connection:
        connection.sendall(alice.head("POST", "/v1/files", "Transfer-Encoding: chunked").replace(b"Bearer", b"Nobody"))
        with suppress(ConnectionError):
            while time.monotonic() - began < 10:
                sent += connection.send(bytes(65536))

    assert time.monotonic() - began < 3
    assert sent < 20 * MIB, "1 MiB is drained; the rest lay in the buffers of the two sockets"
    assert re.search(r'gateway_http_requests_total\{.*status="401"\}', "\n".join(stack.gateway.metrics()))

"""SIGTERM: readiness goes off first, what is under way ends, who comes too late is told so, and nothing is lost."""

import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.system.processes import Gateway, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, require_problem

UPLOADS = 50
SIZE = 100_000
NOTICE_SECONDS = 1
UNREADY_SECONDS = 0.1
MARGIN_SECONDS = 3.0
SECOND_SIGNAL_SECONDS = 2.0


def begin_part(caller: Caller, task_id: str, number: int, data: bytes, sent: int) -> socket.socket:
    """A connection on which the first *sent* bytes of a part were sent."""
    connection = caller.connect()
    head = caller.head("PUT", f"/v1/tasks/{task_id}/parts/{number}", f"Content-Length: {len(data)}")
    connection.sendall(head + data[:sent])
    return connection


def bodies_in_flight(gateway: Gateway) -> float:
    return gateway.metrics()["gateway_bodies_in_flight"]


def slowest_answer_seconds(gateway: Gateway) -> float:
    """The longest of some looks at the readiness: how busy this machine is."""
    times = []
    for _ in range(5):
        began = time.monotonic()
        assert gateway.readiness() == 200
        times.append(time.monotonic() - began)
    return max(times)


def require_draining(answer: httpx.Response) -> None:
    document = require_problem(answer, 503, "server_draining")
    assert document["retryable"] is True
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["connection"] == "close"


@pytest.fixture
def idle(stack: Stack, alice: Caller) -> Iterator[tuple[Gateway, Caller]]:
    """A gateway of this test's own, which has 3 s to end, the first of them as usual."""
    gateway = stack.start_gateway(drain_seconds="3", drain_notice_seconds="1")
    yield gateway, alice.at(gateway)
    gateway.close()


@pytest.mark.promise(22)
def test_b11_a_drain_turns_readiness_off_at_once_and_lets_fifty_uploads_end(stack: Stack, alice: Caller) -> None:
    gateway = stack.start_gateway(drain_seconds="20", drain_notice_seconds=str(NOTICE_SECONDS))
    there = alice.at(gateway)
    files = [body(f"b11 {n}", SIZE) for n in range(UPLOADS)]
    tasks = [there.create(f"drain/{n}.bin", SIZE)["id"] for n in range(UPLOADS)]
    with ExitStack() as open_connections:
        connections = [
            open_connections.enter_context(begin_part(there, task_id, 1, data, SIZE // 2))
            for task_id, data in zip(tasks, files, strict=True)
        ]
        wait_until(lambda: bodies_in_flight(gateway) == UPLOADS, "the bodies", 10)
        busy_seconds = slowest_answer_seconds(gateway)
        began = time.monotonic()
        gateway.program.signal(signal.SIGTERM)
        took_seconds = wait_until(lambda: gateway.readiness() == 503, "not being ready", 5)
        assert took_seconds < UNREADY_SECONDS + 3 * busy_seconds

        still_taken = there.post_form("drain/late.bin", b"in the time of notice")
        good(still_taken, 201)
        assert still_taken.headers["connection"] == "close"
        wait_until(lambda: there.call("GET", "/v1/tasks").status_code == 503, "the drain", 5)
        assert time.monotonic() - began > NOTICE_SECONDS
        require_draining(there.put_part(tasks[0], 1, files[0]))
        require_draining(there.call("POST", "/v1/tasks", json={"key": "drain/too-late.bin"}))

        for connection, data in zip(connections, files, strict=True):
            connection.sendall(data[SIZE // 2 :])
        for connection in connections:
            good(read_answer(connection))

    assert gateway.program.wait(20) == 0
    for n, task_id in enumerate(tasks):
        good(alice.control(task_id, "complete"))
        assert stack.cos.read(f"drain/{n}.bin") == files[n]


@pytest.mark.promise(22)
def test_b12_a_client_slower_than_the_drain_is_told_and_keeps_what_it_sent(
    stack: Stack, alice: Caller, idle: tuple[Gateway, Caller]
) -> None:
    gateway, there = idle
    data = body("b12", 4 * MIB)
    parts = there.create("drain/slow-parts.bin", len(data), part_size=2 * MIB)["id"]
    content = there.create("drain/slow-content.bin", len(data), part_size=MIB)["id"]
    good(there.put_part(parts, 1, data[: 2 * MIB]))
    kept_alive = there.connect()
    kept_alive.sendall(there.head("GET", "/v1/tasks"))
    good(read_answer(kept_alive))
    sent = 2 * MIB + 12_345
    with begin_part(there, parts, 2, data[2 * MIB :], 1000) as slow, there.connect() as slower, kept_alive:
        slower.sendall(there.head("PUT", f"/v1/tasks/{content}/content", f"Content-Length: {len(data)}") + data[:sent])
        wait_until(lambda: bodies_in_flight(gateway) == 2 and there.task(content)["stored_parts"] == 2, "the bodies", 5)
        began = time.monotonic()
        gateway.program.signal(signal.SIGTERM)
        wait_until(lambda: there.call("GET", "/v1/tasks").status_code == 503, "the drain", 5)
        kept_alive.sendall(there.head("GET", "/v1/tasks"))
        require_draining(read_answer(kept_alive))
        require_draining(read_answer(slow))
        require_draining(read_answer(slower))

    assert gateway.program.wait() == 0
    assert time.monotonic() - began < 3 + MARGIN_SECONDS
    assert alice.task(parts)["stored_parts"] == 1
    assert alice.task(content)["next_offset"] == sent
    span = {"Content-Range": f"bytes {sent}-{len(data) - 1}/{len(data)}"}
    good(alice.put_content(content, data[sent:], **span))
    assert stack.cos.read("drain/slow-content.bin") == data


def test_watchers_are_sent_away_with_the_code_for_a_restart(idle: tuple[Gateway, Caller]) -> None:
    gateway, there = idle
    url, bearer = f"ws://127.0.0.1:{gateway.port}/v1/progress", f"bearer.{there.bearer}"
    with connect(url, subprotocols=["gateway.v1", bearer], proxy=None) as socket:  # type: ignore[list-item]
        socket.recv(5)
        gateway.program.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            list(socket)  # a watcher reads until the end

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert gateway.program.wait() == 0


@pytest.mark.promise(20, 22)
@pytest.mark.parametrize("stays", [False, True])
def test_f4_a_walk_over_pages_without_an_end_does_not_outlast_the_drain(
    stack: Stack, alice: Caller, stays: bool
) -> None:
    """Nor its client, where that has gone: nothing is waited for then."""
    seconds = 3 if stays else 60
    gateway = stack.start_gateway(drain_seconds=str(seconds))
    there = alice.at(gateway)
    task = there.create(f"drain/pages/{stays}", 10_000 * MIB, part_size=MIB)
    assert stack.redis.command("FLUSHALL") == b"+OK"
    stack.cos.fault("endless_pages", operation="ListParts", key=task["key"], seconds=0.05, times=None)

    def walked() -> int:
        return len(stack.cos.journal("ListParts", key=task["key"]))

    with there.connect() as connection:
        connection.sendall(there.head("GET", f"/v1/tasks/{task['id']}", f"Upload-Ticket: {task['ticket']}"))
        wait_until(lambda: walked() > 3, "the walk", 10)
        if not stays:  # resets the connection
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        began = time.monotonic()
        gateway.program.signal(signal.SIGTERM)
        gateway.program.wait()
        assert time.monotonic() - began < 3 + MARGIN_SECONDS


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGKILL])
def test_b13_a_second_signal_ends_it_at_once_and_what_was_acknowledged_stays(
    stack: Stack, alice: Caller, idle: tuple[Gateway, Caller], second: signal.Signals
) -> None:
    gateway, there = idle
    data, key = body("b13", 2 * MIB), f"drain/twice-{second.name}.bin"
    task_id = there.create(key, len(data), part_size=MIB)["id"]
    good(there.put_part(task_id, 1, data[:MIB]))
    with begin_part(there, task_id, 2, data[MIB:], 1000):
        wait_until(lambda: bodies_in_flight(gateway) == 1, "the body", 5)
        gateway.program.signal(signal.SIGTERM)
        wait_until(lambda: gateway.readiness() == 503, "not being ready", 5)
        began = time.monotonic()
        gateway.program.signal(second)
        assert gateway.program.wait() == -second
        assert time.monotonic() - began < SECOND_SIGNAL_SECONDS

    good(alice.put_part(task_id, 2, data[MIB:]))
    good(alice.control(task_id, "complete"))
    assert stack.cos.read(key) == data


def test_an_idle_gateway_without_a_time_of_notice_stops_at_once(stack: Stack) -> None:
    gateway = stack.start_gateway()
    began = time.monotonic()
    gateway.program.signal(signal.SIGTERM)

    assert gateway.program.wait() == 0
    assert time.monotonic() - began < MARGIN_SECONDS
    assert gateway.readiness() == 0

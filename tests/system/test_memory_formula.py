"""A process takes what README's "Capacity planning" says at most, whatever clients do: S3, S6 and their like.

Each row is measured by the kernel in a fresh process whose replay budget is as small as may be.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Final

import pytest

from tests.system.cos_door import Door, Key
from tests.system.processes import free_port
from tests.system.stack import MIB, Stack, running_stack

BASE_BYTES: Final = 96 * MIB
REPLAY_BYTES: Final = 4 * MIB
MEMORY_BYTES: Final = 32 * MIB
MOST_BYTES: Final = BASE_BYTES + 2 * REPLAY_BYTES + MEMORY_BYTES
"""The formula of README."""
SETTINGS: Final = {
    "replay_budget_bytes": str(REPLAY_BYTES),
    "memory_budget_bytes": str(MEMORY_BYTES),
    "requests_per_subject_rate": "0",
    "creates_per_subject_rate": "0",
}
Row = Callable[[Door, Key], Iterator[tuple[int, bytes]]]
"""The port and the bytes of each connection."""


def unproved_forms(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """S3: the fields of a form whose signature never comes, with names as long and characters as wide as may be."""
    field = b'--b\r\nContent-Disposition: form-data; name="%04d%b"\r\n\r\n%b\r\n'
    values = b"v" * 600 + "\U0001f600".encode()
    fields = b"".join(field % (number, b"n" * 120, values) for number in range(60))
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    for _ in range(80):
        yield key.port, head + b"Content-Length: 900000\r\n\r\n" + fields


def lists_at_the_cos_door(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """S6: lists of parts that go on, for an upload that is theirs."""
    begun = key.caller().call("POST", "formula/list.bin", {"uploads": ""})
    size = 3 * MIB // 2
    upload = {"uploadId": begun.text("UploadId") or ""}
    head = key.caller().head("POST", "formula/list.bin", upload, f"Content-Length: {size}")
    for _ in range(40):
        yield key.port, head + b"<C>" + b" " * (size - 100)


def lists_in_json(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """S6: the same in JSON, for a task that is theirs, and options of new ones."""
    caller = door.stack.caller("alice")
    task = caller.create("formula/json.bin", 4 * MIB)
    paths = (f"/v1/tasks/{task['id']}/complete", "/v1/tasks", "/v1/batches")
    lines = ("Content-Type: application/json", f"Content-Length: {MIB}")
    for number in range(60):
        yield caller.gateway.port, caller.head("POST", paths[number % 3], *lines) + b" " * (MIB - 1)


def json_in_tiny_chunks(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """Lists of unknown length, a byte at a time."""
    caller = door.stack.caller("alice")
    head = caller.head("POST", "/v1/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked")
    for _ in range(30):
        yield caller.gateway.port, head + b"1\r\n \r\n" * 3_000


def heads_that_never_end(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """A head of almost the largest size on each of as many connections as an address may have."""
    for number in range(600):
        port = key.port if number % 2 else door.stack.gateway.port
        yield port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 15_000


def requests_behind_a_request(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """Bytes behind a request that has no answer yet."""
    caller = door.stack.caller("alice")
    task = caller.create("formula/behind.bin", 4 * MIB)
    waits = caller.head("POST", f"/v1/tasks/{task['id']}/complete", "Expect: 100-continue", "Content-Length: 1")
    for _ in range(150):
        yield caller.gateway.port, waits + b" " + b"G" * 200_000


def answers_that_nobody_takes(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """Lists, asked for again and again by clients that read nothing."""
    caller = door.stack.caller("alice")
    for number in range(40):
        caller.create(f"formula/{number}{'k' * 600}", 1, client_ref="r" * 120)
    for _ in range(100):
        yield caller.gateway.port, caller.head("GET", "/v1/tasks?limit=100") * 90


ROWS: Final[tuple[Row, ...]] = (
    unproved_forms,
    lists_at_the_cos_door,
    lists_in_json,
    json_in_tiny_chunks,
    heads_that_never_end,
    requests_behind_a_request,
    answers_that_nobody_takes,
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("formula"), gateways=0) as stack:
        yield stack


@pytest.mark.promise(21)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_s3_s6_a_process_takes_no_more_than_the_formula_says(stack: Stack, row: Row) -> None:
    port = free_port()
    gateway = stack.start_gateway(cos_listen=f"127.0.0.1:{port}", log_level="warning", **SETTINGS)
    door = Door(stack, port)
    connections = list(row(door, door.key(stack.caller("alice"))))
    with ExitStack() as held:
        for at, raw in connections:
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(0.05)
            connection.connect(("127.0.0.1", at))
            with suppress(ConnectionError, TimeoutError):
                connection.sendall(raw)
        gateway.metrics()  # by then the loop has seen it all
        peak = gateway.program.peak_bytes

    gateway.program.stop()
    stack.gateways.remove(gateway)
    assert peak <= MOST_BYTES

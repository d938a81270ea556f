"""A process takes what README's "Capacity planning" says at most, whatever clients do: S3, S6 and their like.

The kernel measures the peak of each row anew. What a row before it left in the heap counts: nothing hides behind it.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import pytest

from tests.bench.run import allow_many_connections
from tests.system.cos_door import Door, Key
from tests.system.processes import Gateway, free_port, wait_until
from tests.system.stack import MIB, Stack, body, running_stack

BASE_BYTES: Final = 96 * MIB
MEMORY_BYTES: Final = 32 * MIB
"""The least there may be."""
REPLAY_BYTES: Final = 4 * MIB
REPLAY_BYTES_OF_BODIES: Final = 32 * MIB
"""Where bodies are parts: so many fit into three quarters of it at 91 KB each."""
BODIES: Final = 250
_RESET: Final = struct.pack("ii", 1, 0)
"""Close at once and have nothing of what was sent read."""
STILL_SECONDS: Final = 0.2
"""Nobody took a byte for so long: what is held now is what there will be."""
Row = Callable[[Door, Key], Iterator[tuple[int, bytes]]]
"""The port and the bytes of each connection."""


def unproved_forms(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """S3: the fields of a form whose signature never comes, with names as long and characters as wide as may be."""
    field = b'--b\r\nContent-Disposition: form-data; name="%04d%b"\r\n\r\n%b\r\n'
    values = b"v" * 600 + "\U0001f600".encode()
    fields = b"".join(field % (number, b"n" * 120, values) for number in range(60))
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    for _ in range(400):
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
    for _ in range(60):
        yield caller.gateway.port, head + b"1\r\n \r\n" * 3_000


def heads_that_never_end(door: Door, key: Key) -> Iterator[tuple[int, bytes]]:
    """A head of almost the largest size on each of as many connections as an address may have."""
    for number in range(900):
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
        yield caller.gateway.port, caller.head("GET", "/v1/tasks?limit=100") * 20


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
    allow_many_connections()
    with running_stack(tmp_path_factory.mktemp("formula"), gateways=0) as stack:
        yield stack


def start(stack: Stack, replay_bytes: int) -> Door:
    """A gateway with little memory where nobody hears 429."""
    port = free_port()
    stack.start_gateway(
        cos_listen=f"127.0.0.1:{port}",
        replay_budget_bytes=str(replay_bytes),
        memory_budget_bytes=str(MEMORY_BYTES),
        requests_per_subject_rate="0",
        creates_per_subject_rate="0",
        log_level="warning",
    )
    return Door(stack, port)


@pytest.fixture(scope="module")
def door(stack: Stack) -> Door:
    return start(stack, REPLAY_BYTES)


@contextmanager
def held(sent: Iterable[tuple[int, bytes]]) -> Iterator[None]:
    """Connections that have sent as much as is taken of them, and read nothing."""
    with ExitStack() as closing, selectors.DefaultSelector() as ready:
        for port, raw in sent:
            connection = closing.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.connect(("127.0.0.1", port))
            connection.setblocking(False)
            ready.register(connection, selectors.EVENT_WRITE, memoryview(raw))
        while ready.get_map() and (writable := ready.select(STILL_SECONDS)):
            for key, _ in writable:
                _send_more(ready, key)
        yield


def _send_more(ready: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    assert isinstance(key.fileobj, socket.socket)
    left = memoryview(b"")
    with suppress(ConnectionError):
        left = key.data[key.fileobj.send(key.data) :]
    if left:
        ready.modify(key.fileobj, selectors.EVENT_WRITE, left)
    else:
        ready.unregister(key.fileobj)


def peak_bytes(gateway: Gateway, sent: Iterable[tuple[int, bytes]]) -> int:
    """The most memory that there was while *sent* is held."""
    gateway.program.begin_peak()
    with held(sent):
        _wait_until_still(gateway)
        return gateway.program.peak_bytes


def wait_until_let_go(gateway: Gateway) -> None:
    """Wait until the gateway holds nothing that its budgets count."""
    wait_until(lambda: _holds_nothing(gateway), "everything to be let go", 10)


def _wait_until_still(gateway: Gateway) -> None:
    """Wait until the loop has answered, and had nothing to do for a while before."""
    before = -1.0
    while gateway.program.cpu_seconds - before > STILL_SECONDS / 4:
        gateway.metrics()
        before = gateway.program.cpu_seconds
        time.sleep(STILL_SECONDS)


def _holds_nothing(gateway: Gateway) -> bool:
    metrics = gateway.metrics()
    counted = [f'gateway_memory_budget_bytes{{of="{of}"}}' for of in ("callers", "strangers")]
    return all(metrics.get(name) == 0 for name in ("gateway_bodies_in_flight", *counted))


@pytest.mark.promise(21)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_s3_s6_a_process_takes_no_more_than_the_formula_says(door: Door, row: Row) -> None:
    gateway = door.stack.gateway
    peak = peak_bytes(gateway, list(row(door, door.key(door.stack.caller("alice")))))

    wait_until_let_go(gateway)
    assert peak <= BASE_BYTES + MEMORY_BYTES + 2 * REPLAY_BYTES


@pytest.mark.promise(21)
def test_s6_parts_beyond_the_budget_take_no_more_than_the_formula_says_while_cos_takes_nothing(stack: Stack) -> None:
    start(stack, REPLAY_BYTES_OF_BODIES)
    gateway, data = stack.gateways[-1], body("formula", 4 * MIB)
    alice = stack.caller("alice of the parts", gateway)
    task_id = alice.create("formula/parts.bin", BODIES * len(data), part_size=len(data))["id"]
    length = f"Content-Length: {len(data)}"
    heads = [alice.head("PUT", f"/v1/tasks/{task_id}/parts/{number}", length) for number in range(1, BODIES + 1)]
    stack.cos.fault("stall", operation="UploadPart", times=None)
    try:
        peak = peak_bytes(gateway, ((gateway.port, head + data) for head in heads))
    finally:
        stack.cos.clear_faults()

    assert peak <= BASE_BYTES + MEMORY_BYTES + 2 * REPLAY_BYTES_OF_BODIES

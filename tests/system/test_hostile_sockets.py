"""Websockets that should not open, say too much, read nothing or outstay their token: promises C5."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, Stack, good, read_answer, require_problem, running_stack, token

pytestmark = pytest.mark.usefixtures("unharmed")

PER_SUBJECT: Final = 20
IN_ALL: Final = 45
UPGRADE: Final = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, a local COS and a gateway that takes few websockets and has little patience with slow readers."""
    folder = tmp_path_factory.mktemp("sockets")
    with running_stack(folder, answer_stall_seconds="0.5", sockets_count=str(IN_ALL)) as stack:
        yield stack


def watch(caller: Caller, path: str = "/v1/progress", *, origin: str | None = None, **options: Any) -> ClientConnection:
    offered = options.pop("offered", ["gateway.v1", f"bearer.{caller.bearer}"])
    websocket: ClientConnection = connect(
        f"ws://127.0.0.1:{caller.gateway.port}{path}",
        subprotocols=[Subprotocol(name) for name in offered],
        origin=None if origin is None else Origin(origin),
        proxy=None,
        **options,
    )
    return websocket


def refusal(caller: Caller, path: str = "/v1/progress", **options: Any) -> dict[str, Any]:
    """The problem document that the handshake is answered with, less what differs from call to call."""
    with pytest.raises(InvalidStatus) as refused:
        watch(caller, path, **options).close()
    response = refused.value.response
    document: dict[str, Any] = json.loads(response.body or b"")
    assert document.pop("request_id") == response.headers["x-request-id"]
    assert document["status"] == response.status_code
    assert response.headers["content-type"] == "application/problem+json"
    return document


class Refused(Exception):
    """The handshake got another answer."""


def opened(caller: Caller, *, buffer_bytes: int = 65536) -> socket.socket:
    """A websocket that is open, as a raw connection; its first messages wait to be read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", caller.gateway.port))
    connection.sendall(caller.head("GET", "/v1/progress", *UPGRADE, f"Sec-WebSocket-Protocol: bearer.{caller.bearer}"))
    came = b""
    while b"\r\n\r\n" not in came:
        came += connection.recv(1)
    if not came.startswith(b"HTTP/1.1 101 "):
        connection.close()
        raise Refused
    return connection


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def push(connection: socket.socket, raw: bytes, seconds: float = 5) -> int:
    """Send *raw* again and again until the server ends the connection; how many bytes went out."""
    sent, began = 0, time.monotonic()
    with suppress(ConnectionError, TimeoutError):
        while time.monotonic() - began < seconds:
            sent += connection.send(raw)
    return sent


def close_code(connection: socket.socket) -> int:
    """The code of the close frame; 0 when the connection broke without one."""
    came = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            came += data
    at = came.rfind(b"\x88")
    return int.from_bytes(came[at + 2 : at + 4]) if at >= 0 else 0


def open_sockets(stack: Stack) -> float:
    return stack.gateway.metrics()["gateway_websockets_open"]


@pytest.fixture(autouse=True)
def _all_are_gone_at_the_end(stack: Stack) -> Iterator[None]:
    yield
    wait_until(lambda: open_sockets(stack) == 0, "the end of all websockets", 10)


def descriptors(stack: Stack) -> int:
    return len(list(Path(f"/proc/{stack.gateway.program.pid}/fd").iterdir()))


def test_c95_a_page_of_another_origin_does_not_get_in_and_a_program_does(alice: Caller) -> None:
    document = refusal(alice, origin="https://evil.example")

    assert (document["status"], document["code"]) == (403, "origin_not_allowed")
    with watch(alice), watch(alice, origin=f"http://127.0.0.1:{alice.gateway.port}"):
        pass


@pytest.mark.promise(27)
def test_c96_a_token_belongs_into_the_subprotocol_and_into_no_log(stack: Stack, alice: Caller) -> None:
    path = f"/v1/progress?token={alice.bearer}"
    assert refusal(alice, path, offered=["gateway.v1"])["code"] == "unauthenticated"
    assert refusal(alice, offered=["gateway.v1", "bearer.x.y.z"])["code"] == "token_invalid"
    with watch(alice) as websocket:
        assert websocket.subprotocol == "gateway.v1", "never the token"

    assert alice.bearer not in stack.gateway.program.log.read_text()


LONG: Final = "X: " + "a" * 9000
HANDSHAKES: Final[dict[str, tuple[str, tuple[str, ...], int, str]]] = {
    "c97 POST": ("POST", UPGRADE, 400, "upgrade_not_supported"),
    "c97 version 8": ("GET", (*UPGRADE[:2], "Sec-WebSocket-Version: 8", UPGRADE[3]), 400, "upgrade_not_supported"),
    "c97 no version": ("GET", (*UPGRADE[:2], UPGRADE[3]), 400, "upgrade_not_supported"),
    "c97 two versions": ("GET", (*UPGRADE, UPGRADE[2]), 400, "upgrade_not_supported"),
    "c97 no key": ("GET", UPGRADE[:3], 400, "upgrade_not_supported"),
    "c97 two keys": ("GET", (*UPGRADE, UPGRADE[3]), 400, "upgrade_not_supported"),
    "c97 h2c": (
        "GET",
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"),
        400,
        "upgrade_not_supported",
    ),
    "c97 h2c as well": ("GET", ("Upgrade: h2c", *UPGRADE), 400, "upgrade_not_supported"),
    "c97 a connection that is no list": ("GET", ("Connection: @@", *UPGRADE), 400, "upgrade_not_supported"),
    "c97 protocols that are no list": ("GET", (*UPGRADE, "Sec-WebSocket-Protocol: @,;"), 400, "upgrade_not_supported"),
    "c97 a length of 00": ("GET", (*UPGRADE, "Content-Length: 00"), 400, "upgrade_not_supported"),
    "c97 a control character": ("GET", (*UPGRADE, "X: a\x01b"), 400, "upgrade_not_supported"),
    "c97 a line of 9 KB": ("GET", (*UPGRADE, LONG), 400, "upgrade_not_supported"),
    "c97 two origins": ("GET", (*UPGRADE, "Origin: http://a", "Origin: http://b"), 400, "bad_request"),
    "c97 80 headers": ("GET", (*UPGRADE, *["X: 1"] * 80), 431, "header_too_large"),
    "c97 200 headers": ("GET", (*UPGRADE, *["X: 1"] * 200), 431, "header_too_large"),
}


@pytest.mark.promise(20, 29)
@pytest.mark.parametrize("row", list(HANDSHAKES))
def test_c97_what_is_no_handshake_is_answered_as_a_problem(stack: Stack, alice: Caller, row: str) -> None:
    method, lines, status, code = HANDSHAKES[row]
    before = stack.gateway.metrics()["gateway_connections_open"]
    with alice.connect() as connection:
        connection.sendall(alice.head(method, "/v1/progress", *lines))
        require_problem(read_answer(connection), status, code)
    wait_until(lambda: stack.gateway.metrics()["gateway_connections_open"] <= before, "the connection's end", 5)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/keys", "/", "/livez", "/nowhere", f"/v1/tasks/{'A' * 22}"])
def test_c97_g8_no_other_route_is_a_websocket(alice: Caller, path: str) -> None:
    with alice.connect() as connection:
        connection.sendall(alice.head("GET", path, *UPGRADE, f"Sec-WebSocket-Protocol: bearer.{alice.bearer}"))
        require_problem(read_answer(connection), 400, "upgrade_not_supported")


def test_c97_g11_http_1_0_opens_no_websocket(alice: Caller) -> None:
    with alice.connect() as connection:
        connection.sendall(alice.head("GET", "/v1/progress", *UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0"))
        require_problem(read_answer(connection), 400, "upgrade_not_supported")


MESSAGES: Final = {
    "c98 of 5,000 bytes": frame(Opcode.TEXT, b"x" * 5000),
    "c98 of 15 MiB, unfinished": b"\x81\xff" + (15 * MIB).to_bytes(8) + b"mask" + bytes(100_000),
    "c98 of 2^62 bytes": b"\x82\xff" + (1 << 62).to_bytes(8) + b"mask",
    "c98 in fragments": frame(Opcode.TEXT, b"x" * 3000, fin=False) + frame(Opcode.CONT, b"x" * 3000, fin=False),
}


@pytest.mark.parametrize("row", list(MESSAGES))
def test_c98_a_message_over_4_kib_closes_with_1009_and_is_not_kept(stack: Stack, alice: Caller, row: str) -> None:
    before = stack.gateway.program.rss_bytes
    with opened(alice) as connection:
        connection.sendall(MESSAGES[row])
        assert close_code(connection) in (1009, 0 if len(MESSAGES[row]) > 65536 else 1009)
    assert stack.gateway.program.rss_bytes - before < 2 * MIB


NO_FRAMES: Final = {
    "no text": (frame(Opcode.TEXT, b"\xff"), 1007),
    "half a character": (frame(Opcode.TEXT, b"\xc3", fin=False) + frame(Opcode.CONT, b"("), 1007),
    "compressed": (b"\xc1\x80mask", 1002),
    "not masked": (b"\x81\x02hi", 1002),
    "of no kind": (b"\x83\x80mask", 1002),
    "a long ping": (b"\x89\xfe\x00\x7emask" + bytes(126), 1002),
    "a fragment of nothing": (frame(Opcode.CONT, b"x"), 1002),
    "a close with half a code": (b"\x88\x81mask\x00", 1002),
    "plain HTTP": (b"GET / HTTP/1.1\r\n\r\n", 1002),
}


@pytest.mark.parametrize("row", list(NO_FRAMES))
def test_c98_c101_what_is_no_frame_closes_and_is_no_error_of_ours(alice: Caller, row: str) -> None:
    raw, code = NO_FRAMES[row]
    with opened(alice) as connection:
        connection.sendall(raw)
        assert close_code(connection) == code


@pytest.mark.promise(21)
@pytest.mark.parametrize(
    "piece",
    [frame(Opcode.PING, b"x" * 100) * 500, frame(Opcode.PONG, b"x") * 500, frame(Opcode.CONT, fin=False) * 500],
    ids=["c100 pings", "c100 pongs", "c100 empty fragments"],
)
def test_c100_a_flood_of_small_frames_is_cut_off(stack: Stack, alice: Caller, piece: bytes) -> None:
    before = stack.gateway.program.rss_bytes
    with opened(alice) as connection:
        connection.sendall(frame(Opcode.TEXT, fin=False) if piece.startswith(b"\x00") else b"")
        began = time.monotonic()
        sent = push(connection, piece)

        assert time.monotonic() - began < 2
        assert sent < 4 * MIB, "the buffers of the two sockets"
    assert stack.gateway.program.rss_bytes - before < 2 * MIB


def test_c101_compression_is_not_offered(alice: Caller) -> None:
    with watch(alice, compression="deflate") as websocket:
        assert websocket.response is not None
        assert "Sec-WebSocket-Extensions" not in websocket.response.headers


@pytest.mark.promise(21)
def test_c102_a_flood_of_messages_closes_with_1008(stack: Stack, alice: Caller) -> None:
    before = stack.gateway.program.rss_bytes
    with opened(alice) as connection:
        assert push(connection, frame(Opcode.TEXT, b"pause!") * 1000) < 8 * MIB
    with watch(alice) as websocket:
        websocket.recv(5)
        with suppress(ConnectionClosed):
            for _ in range(6):
                websocket.send("hello")
            while True:
                websocket.recv(5)
        assert websocket.close_code == 1008
    assert stack.gateway.program.rss_bytes - before < 2 * MIB


@pytest.mark.promise(20, 21)
def test_c103_a_watcher_who_never_reads_is_cut_off(stack: Stack, alice: Caller) -> None:
    """First nothing piles up for them, then the connection goes, although it never takes the last word."""
    tasks = [alice.create(f"slow/{number}-{'k' * 700}", 5) for number in range(60)]
    before = stack.gateway.program.rss_bytes
    with opened(alice, buffer_bytes=2048):
        wait_until(lambda: open_sockets(stack) == 1, "the websocket", 5)
        for number in range(4):
            for task in tasks:
                good(alice.control(task["id"], ("pause", "restart")[number % 2]))
            if not open_sockets(stack):
                break
        wait_until(lambda: open_sockets(stack) == 0, "its end", 10)
        wait_until(lambda: "ESTABLISHED" not in _state_of(stack), "the connection's end", 15)
    assert stack.gateway.program.rss_bytes - before < 4 * MIB


def _state_of(stack: Stack) -> str:
    """Whether unread bytes keep a connection of the gateway's: those of callers wait for nothing."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    port = f":{stack.gateway.port:04X}"
    for line in lines:
        _, local, _, state, queues, *_ = line.split()
        if local.endswith(port) and state == "01" and int(queues.split(":")[0], 16):
            return "ESTABLISHED"
    return ""


@pytest.mark.promise(25)
def test_c105_another_s_task_is_refused_exactly_as_one_that_is_not_there(stack: Stack, alice: Caller) -> None:
    task_id = alice.create("sockets/private.bin", 5)["id"]
    mallory = stack.caller("mallory of c105")
    answers = [refusal(mallory, f"/v1/tasks/{name}/progress") for name in (task_id, "A" * 22, "none")]

    assert answers[0]["code"] == "task_not_found"
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.promise(21, 30)
def test_c106_a_subject_and_a_process_hold_so_many(stack: Stack, alice: Caller) -> None:
    before = descriptors(stack)
    with ExitStack() as held:
        for _ in range(PER_SUBJECT):
            held.enter_context(opened(alice))
        assert refusal(alice)["code"] == "rate_limited"
        for caller in (stack.caller("bob of c106"), stack.caller("carol of c106")):
            with suppress(Refused):  # once there are as many as there may be
                for _ in range(PER_SUBJECT):
                    held.enter_context(opened(caller))
        document = refusal(stack.caller("dave of c106"))
        assert (document["status"], document["code"], document["retryable"]) == (503, "overloaded", True)
        assert open_sockets(stack) == IN_ALL
        assert descriptors(stack) - before < IN_ALL + 20
    wait_until(lambda: open_sockets(stack) == 0, "their end", 10)
    with watch(alice) as websocket:
        assert json.loads(websocket.recv(5))["type"] == "snapshot"


def test_c107_the_end_of_the_token_closes_with_4401(stack: Stack) -> None:
    fleeting = stack.caller_with(token("fleeting of c107", seconds=2))
    began = time.monotonic()
    with watch(fleeting) as websocket:
        with suppress(ConnectionClosed):
            while True:
                websocket.recv(10)
        assert websocket.close_code == 4401
    assert time.monotonic() - began < 4


def test_c108_a_websocket_takes_no_commands(alice: Caller) -> None:
    task = alice.create("sockets/commands.bin", 5)
    with watch(alice, f"/v1/tasks/{task['id']}/progress") as websocket:
        websocket.recv(5)
        for command in ("pause", "cancel", json.dumps({"type": "cancel", "task": task["id"], "version": 0})):
            websocket.send(command)
        websocket.ping().wait(5)

        assert alice.task(task["id"]) == task
        good(alice.control(task["id"], "pause"))
        assert json.loads(websocket.recv(5))["task"]["state"] == "paused", "it still listens to us"

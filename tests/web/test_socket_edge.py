"""Websockets whose clients send without measure, or never read. What is told on them is test_progress_socket's."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import h11
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from gateway.domain.errors import TaskNotFound
from gateway.web import socket_edge
from gateway.web.edge_connections import EdgeConnections, EdgeRules, Entry
from gateway.web.edge_deadlines import Deadlines
from gateway.web.problems import exception_handlers
from gateway.web.socket_edge import FramesMade, websocket_handshake
from tests.web.edge import EdgeServer, Recorder, Wire, running_edge

UPGRADE = (
    b"GET /watch?token=secret HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def listen(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and hears messages until the client leaves."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@asynccontextmanager
async def opened(app: Recorder) -> AsyncIterator[tuple[EdgeServer, Wire]]:
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(UPGRADE)
        assert (await wire.head())[0] == 101
        yield server, wire


async def closing_code(wire: Wire) -> int:
    """The code of the close frame; 0 when the connection broke without one."""
    async with asyncio.timeout(10):
        try:
            came = await wire.reader.read()
        except ConnectionError:  # a reset, or a broken pipe to whoever was writing just then
            return 0
    at = came.find(b"\x88")
    return int.from_bytes(came[at + 2 : at + 4]) if at >= 0 else 0


async def deserted(edge: EdgeConnections) -> None:
    """Returns once there are no connections any more."""
    async with asyncio.timeout(5):
        while len(edge):  # noqa: ASYNC110 -- nothing tells when
            await asyncio.sleep(0.01)


FLOODS = {
    "pings": [frame(Opcode.PING, b"x" * 100)] * 50_000,
    "pongs": [frame(Opcode.PONG)] * 50_000,
    "empty fragments": [frame(Opcode.TEXT, fin=False), *[frame(Opcode.CONT, fin=False)] * 50_000],
    "messages": [frame(Opcode.TEXT, b"x")] * 50_000,
}


@pytest.mark.parametrize("kind", list(FLOODS))
async def test_a_flood_of_frames_is_cut_off_and_costs_little(kind: str) -> None:
    app = Recorder(listen)
    async with opened(app) as (_, wire):
        wire.writer.write(b"".join(FLOODS[kind]))
        began = time.process_time()
        code = await closing_code(wire)
        await app.wait_for_end()

        assert code in (1008, 0)
        assert time.process_time() - began < 1, "the loop was busy with it"
    assert len(app.messages) < 100


async def test_pings_within_reason_are_answered() -> None:
    async with opened(Recorder(listen)) as (_, wire):
        for number in range(10):
            await wire.send(frame(Opcode.PING, b"%d" % number))
            assert await wire.reader.readexactly(3) == b"\x8a\x01%d" % number


async def test_one_ping_more_is_cut_off() -> None:
    async with opened(Recorder(listen)) as (_, wire):
        await wire.send(frame(Opcode.PING) * 11)

        assert await wire.reader.readexactly(20) == b"\x8a\x00" * 10
        assert await closing_code(wire) == 1008


UNREAD: dict[str, tuple[bytes, Deadlines, dict[str, Any]]] = {
    "a ping": (frame(Opcode.PING), Deadlines(answer=30), {}),
    "no frame": (b"\x83\x80mask", Deadlines(answer=0.1), {}),
    "no pong": (b"", Deadlines(answer=0.1), {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.1}),
}


@pytest.mark.promise(21)
async def test_f14_a_message_that_goes_on_for_ever_in_small_frames_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_edge, "_MESSAGE_SECONDS", 0.3)
    app = Recorder(listen)
    async with opened(app) as (_, wire):
        await wire.send(frame(Opcode.TEXT, fin=False))

        async def go_on() -> None:
            while True:
                await asyncio.sleep(0.03)
                await wire.send(frame(Opcode.CONT, fin=False), frame(Opcode.PONG))

        going_on = asyncio.create_task(go_on())
        try:
            assert await closing_code(wire) in (1008, 0)
            await app.wait_for_end()
        finally:
            going_on.cancel()
            await asyncio.gather(going_on, return_exceptions=True)


async def test_f14_a_whole_message_in_fragments_is_heard_and_the_socket_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_edge, "_MESSAGE_SECONDS", 0.2)
    app = Recorder(listen)
    async with opened(app) as (_, wire):
        for _ in range(3):
            await wire.send(frame(Opcode.TEXT, b"a", fin=False), frame(Opcode.CONT, b"b"))
            await asyncio.sleep(0.1)
        await wire.send(frame(Opcode.PING, b"here"))

        async with asyncio.timeout(5):
            assert await wire.reader.readexactly(6) == b"\x8a\x04here"
    assert [message["text"] for message in app.messages if message["type"] == "websocket.receive"] == ["ab"] * 3


@pytest.mark.parametrize("last", list(UNREAD))
async def test_c100_a_client_that_reads_nothing_of_a_megabyte_is_cut_off(last: str) -> None:
    told, over = asyncio.Event(), asyncio.Event()

    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "x" * (1 << 20)})
        told.set()
        await over.wait()  # whatever the application does

    raw, deadlines, options = UNREAD[last]
    edge = EdgeConnections(EdgeRules(deadlines))
    async with running_edge(tell, edge=edge, buffer_bytes=65536, **options) as server:
        wire = await server.connect(buffer_bytes=65536)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(UPGRADE)
        await told.wait()
        await wire.send(raw)
        await deserted(edge)
        over.set()


@pytest.mark.parametrize(
    "raw",
    [
        frame(Opcode.TEXT, b"x" * 4097),
        b"\x81\xff" + (15 << 20).to_bytes(8) + b"mask",
        frame(Opcode.TEXT, b"x" * 3000, fin=False) + frame(Opcode.CONT, b"x" * 3000),
    ],
)
async def test_a_message_over_four_kib_closes_with_1009_as_soon_as_its_length_is_known(raw: bytes) -> None:
    async with opened(Recorder(listen)) as (_, wire):
        await wire.send(raw)

        assert await closing_code(wire) == 1009


async def test_an_unread_last_word_does_not_keep_the_connection() -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            async with asyncio.timeout(1):
                while True:
                    await send({"type": "websocket.send", "text": "x" * 60_000})
        except TimeoutError:
            return

    app = Recorder(talk)
    edge = EdgeConnections(EdgeRules(Deadlines(answer=0.2)))
    async with running_edge(app, edge=edge, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(UPGRADE)
        await app.wait_for_end()
        await deserted(edge)


async def test_a_websocket_counts_as_a_connection_in_use_until_it_ends() -> None:
    edge = EdgeConnections(EdgeRules(per_address_count=1))
    async with running_edge(Recorder(listen), edge=edge) as server:
        wire = await server.connect()
        await wire.send(UPGRADE)
        await wire.head()
        refused = await server.connect()
        assert (await refused.answer()).status == 503
        await wire.close()
        await refused.close()
        await deserted(edge)

        assert edge.admit(_Idle(), "127.0.0.1", 0) is Entry.SERVED


class _Idle:
    is_idle = True

    def close_idle(self) -> None:
        pass


async def test_no_query_of_a_handshake_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with opened(Recorder(listen)) as (_, wire):
        await wire.close()

    assert not [record for record in caplog.records if "secret" in record.getMessage() and record.name != "asyncio"]


async def test_a_refused_handshake_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"2")]
        await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async with running_edge(refuse) as server:
        wire = await server.connect()
        await wire.send(UPGRADE)
        came = await wire.answer()

        assert (came.status, came.body) == (403, b"no")
        assert await wire.is_closed()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("verdict", ["may watch", "may not"])
async def test_a_client_that_leaves_before_its_websocket_opens_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture, verdict: str
) -> None:
    judging, left = asyncio.Event(), asyncio.Event()

    async def judge(websocket: WebSocket) -> None:
        judging.set()
        await left.wait()
        if verdict == "may not":
            raise TaskNotFound("No such task.")
        await websocket.accept()
        assert (await websocket.receive())["type"] == "websocket.disconnect"

    app = Recorder(Starlette(routes=[WebSocketRoute("/watch", judge)], exception_handlers=exception_handlers()))
    edge = EdgeConnections()
    async with running_edge(app, edge=edge) as server:
        wire = await server.connect()
        await wire.send(UPGRADE)
        await judging.wait()
        await wire.close()
        await deserted(edge)
        left.set()
        await app.wait_for_end()

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_client_that_sends_what_is_no_frame_before_its_websocket_opens_is_cut_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    edge = EdgeConnections()
    async with running_edge(Recorder(listen), edge=edge) as server:
        wire = await server.connect()
        await wire.send(UPGRADE + b"\x81\xfe\xff\xff" + bytes(100_000))

        assert await wire.is_closed()
        await deserted(edge)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.promise(22)
@pytest.mark.parametrize("verdict", ["may watch", "may not"])
async def test_a_handshake_under_way_when_the_process_stops_is_told_so(verdict: str) -> None:
    begun, stopping = asyncio.Event(), asyncio.Event()

    async def judge(websocket: WebSocket) -> None:
        begun.set()
        await stopping.wait()
        if verdict == "may not":
            raise TaskNotFound("No such task.")
        await websocket.accept()

    app = Starlette(routes=[WebSocketRoute("/watch", judge)], exception_handlers=exception_handlers())
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(UPGRADE)
        await begun.wait()
        server.shut_down_connections()
        stopping.set()
        came = await wire.answer()
        await server.stop()

        told = json.loads(came.body)["code"]
        if verdict == "may watch":
            assert (came.status, told, came.headers["retry-after"]) == (503, "server_draining", "1")
        else:
            assert (came.status, told) == (404, "task_not_found")
        assert await wire.is_closed()


async def test_f10_a_text_arrives_whole_however_long_and_whoever_else_is_sent_one() -> None:
    texts = ["", "x" * 125, "é" * 63, "x" * 126, "键" * 21_845, "键" * 21_845 + "x", "x" * 200_000]

    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for text in texts:
            await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.close"})

    async def hear(port: int) -> list[str]:
        async with connect(f"ws://127.0.0.1:{port}/", max_size=None) as client:
            return [str(text) async for text in client]

    async with running_edge(tell) as server:
        assert await asyncio.gather(*(hear(server.port) for _ in range(3))) == [texts] * 3


def test_f10_sockets_that_are_sent_one_text_hold_one_frame() -> None:
    frames, text = FramesMade(), "x" * 1000

    assert frames.of(text) is frames.of(text)
    assert frames.of("other")[2:] == b"other"
    assert frames.of(text) == b"\x81\x7e\x03\xe8" + text.encode()


async def test_sending_on_a_websocket_that_was_cut_off_is_a_lost_client_and_no_error() -> None:
    async def insist(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "too late"})

    app = Recorder(insist)
    async with opened(app) as (_, wire):
        await wire.send(frame(Opcode.TEXT, b"x" * 4097))
        assert await closing_code(wire) == 1009
        await app.wait_for_end()


KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
VERSION = b"Sec-WebSocket-Version: 13"
HANDSHAKE = (b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket", VERSION, KEY)


def handshake(*lines: bytes, first: bytes = b"GET /watch HTTP/1.1") -> bytes | None:
    connection = h11.Connection(h11.SERVER, 64 * 1024)
    connection.receive_data(b"\r\n".join([first, b"Host: a", *lines]) + b"\r\n\r\n")
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    return websocket_handshake(request, list(request.headers))


def test_a_whole_handshake_asks_for_a_websocket() -> None:
    told = handshake(*HANDSHAKE, b"X: \x80", b"Sec-WebSocket-Protocol: gateway.v1, bearer.a.b-c.d_e")

    assert told is not None
    assert told.startswith(b"GET /watch HTTP/1.1\r\nhost: a\r\n")
    assert told.endswith(b"bearer.a.b-c.d_e\r\n\r\n")


NO_HANDSHAKES = {
    "another connection": [b"Connection: keep-alive", *HANDSHAKE[1:]],
    "a connection that is no list": [b"Connection: @@", *HANDSHAKE],
    "another protocol": [HANDSHAKE[0], b"Upgrade: h2c", VERSION, KEY],
    "another protocol too": [b"Upgrade: h2c", *HANDSHAKE],
    "no upgrade": [HANDSHAKE[0], VERSION, KEY],
    "another version": [*HANDSHAKE[:2], b"Sec-WebSocket-Version: 8", KEY],
    "no version": [*HANDSHAKE[:2], KEY],
    "two versions": [*HANDSHAKE, VERSION],
    "a short key": [*HANDSHAKE[:3], b"Sec-WebSocket-Key: short"],
    "no key": [*HANDSHAKE[:3]],
    "two keys": [*HANDSHAKE, KEY],
    "subprotocols that are no list": [*HANDSHAKE, b"Sec-WebSocket-Protocol: @, ;"],
    "a length of its own": [*HANDSHAKE, b"Content-Length: 00"],
    "a control character": [*HANDSHAKE, b"X: a\x01b"],
    "a line of 9 KB": [*HANDSHAKE, b"X: " + b"a" * 9000],
    "200 headers": [*HANDSHAKE, *[b"X: 1"] * 200],
}


@pytest.mark.parametrize("row", list(NO_HANDSHAKES))
def test_half_a_handshake_is_a_request_like_others(row: str) -> None:
    assert handshake(*NO_HANDSHAKES[row]) is None


@pytest.mark.parametrize("first", [b"POST / HTTP/1.1", b"GET / HTTP/1.0", b"GET /" + b"a" * 9000 + b" HTTP/1.1"])
def test_a_handshake_is_a_get_of_http_1_1_in_a_line_of_8_kib(first: bytes) -> None:
    assert handshake(*HANDSHAKE, first=first) is None


async def test_s10_a_websocket_behind_a_proxy_is_a_request_under_way_until_it_ends() -> None:
    edge = EdgeConnections(EdgeRules(trusted_proxies=[ip_network("127.0.0.0/8")], per_address_count=1))
    claimed = UPGRADE.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n")
    async with running_edge(listen, edge=edge) as server:
        first, second = await server.connect(), await server.connect()
        await first.send(claimed)
        assert (await first.head())[0] == 101
        await second.send(claimed)
        assert (await second.answer()).status == 429
        await second.close()  # or the server waits for it
        first.reset()
        await deserted(edge)

        third = await server.connect()
        await third.send(claimed)
        assert (await third.head())[0] == 101

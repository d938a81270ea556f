"""Connections: one request after another, refusals, draining, closing, and their ends."""

import asyncio
import json
import random
import socket
from contextlib import suppress
from contextvars import ContextVar

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from gateway.domain.errors import all_codes
from gateway.web import edge_protocol
from gateway.web.edge_connections import EdgeConnections
from gateway.web.edge_protocol import DRAIN_BYTES, DRAIN_SECONDS
from gateway.web.http_edge import DIRECT_FROM_BYTES, MAX_PIPELINED
from tests.web.edge import Recorder, answer, echo, read_body, refuse, running_edge

GET = b"GET /%s HTTP/1.1\r\nHost: gateway\r\n\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n"


async def test_one_connection_serves_one_request_after_another() -> None:
    async with running_edge(echo) as server:
        wire = await server.connect()
        for number in range(5):
            body = b"%d" % number * number
            await wire.send(POST % (b"%d" % number, len(body)) + body)
            came = await wire.answer()

            assert (came.status, came.headers["x-path"], came.body) == (200, f"/{number}", body)
            assert not came.closes
            assert "date" in came.headers


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    under_way: list[Scope] = []

    async def one_at_a_time(scope: Scope, receive: Receive, send: Send) -> None:
        under_way.append(scope)
        assert len(under_way) == 1
        body = await read_body(receive)
        await asyncio.sleep(0)
        under_way.remove(scope)
        await answer(send, body, 200, (b"x-path", scope["raw_path"]))

    requests = [GET % b"a", POST % (b"b", 3) + b"bbb", POST % (b"c", 0), GET % b"d"]
    chunked = b"POST /e HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\neee\r\n0\r\n\r\n"
    async with running_edge(one_at_a_time) as server:
        wire = await server.connect()
        await wire.send(b"".join(requests) + chunked + GET % b"f")

        answers = [await wire.answer() for _ in range(6)]

    assert [came.headers["x-path"] for came in answers] == ["/a", "/b", "/c", "/d", "/e", "/f"]
    assert [came.body for came in answers] == [b"", b"bbb", b"", b"", b"eee", b""]


async def test_a_large_body_ends_where_the_next_request_begins() -> None:
    body = random.Random(3).randbytes(3 * DIRECT_FROM_BYTES + 11)
    async with running_edge(echo) as server:
        wire = await server.connect()
        await wire.send(POST % (b"a", len(body)) + body[:7], body[7:] + POST % (b"b", len(body)) + body + GET % b"c")

        answers = [await wire.answer() for _ in range(3)]

    assert [(came.headers["x-path"], came.body) for came in answers] == [("/a", body), ("/b", body), ("/c", b"")]


async def test_a_long_row_of_pipelined_requests_ends_with_the_connection() -> None:
    async with running_edge(echo) as server:
        wire = await server.connect()
        await wire.send(GET % b"" * (2 * MAX_PIPELINED))
        count = 0
        while not (await wire.answer()).closes:
            count += 1

        assert MAX_PIPELINED <= count <= MAX_PIPELINED + 1
        assert await wire.is_closed()


async def test_requests_cut_at_every_byte_are_the_same_requests() -> None:
    raw = POST % (b"a", 5) + b"hello" + GET % b"b"
    async with running_edge(echo) as server:
        for cut in range(1, len(raw)):
            wire = await server.connect()
            await wire.send(raw[:cut], raw[cut:])

            answers = [await wire.answer(), await wire.answer()]
            assert [(came.headers["x-path"], came.body) for came in answers] == [("/a", b"hello"), ("/b", b"")], cut
            await wire.close()


async def test_no_claim_of_who_the_client_is_gets_past_the_edge() -> None:
    app = Recorder(echo)
    names = (b"X-Forwarded-For", b"x-forwarded-proto", b"Forwarded", b"X-Real-IP", b"X-Request-Waited")
    claims = b"".join(name + b": 198.51.100.7\r\n" for name in names)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(b"GET / HTTP/1.1\r\nHost: gateway\r\n" + claims + b"X-Else: kept\r\n\r\n")
        await wire.answer()

    (scope,) = app.scopes
    assert scope["headers"] == [(b"host", b"gateway"), (b"x-else", b"kept")]
    assert scope["client"][0] == "127.0.0.1"


async def test_a_pipelined_request_inherits_nothing_of_the_one_before() -> None:
    of_the_task: ContextVar[str] = ContextVar("of_the_task")
    seen: list[str | None] = []

    async def marking(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(of_the_task.get(None))
        of_the_task.set("the one before")
        await answer(send)

    async with running_edge(marking) as server:
        wire = await server.connect()
        await wire.send(GET % b"a" + GET % b"b")
        await wire.answer()
        await wire.answer()

    assert seen == [None, None]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_the_connection_closes_where_the_client_or_its_version_says_so(head: bytes) -> None:
    async with running_edge(echo) as server:
        wire = await server.connect()
        await wire.send(head)

        assert (await wire.answer()).closes
        assert await wire.is_closed()


async def test_a_connection_between_requests_is_closed_after_a_while() -> None:
    async with running_edge(echo, timeout_keep_alive=1) as server:
        wire = await server.connect()
        await wire.send(GET % b"")
        assert not (await wire.answer()).closes

        assert await wire.is_closed()


GARBAGE: dict[str, tuple[bytes, str]] = {
    "no http at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "bad_request_target"),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: a\n\n", "bad_framing"),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", "bad_framing"),
    "length of 17 digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % (b"9" * 17), "bad_framing"),
    "two lengths that agree": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "bad_framing",
    ),
    "only words": (b"hello\r\n\r\n", "bad_framing"),
    "http 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_framing"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", "bad_framing"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "bad_framing"),
    "length -1": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "bad_framing"),
    "length +3": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", "bad_framing"),
    "length 0x3": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", "bad_framing"),
    "length 1_0": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", "bad_framing"),
    "lengths that differ": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "bad_framing",
    ),
    "length of 21 digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % (b"9" * 21), "bad_framing"),
    "length and encoding": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_framing",
    ),
    "encoding and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "bad_framing",
    ),
    "http 1.9": (b"GET / HTTP/1.9\r\nHost: a\r\n\r\n", "bad_framing"),
    "encoding xchunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "bad_framing"),
    "encoding gzip, chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "bad_framing",
    ),
    "encoding twice": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "bad_framing",
    ),
    "space before the colon": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", "bad_framing"),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", "bad_framing"),
    "CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "bad_framing"),
    "space in a name": (b"GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", "bad_framing"),
    "8-bit path": (b"GET /\xe4\xbd\xa0 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request_target"),
    "endless path": (b"GET /" + b"a" * 70_000, "uri_too_long"),
    "endless header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, "header_too_large"),
    "endless headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 20_000, "header_too_large"),
}


@pytest.mark.parametrize("row", list(GARBAGE))
async def test_what_is_no_message_is_refused_and_the_connection_closed(row: str) -> None:
    raw, code = GARBAGE[row]
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(raw)
        came = await wire.answer()

        assert came.closes
        async with asyncio.timeout(DRAIN_SECONDS / 2):
            assert await wire.is_closed(), "whoever waits for the end does not wait for the draining"

    problem = json.loads(came.body)
    assert came.headers["content-type"] == "application/problem+json"
    assert (came.status, problem["status"], problem["code"]) == (all_codes()[code].status_hint, came.status, code)
    assert problem["request_id"] == came.headers["x-request-id"] != ""
    assert app.scopes == []


async def test_garbage_behind_a_good_request_leaves_its_answer_alone() -> None:
    async with running_edge(echo) as server:
        wire = await server.connect()
        await wire.send(POST % (b"a", 3) + b"abc" + b"garbage\r\n\r\n")

        assert (await wire.answer()).body == b"abc"
        assert (await wire.answer()).status == 400
        assert await wire.is_closed()


BROKEN_CHUNKS = {
    "no number": b"zz\r\nhello\r\n",
    "negative": b"-1\r\nhello\r\n",
    "prefix": b"0x5\r\nhello\r\n",
    "bytes after the data": b"5\r\nhelloXX\r\n",
    "no number behind a good one": b"2\r\nhe\r\nzz\r\n",
    "line feed in an extension": b"5;a=\nb\r\nhello\r\n",
}


@pytest.mark.parametrize("row", list(BROKEN_CHUNKS))
async def test_broken_chunks_end_the_body_without_an_end(row: str) -> None:
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + BROKEN_CHUNKS[row])
        came = await wire.answer()
        await app.wait_for_end()

        assert (came.status, json.loads(came.body)["code"], came.closes) == (400, "bad_framing", True)
        assert await wire.is_closed()

    assert app.kinds[-1] == "http.disconnect"


async def test_broken_chunks_in_the_packet_of_their_head_leave_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge_protocol, "DRAIN_SECONDS", 0.1)
    edge = EdgeConnections()
    async with running_edge(echo, edge=edge) as server, asyncio.timeout(5):
        wire = await server.connect()
        await wire.send(b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n")
        assert (await wire.answer()).status == 400

        while len(edge):  # noqa: ASYNC110 -- though the client keeps its side open; the edge tells nobody
            await asyncio.sleep(0.01)


async def test_a_refused_body_of_up_to_a_mebibyte_is_drained_and_the_connection_used_again() -> None:
    async with running_edge(refuse) as server:
        wire = await server.connect()
        await wire.send(POST % (b"a", DRAIN_BYTES), bytes(DRAIN_BYTES))

        assert not (await wire.answer()).closes
        await wire.send(GET % b"b")
        assert (await wire.answer()).status == 403


async def test_a_request_in_the_packet_of_a_drained_body_s_end_is_served() -> None:
    async with running_edge(refuse) as server:
        wire = await server.connect()
        await wire.send(POST % (b"a", 5) + b"he")
        await wire.answer()
        await wire.send(b"llo" + GET % b"b")

        assert (await wire.answer()).status == 403


def send_all_then_read(port: int, raw: bytes) -> tuple[bytes, bool]:
    """What a simple blocking client reads, once all of *raw* is sent or cut off; and whether it was cut off."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        cut = False
        try:
            client.sendall(raw)
        except ConnectionError:
            cut = True
        came = b""
        with suppress(ConnectionError):
            while data := client.recv(65536):
                came += data
        return came, cut


@pytest.mark.parametrize("size", [2 * DRAIN_BYTES, 20 * DRAIN_BYTES])
async def test_a_larger_refused_body_closes_the_connection_and_its_sender_still_reads_why(size: int) -> None:
    async with running_edge(refuse) as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        came, was_cut = await asyncio.to_thread(send_all_then_read, server.port, POST % (b"a", size) + bytes(size))

        assert came.startswith(b"HTTP/1.1 403 ")
        assert b"connection: close" in came.lower()
        assert was_cut or size == 2 * DRAIN_BYTES
        assert loop.time() - began < DRAIN_SECONDS + 1


async def test_a_refused_body_that_never_comes_is_not_waited_for() -> None:
    async with running_edge(refuse) as server:
        wire = await server.connect()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await wire.send(POST % (b"a", 1000))

        assert not (await wire.answer()).closes
        assert await wire.is_closed()
        assert DRAIN_SECONDS - 0.1 < loop.time() - began < DRAIN_SECONDS + 1


async def test_a_refused_chunked_body_closes_the_connection() -> None:
    async with running_edge(refuse) as server:
        wire = await server.connect()
        await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")

        assert (await wire.answer()).closes
        assert await wire.is_closed()


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts a websocket and sends back its first message; answers requests."""
    if scope["type"] != "websocket":
        await answer(send, b"plain")
        return
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "text": f"{scope['path']} {message['text']}"})
    await send({"type": "websocket.close", "code": 1000})


async def test_a_websocket_is_handed_over() -> None:
    async with running_edge(greet) as server, connect(f"ws://127.0.0.1:{server.port}/watch") as websocket:
        await websocket.send("hello")

        assert await websocket.recv() == "/watch hello"


async def test_a_websocket_on_a_connection_that_served_requests_keeps_the_frame_behind_its_head() -> None:
    upgrade = (
        b"GET /watch HTTP/1.1\r\nHost: gateway\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    frame = Frame(Opcode.TEXT, b"hello").serialize(mask=True)
    async with running_edge(greet) as server:
        wire = await server.connect()
        await wire.send(GET % b"")
        assert (await wire.answer()).body == b"plain"
        await wire.send(upgrade + frame)

        assert (await wire.head())[0] == 101
        assert await wire.reader.readexactly(2) == bytes([0x81, len("/watch hello")])
        assert await wire.reader.readexactly(len("/watch hello")) == b"/watch hello"


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_any_other_upgrade_is_a_request_like_others_with_its_body(head: bytes) -> None:
    async with running_edge(echo) as server:
        wire = await server.connect()
        await wire.send(head + GET % b"next")

        assert (await wire.answer()).body == b"abc"
        assert (await wire.answer()).headers["x-path"] == "/next"


async def test_stopping_closes_idle_connections_and_lets_requests_under_way_end() -> None:
    go = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await answer(send, await read_body(receive))

    app = Recorder(slow)
    async with running_edge(app) as server:
        idle, busy = await server.connect(), await server.connect()
        await busy.send(POST % (b"", 5) + b"he")
        await app.begun.wait()
        stopping = asyncio.create_task(server.stop())
        assert await idle.is_closed()
        await busy.send(b"llo")
        go.set()
        came = await busy.answer()
        await stopping

    assert (came.status, came.body, came.closes) == (200, b"hello", True)


async def test_stopping_ends_a_connection_whose_answer_had_begun_without_saying_so() -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def in_two(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        began.set()
        await go.wait()
        await send({"type": "http.response.body", "body": b"ok"})

    async with running_edge(in_two) as server:
        idle, wire = await server.connect(), await server.connect()
        await wire.send(GET % b"")
        await began.wait()
        stopping = asyncio.create_task(server.stop())
        assert await idle.is_closed()
        go.set()
        came = await wire.answer()

        assert (came.body, came.closes) == (b"ok", False)
        assert await wire.is_closed()
        await stopping


async def test_requests_that_outlast_the_time_to_stop_are_cancelled_and_their_connections_closed() -> None:
    async def for_ever(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    app = Recorder(for_ever)
    async with running_edge(app, timeout_graceful_shutdown=0) as server:
        wire = await server.connect()
        await wire.send(GET % b"")
        await app.begun.wait()
        await server.stop()

        assert await wire.is_closed()
    assert app.ended.is_set()


def late_echo(release: asyncio.Event) -> ASGIApp:
    """Echoes once *release* is set: its client has closed its sending side long before."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        await release.wait()
        await answer(send, body, 200, (b"x-path", scope["raw_path"]))

    return app


WHOLE_REQUESTS = {
    "no body": (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "no keep-alive": (b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b""),
    "HTTP/1.0": (b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n", b""),
    "a body": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "a chunked body": (
        b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    "a large body": (
        b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"l" * 3_000_000,
        b"l" * 3_000_000,
    ),
}


@pytest.mark.parametrize("row", list(WHOLE_REQUESTS))
async def test_f11_a_client_that_has_sent_all_and_closed_its_side_gets_its_answer(row: str) -> None:
    raw, body = WHOLE_REQUESTS[row]
    release = asyncio.Event()
    app = Recorder(late_echo(release))
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(raw)
        wire.writer.write_eof()
        await app.begun.wait()
        asyncio.get_running_loop().call_later(0.05, release.set)
        answered = await wire.answer()

        assert (answered.status, answered.body) == (200, body)
        assert await wire.is_closed()


async def test_f11_pipelined_requests_behind_a_half_close_are_all_answered() -> None:
    release = asyncio.Event()
    async with running_edge(late_echo(release)) as server:
        wire = await server.connect()
        await wire.send(*(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3)))
        wire.writer.write_eof()
        asyncio.get_running_loop().call_later(0.05, release.set)

        assert [(await wire.answer()).headers["x-path"] for _ in range(3)] == ["/0", "/1", "/2"]
        assert await wire.is_closed()


@pytest.mark.parametrize(
    "behind",
    [
        b"GET /half HTTP/1.1\r\nHo",
        b"PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        b"",
        b"\x00junk\r\n\r\n",
    ],
)
async def test_f11_half_a_request_behind_a_whole_one_ends_the_connection(behind: bytes) -> None:
    release = asyncio.Event()
    edge = EdgeConnections()
    async with running_edge(late_echo(release), edge=edge) as server:
        wire = await server.connect()
        await wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + behind)
        wire.writer.write_eof()
        asyncio.get_running_loop().call_later(0.05, release.set)

        assert (await wire.answer()).headers["x-path"] == "/a"
        async with asyncio.timeout(5):
            await wire.reader.read()  # to the end
            while len(edge):  # noqa: ASYNC110 -- nothing tells when
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "half",
    [
        b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\nhalf",
        b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_f11_a_half_closed_client_in_the_middle_of_a_body_is_a_broken_body(half: bytes) -> None:
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(half)
        wire.writer.write_eof()

        assert await wire.is_closed()
        await app.wait_for_end()
    assert app.kinds[-1] == "http.disconnect"


async def test_f11_a_client_that_leaves_without_a_request_leaves_nothing_behind() -> None:
    edge = EdgeConnections()
    async with running_edge(echo, edge=edge) as server:
        for raw in (b"", b"GET /half HTTP/1.1\r\nHo", b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"):
            wire = await server.connect()
            if raw.endswith(b"\r\n\r\n"):
                await wire.send(raw)
                await wire.answer()
            else:
                await wire.send(raw)
            wire.writer.write_eof()
            assert await wire.is_closed()
        async with asyncio.timeout(5):
            while len(edge):  # noqa: ASYNC110 -- nothing tells when
                await asyncio.sleep(0.01)

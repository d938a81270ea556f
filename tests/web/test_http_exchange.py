"""What one request brings to the application, and how its answer gets out. Connections are test_http_edge's."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.web.edge_protocol import DRAIN_SECONDS
from gateway.web.http_edge import HttpEdge
from gateway.web.http_exchange import UNREAD_BYTES
from tests.web.edge import Recorder, Wire, answer, echo, read_body, refuse, running_edge

HEAD = b"POST / HTTP/1.1\r\nHost: gateway\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def with_length(size: int, *more: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n" % size + b"".join(line + b"\r\n" for line in more) + b"\r\n"


def as_chunks(rng: random.Random, body: bytes) -> bytes:
    raw, at = b"", 0
    while at < len(body):
        chunk = body[at : at + rng.randint(1, 9000)]
        raw += b"%x%s\r\n%s\r\n" % (len(chunk), rng.choice([b"", b";a=b", b';a="b c"']), chunk)
        at += len(chunk)
    return raw + b"0\r\n" + rng.choice([b"", b"X-Trailer: 1\r\n"]) + b"\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("seed", range(8))
async def test_a_body_arrives_as_it_was_sent_however_it_is_split(seed: int, chunked: bool) -> None:
    rng = random.Random(seed)
    body = rng.randbytes(rng.choice([1, 100, 70_000, 900_000]))
    raw = CHUNKED + as_chunks(rng, body) if chunked else with_length(len(body)) + body
    raw += b"GET /next HTTP/1.1\r\nHost: gateway\r\n\r\n"
    cuts = sorted(rng.sample(range(1, len(raw)), rng.randint(1, 30)))
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        reading = asyncio.create_task(wire.answer())
        for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            await wire.send(raw[begin:end])
            if rng.random() < 0.3:
                await asyncio.sleep(0.001)
        assert (await reading).body == body
        assert (await wire.answer()).headers["x-path"] == "/next"

    requests = [message for message in app.messages if message["type"] == "http.request"]
    assert [message["more_body"] for message in requests].count(False) == 2


async def test_a_body_with_a_length_reaches_the_application_uncopied() -> None:
    arrived: list[bytes] = []

    class Noting(HttpEdge):
        def data_received(self, data: bytes) -> None:
            arrived.append(data)
            super().data_received(data)

    body = random.Random(1).randbytes(2_000_000)
    app = Recorder(echo)
    async with running_edge(app, protocol=Noting) as server:
        wire = await server.connect()
        reading = asyncio.create_task(wire.answer())
        await wire.send(with_length(len(body)))
        await app.begun.wait()
        await wire.send(body)
        assert (await reading).body == body

    assert len(app.pieces) > 1
    assert all(any(piece is data for data in arrived) for piece in app.pieces)


async def test_a_body_that_drips_in_byte_by_byte_arrives_whole() -> None:
    async with running_edge(echo) as server:
        wire = await server.connect()
        for byte in with_length(5) + b"hello":
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)

        assert (await wire.answer()).body == b"hello"


async def test_a_body_in_the_packet_of_its_head_with_another_head_behind_it_is_cut_at_its_end() -> None:
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(with_length(3) + b"abcGET /next HTTP/1.1\r\nHost: gateway\r\n\r\n")

        assert (await wire.answer()).body == b"abc"
        assert (await wire.answer()).headers["x-path"] == "/next"
    assert app.body == b"abc"


@pytest.mark.parametrize("raw", [with_length(0), HEAD + b"\r\n", CHUNKED + b"0\r\n\r\n"])
async def test_an_empty_body_is_one_message_without_bytes(raw: bytes) -> None:
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(raw)
        assert (await wire.answer()).status == 200

    ends = [message for message in app.messages if not message["more_body"]]
    assert app.body == b""
    assert len(ends) == 1


async def test_trailers_do_not_become_headers() -> None:
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert (await wire.answer()).body == b"abc"

    assert b"authorization" not in dict(app.scopes[0]["headers"])


async def test_the_scope_tells_of_the_request_as_asgi_wants() -> None:
    app = Recorder(echo)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(b"PUT /a%20b/%2F%E4%BD%A0?x=%201&y HTTP/1.1\r\nHOST: gateway\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n")
        await wire.answer()
        name = wire.writer.get_extra_info("sockname")

    scope = app.scopes[0]
    told = {key: scope[key] for key in ("type", "http_version", "method", "path", "raw_path", "query_string", "scheme")}
    assert told == {
        "type": "http",
        "http_version": "1.1",
        "method": "PUT",
        "path": "/a b//你",
        "raw_path": b"/a%20b/%2F%E4%BD%A0",
        "query_string": b"x=%201&y",
        "scheme": "http",
    }
    assert scope["headers"] == [(b"host", b"gateway"), (b"x-two", b"1"), (b"x-two", b"2")]
    assert (scope["client"], scope["server"]) == (name, ("127.0.0.1", server.port))


# --- Expect: 100-continue


async def test_the_client_is_told_to_continue_once_the_application_asks_for_the_body() -> None:
    asked = asyncio.Event()

    async def after_a_while(scope: Scope, receive: Receive, send: Send) -> None:
        await asked.wait()
        await answer(send, await read_body(receive))

    async with running_edge(after_a_while) as server:
        wire = await server.connect()
        await wire.send(with_length(5, b"Expect: 100-continue"))
        silence = asyncio.create_task(wire.head())
        await asyncio.sleep(0.05)
        assert not silence.done()

        asked.set()
        assert (await silence)[0] == 100
        await wire.send(b"hello")
        came = await wire.answer()

    assert (came.status, came.body, came.closes) == (200, b"hello", False)


async def test_a_client_that_is_refused_is_never_told_to_continue() -> None:
    async with running_edge(refuse) as server, asyncio.timeout(DRAIN_SECONDS / 2):
        wire = await server.connect()
        await wire.send(with_length(5, b"Expect: 100-continue"))

        assert await wire.head() == (403, {**(await _headers_of(server.port)), "connection": "close"})
        assert await wire.reader.readexactly(2) == b"no"
        assert await wire.is_closed()


async def _headers_of(port: int) -> dict[str, str]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
    await wire.send(with_length(0))
    headers = (await wire.answer()).headers
    await wire.close()
    return headers


async def test_a_client_that_did_not_wait_to_be_told_is_served() -> None:
    async with running_edge(echo) as server:
        wire = await server.connect()
        await wire.send(with_length(5, b"Expect: 100-continue") + b"hello")

        assert (await wire.head())[0] == 100
        assert (await wire.answer()).body == b"hello"


async def test_an_application_that_waits_for_the_end_after_its_answer_began_sends_no_100() -> None:
    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"ok"})
        assert (await waiting)["type"] == "http.disconnect"

    app = Recorder(listening)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(with_length(5, b"Expect: 100-continue"))

        came = await wire.answer()
        await app.wait_for_end()
    assert (came.status, came.body) == (200, b"ok")


# --- the client leaves


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset])
async def test_a_client_that_leaves_in_mid_body_is_a_disconnect_after_all_that_arrived(
    leave: Callable[[Wire], Awaitable[None] | None],
) -> None:
    arrived = asyncio.Event()

    class Noting(HttpEdge):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data.endswith(b"hello"):
                arrived.set()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            gone.set()

    gone = asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await gone.wait()
        while (await receive())["type"] != "http.disconnect":
            pass
        await answer(send)  # nobody is there any more; it must not fail

    app = Recorder(late)
    async with running_edge(app, protocol=Noting) as server:
        wire = await server.connect()
        await wire.send(with_length(10), b"hello")
        await arrived.wait()
        left = leave(wire)
        if left is not None:
            await left
        await app.wait_for_end()

    assert app.body == b"hello"
    assert app.kinds == ["http.request", "http.disconnect"]
    assert app.messages[0]["more_body"]


async def test_a_client_that_leaves_after_its_last_byte_has_brought_a_whole_body() -> None:
    gone = asyncio.Event()

    class Noting(HttpEdge):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            gone.set()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await gone.wait()
        await answer(send, await read_body(receive))

    app = Recorder(late)
    async with running_edge(app, protocol=Noting) as server:
        wire = await server.connect()
        await wire.send(with_length(5) + b"hello")
        await app.begun.wait()
        wire.break_off()
        await app.wait_for_end()

    assert app.body == b"hello"
    assert not app.messages[-1]["more_body"]


async def test_an_application_that_waits_for_nothing_more_hears_of_the_client_s_leaving() -> None:
    read = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        read.set()
        assert (await receive())["type"] == "http.disconnect"

    app = Recorder(waiting)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(with_length(5) + b"hello")
        await read.wait()
        wire.break_off()
        await app.wait_for_end()


# --- neither side drowns in what the other sends


async def _push_until_it_stops(wire: Wire, piece: bytes, most: int) -> int:
    """How many bytes the server takes before it takes none for 0.3 s."""
    sent = 0
    while sent < most:
        wire.writer.write(piece)
        sent += len(piece)
        try:
            await asyncio.wait_for(wire.writer.drain(), 0.3)
        except TimeoutError:
            break
    return sent


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_no_more_is_read_than_the_application_may_have_before_it(chunked: bool, begun: bool) -> None:
    go = asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        first = len((await receive())["body"]) if begun else 0
        await go.wait()
        await answer(send, b"%d" % (first + len(await read_body(receive))))

    most = 8 << 20
    piece = b"10000\r\n" + bytes(65536) + b"\r\n" if chunked else bytes(65536)
    count = most // 65536
    async with running_edge(late, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        await wire.send(CHUNKED if chunked else with_length(most))
        sent = await _push_until_it_stops(wire, piece, most)
        assert sent < most / 4

        go.set()
        await wire.send(*[piece] * (count - sent // len(piece)), b"0\r\n\r\n" if chunked else b"")
        assert (await wire.answer()).body == b"%d" % most


async def test_a_body_of_tiny_chunks_is_taken_in_portions() -> None:
    """Each chunk costs h11 some microseconds: a packet of 40,000 of them must not stop the loop for a second."""
    count = 40_000

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                await answer(send, b"%d" % size)
                return

    most = 0

    class Counting(HttpEdge):
        def data_received(self, data: bytes) -> None:
            nonlocal most
            super().data_received(data)
            if self._exchange is not None:
                most = max(most, len(self._exchange._pieces))

    async with running_edge(slow, protocol=Counting) as server:
        wire = await server.connect()
        await wire.send(CHUNKED + b"1\r\na\r\n" * count + b"0\r\n\r\n")

        assert (await wire.answer()).body == b"%d" % count
    assert 0 < most <= 2 * UNREAD_BYTES // 4096, "what is here is joined, and read on only once it was taken"


async def test_an_application_waits_while_the_client_does_not_read() -> None:
    sent = 0
    most = 16 << 20

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        headers = [(b"content-length", b"%d" % most)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while sent < most:
            sent += 65536
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": sent < most})

    async with running_edge(flood, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        await wire.send(with_length(0))
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < most / 2

        assert len((await wire.answer()).body) == most


async def test_an_application_that_waits_for_a_reader_is_freed_when_it_leaves() -> None:
    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    app = Recorder(flood)
    async with running_edge(app, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        await wire.send(with_length(0))
        await wire.head()
        wire.reset()

        await app.wait_for_end()


# --- answers


async def test_an_answer_without_a_length_is_chunked_or_ends_with_the_connection() -> None:
    async def in_two(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"cd"})

    async with running_edge(in_two) as server:
        wire = await server.connect()
        await wire.send(with_length(0))
        assert (await wire.head())[1]["transfer-encoding"] == "chunked"
        assert await wire.reader.readexactly(19) == b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"[:19]

        old = await server.connect()
        await old.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await old.answer()).body == b"abcd"


async def test_a_head_request_gets_the_length_and_no_body() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"a page")

    async with running_edge(page) as server:
        wire = await server.connect()
        await wire.send(b"HEAD / HTTP/1.1\r\nHost: gateway\r\n\r\nGET / HTTP/1.1\r\nHost: gateway\r\n\r\n")

        assert (await wire.answer(has_body=False)).headers["content-length"] == "6"
        assert (await wire.answer()).body == b"a page"


@pytest.mark.parametrize("status", [204, 304, 499])
async def test_answers_without_a_body_or_of_an_unusual_status_leave_the_connection_usable(status: int) -> None:
    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with running_edge(odd) as server:
        wire = await server.connect()
        for _ in range(2):
            await wire.send(with_length(0))
            found, headers = await wire.head()
            if headers.get("transfer-encoding") == "chunked":
                await wire.reader.readexactly(5)
            assert found == status


async def _nothing(send: Send) -> None:
    pass


async def _half(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


async def _more_than_it_said(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"too much"})


async def _failure(send: Send) -> None:
    raise RuntimeError("nobody expected this")


@pytest.mark.parametrize("misbehave", [_nothing, _half, _more_than_it_said, _failure])
async def test_an_application_that_does_not_end_its_answer_loses_the_connection(
    misbehave: Callable[[Send], Awaitable[None]],
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await misbehave(send)

    async with running_edge(broken) as server:
        wire = await server.connect()
        await wire.send(with_length(0))
        async with asyncio.timeout(5):
            came = await wire.reader.read()

    assert b"too much" not in came
    assert came == b"" or b"content-length" in came
    if misbehave is _half:
        assert came.endswith(b"half")


async def test_after_its_answer_an_application_reads_a_disconnect() -> None:
    last: list[Message] = []

    async def reading_on(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)
        last.append(await receive())

    app = Recorder(reading_on)
    async with running_edge(app) as server:
        wire = await server.connect()
        await wire.send(with_length(5) + b"he")
        await wire.answer()
        await app.wait_for_end()

    assert last == [{"type": "http.disconnect"}]

"""What a connection may take of time and of us, whatever is said on it. Requests are test_http_edge's."""

import asyncio
import json
from ipaddress import ip_network

import pytest
from starlette.types import Receive, Scope, Send

from gateway.web.edge_connections import EdgeConnections, EdgeRules
from gateway.web.edge_deadlines import Deadlines
from gateway.web.http_edge import HttpEdge
from gateway.web.http_exchange import UNREAD_PIECES
from tests.web.edge import Recorder, Wire, answer, echo, problem_echo, read_body, running_edge

GET = b"GET /%s HTTP/1.1\r\nHost: gateway\r\n\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
QUICK = EdgeRules(Deadlines(body_idle=0.4, body_rate=1000, answer=0.3))


@pytest.mark.parametrize(
    "begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: gate", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n"]
)
async def test_a_head_that_does_not_come_in_time_is_answered_and_the_connection_closed(begun: bytes) -> None:
    async with running_edge(echo, rules=EdgeRules(Deadlines(head=0.2))) as server:
        wire = await server.connect()
        await wire.send(begun)
        came = await wire.answer()

        assert (came.status, json.loads(came.body)["code"], came.closes) == (408, "head_timeout", True)
        assert await wire.is_closed()


async def test_the_time_for_a_head_begins_with_its_first_byte_and_no_later_byte_prolongs_it() -> None:
    async with running_edge(echo, rules=EdgeRules(Deadlines(head=0.5))) as server:
        wire = await server.connect()
        await wire.send(GET % b"a")
        assert not (await wire.answer()).closes
        await asyncio.sleep(0.7)  # idle between requests, which costs nothing of that time
        began = asyncio.get_running_loop().time()
        dripping = asyncio.create_task(_drip(wire, GET % (b"b" * 100)))
        came = await wire.answer()
        dripping.cancel()

    assert came.status == 408
    assert 0.4 < asyncio.get_running_loop().time() - began < 1.5


async def _drip(wire: Wire, raw: bytes) -> None:
    for byte in raw:
        await wire.send(bytes([byte]))
        await asyncio.sleep(0.05)


# --- bodies


@pytest.mark.parametrize("begun", [POST % (b"", 100), POST % (b"", 100) + b"half", CHUNKED + b"5\r\nhe", CHUNKED])
async def test_a_body_that_comes_to_a_halt_is_answered_and_the_connection_closed(begun: bytes) -> None:
    app = Recorder(problem_echo)
    async with running_edge(app, rules=QUICK) as server:
        wire = await server.connect()
        await wire.send(begun)
        came = await wire.answer()

        assert (came.status, json.loads(came.body)["code"], came.closes) == (408, "body_timeout", True)
        assert await wire.is_closed()
    assert begun.endswith(app.body)


async def test_a_body_that_drips_is_answered_and_the_connection_closed() -> None:
    async with running_edge(problem_echo, rules=QUICK) as server:
        wire = await server.connect()
        await wire.send(POST % (b"", 1000))
        dripping = asyncio.create_task(_drip(wire, bytes(1000)))
        came = await wire.answer()
        dripping.cancel()

        assert (came.status, json.loads(came.body)["code"], came.closes) == (408, "body_too_slow", True)


async def test_a_drip_of_tiny_chunks_is_no_faster_for_filling_up_what_is_before_the_application() -> None:
    """Each burst is more pieces than may lie there, so that for a moment no more is read."""
    async with running_edge(problem_echo, rules=EdgeRules(Deadlines(body_idle=0.4, body_rate=1_000_000))) as server:
        wire = await server.connect()
        await wire.send(CHUNKED)
        dripping = asyncio.create_task(_drip_chunks(wire, bursts=100))
        came = await wire.answer()
        dripping.cancel()

        assert (came.status, json.loads(came.body)["code"], came.closes) == (408, "body_too_slow", True)


async def _drip_chunks(wire: Wire, bursts: int) -> None:
    for _ in range(bursts):
        await wire.send(b"1\r\nx\r\n" * (UNREAD_PIECES + 100))
        await asyncio.sleep(0.02)


async def test_a_client_whom_we_keep_waiting_is_not_given_up() -> None:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.5)
        await answer(send, b"%d" % len(await read_body(receive)))

    size = 4 << 20
    async with running_edge(late, rules=QUICK, buffer_bytes=65536) as server:
        waiting, held_back = await server.connect(), await server.connect(buffer_bytes=65536)
        await waiting.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        sending = asyncio.create_task(held_back.send(POST % (b"", size), bytes(size)))

        assert (await waiting.head())[0] == 100
        await waiting.send(b"hello")
        assert (await waiting.answer()).body == b"5"
        await sending
        assert (await held_back.answer()).body == b"%d" % size


async def test_a_client_is_not_given_up_while_we_are_busy_with_what_it_sent() -> None:
    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0
        while taken < 1 << 20:
            taken += len((await receive())["body"])
        await asyncio.sleep(1.5)  # nothing is unread meanwhile, and nothing is read
        await answer(send, b"%d" % (taken + len(await read_body(receive))))

    size = 16 << 20
    async with running_edge(busy, rules=QUICK) as server:
        wire = await server.connect()
        sending = asyncio.create_task(wire.send(POST % (b"", size), bytes(size)))

        assert (await wire.answer()).body == b"%d" % size
        await sending


# --- answers


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(400):
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def test_a_client_that_never_reads_its_answer_is_cut_off() -> None:
    app = Recorder(flood)
    async with running_edge(app, rules=QUICK, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(GET % b"")

        await app.wait_for_end()


async def test_a_client_that_takes_less_than_its_share_of_an_answer_is_cut_off() -> None:
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, bytes(8 << 20))

    app = Recorder(large)
    rules = EdgeRules(Deadlines(answer=0.5, body_rate=8 << 20))
    async with running_edge(app, rules=rules, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        await wire.send(GET % b"")
        async with asyncio.timeout(3):
            while not app.ended.is_set():
                await wire.reader.read(4000)
                await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_gets_all_of_it() -> None:
    async with running_edge(flood, rules=QUICK, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        await wire.send(GET % b"")
        await wire.head()
        came, began = 0, asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 1:
            came += len(await wire.reader.read(20_000))
            await asyncio.sleep(0.02)
        while data := await wire.reader.read(1 << 20):
            came += len(data)
            if data.endswith(b"0\r\n\r\n"):
                break

    assert came > 400 * 65536


async def test_a_closing_connection_whose_client_reads_nothing_is_cut_off() -> None:
    """Also where the answer was too small for its writer to be told to wait."""
    big = bytes(1 << 20)

    async def last(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, big, 200, (b"connection", b"close"))

    lost = asyncio.Event()

    class Noting(HttpEdge):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._transport.set_write_buffer_limits(2 * len(big))

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async with running_edge(last, protocol=Noting, rules=QUICK, buffer_bytes=65536) as server:
        wire = await server.connect(buffer_bytes=65536)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(GET % b"")
        async with asyncio.timeout(5):
            await lost.wait()


# --- how many, and from whom


async def test_one_connection_too_many_hears_why() -> None:
    async with running_edge(echo, rules=EdgeRules(connections_count=1)) as server:
        first, second = await server.connect(), await server.connect()
        came = await second.answer()

        assert (came.status, json.loads(came.body)["code"], came.closes) == (503, "overloaded", True)
        assert came.headers["retry-after"] == "1"
        await first.send(GET % b"")
        assert (await first.answer()).status == 200


async def test_many_too_many_are_dropped_and_those_who_left_make_room() -> None:
    async with running_edge(echo, rules=EdgeRules(connections_count=1)) as server:
        wires = [await server.connect() for _ in range(4)]
        assert await wires[3].is_closed()
        for wire in wires:
            await wire.close()
        wire = await server.connect()
        await wire.send(GET % b"")
        while (came := await wire.answer()).status == 503:  # they have not all been seen to leave
            wire = await server.connect()
            await wire.send(GET % b"")
        assert came.status == 200


async def test_an_address_loses_its_oldest_idle_connection_to_a_new_one() -> None:
    app = Recorder(echo)
    async with running_edge(app, rules=EdgeRules(per_address_count=2)) as server:
        busy, idle = await server.connect(), await server.connect()
        await busy.send(POST % (b"", 5))
        await app.begun.wait()
        third = await server.connect()

        assert await idle.is_closed()
        for wire, rest in ((busy, b"hello"), (third, GET % b"")):
            await wire.send(rest)
            assert (await wire.answer()).status == 200


@pytest.mark.parametrize(("trusted", "client"), [((), "127.0.0.1"), (("127.0.0.0/8",), "198.51.100.7")])
async def test_only_a_listed_proxy_tells_where_a_request_comes_from(trusted: tuple[str, ...], client: str) -> None:
    app = Recorder(echo)
    rules = EdgeRules(trusted_proxies=[ip_network(text) for text in trusted], per_address_count=1)
    async with running_edge(app, rules=rules) as server:
        wire = await server.connect()
        claims = b"X-Forwarded-For: 1.1.1.1, 198.51.100.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.1.1.1\r\n"
        await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + claims + b"\r\n")
        await wire.answer()

    assert app.scopes[0]["client"][0] == client
    assert app.scopes[0]["headers"] == [(b"host", b"a")]


def proxied(client: bytes, path: bytes = b"/", more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %b\r\n%b\r\n" % (path, client, more)


class Held:
    """Answers a request only when its path is not /held, or once it is released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/held":
            self.held += 1
            await self.release.wait()
        await echo(scope, receive, send)


def behind_a_proxy(most: int) -> EdgeConnections:
    return EdgeConnections(EdgeRules(trusted_proxies=[ip_network("127.0.0.0/8")], per_address_count=most))


async def test_s10_behind_a_proxy_the_requests_under_way_of_one_client_are_counted() -> None:
    app, edge = Held(), behind_a_proxy(2)
    async with running_edge(app, edge=edge) as server:
        wires = [await server.connect() for _ in range(4)]
        for wire in wires[:2]:
            await wire.send(proxied(b"198.51.100.7", b"/held"))
        async with asyncio.timeout(5):
            while app.held < 2:  # noqa: ASYNC110 -- nothing tells when
                await asyncio.sleep(0.01)
        await wires[2].send(proxied(b"198.51.100.7"))
        refused = await wires[2].answer()
        await wires[3].send(proxied(b"198.51.100.8"))
        other = await wires[3].answer()
        app.release.set()
        held = [(await wire.answer()).status for wire in wires[:2]]
        again = []
        for _ in range(5):
            await wires[3].send(proxied(b"198.51.100.7"))
            again.append((await wires[3].answer()).status)

    assert (refused.status, refused.headers["retry-after"], refused.closes) == (429, "1", True)
    assert json.loads(refused.body)["code"] == "rate_limited"
    assert (other.status, held, again) == (200, [200, 200], [200] * 5)
    assert not edge._requests


@pytest.mark.parametrize("end", ["reset", "bad framing"])
async def test_s10_a_request_that_breaks_is_no_longer_under_way(end: str) -> None:
    edge = behind_a_proxy(1)
    begun = b"PUT / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running_edge(echo, edge=edge) as server:
        for _ in range(3):
            wire = await server.connect()
            await wire.send(begun)
            if end == "reset":
                wire.reset()
            else:
                await wire.send(b"no chunk\r\n")
                await wire.reader.read()
                await wire.close()  # or the server waits for it
            async with asyncio.timeout(5):
                while edge._requests or len(edge):  # noqa: ASYNC110 -- nothing tells when
                    await asyncio.sleep(0.01)
        wire = await server.connect()
        await wire.send(proxied(b"198.51.100.7"))
        assert (await wire.answer()).status == 200


async def test_s10_a_proxy_that_names_nobody_has_no_limit() -> None:
    app, edge = Held(), behind_a_proxy(1)
    async with running_edge(app, edge=edge) as server:
        wires = [await server.connect() for _ in range(3)]
        for wire in wires[:2]:
            await wire.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        await wires[2].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

        assert (await wires[2].answer()).status == 200
        app.release.set()

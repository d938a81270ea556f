"""The transport against a server that misbehaves byte by byte."""

import asyncio
import random
from collections.abc import Callable

import httpx
import pytest

from gateway.cos.transport import AiohttpTransport
from tests.cos.raw_server import RawServer, Script, always, answer, raw_server
from tests.cos.sending import LIMITS, MIB, Chunks, put, send


@pytest.mark.parametrize(
    "target",
    ["/%27%26%3D%2A%2F", "/x/../y", "//a//", "/a%20b+c?partNumber=1&uploadId=%2F%27", "/?uploads", "/%E4%B8%AD"],
)
async def test_the_request_target_leaves_byte_for_byte(transport: AiohttpTransport, target: str) -> None:
    async with raw_server(always(answer())) as server:
        await send(transport, put(server, target=target))

        assert server.heads[0].split(b"\r\n")[0] == f"PUT {target} HTTP/1.1".encode()


async def test_no_header_is_added_changed_or_left_out(transport: AiohttpTransport) -> None:
    async with raw_server(always(answer())) as server:
        request = put(server, b"12345")
        request.headers["x-cos-meta-Name"] = "a  b"
        await send(transport, request)
        await send(transport, put(server, method="POST"))

        assert server.heads[0] == (
            b"PUT /k HTTP/1.1\r\nhost: b-1.cos.r.myqcloud.com\r\ncontent-length: 5\r\nx-cos-meta-Name: a  b\r\n\r\n"
        )
        assert server.heads[1] == b"POST /k HTTP/1.1\r\nhost: b-1.cos.r.myqcloud.com\r\ncontent-length: 0\r\n\r\n"


def refusing(server: RawServer) -> Script:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_head(reader)
        writer.write(answer(403, b"<Error/>"))
        await writer.drain()
        await reader.read()

    return serve


async def test_an_early_refusal_is_seen_at_once_and_the_sending_stops(transport: AiohttpTransport) -> None:
    never = asyncio.Event()
    body = Chunks(b"some", hold=never)
    async with raw_server(refusing) as server, asyncio.timeout(10):
        assert await send(transport, put(server, body, 1000)) == (403, b"<Error/>")

        assert body.closed
        await server.closed.wait()


async def test_an_early_refusal_is_seen_while_the_peer_takes_no_more_bytes(transport: AiohttpTransport) -> None:
    body = Chunks(*[bytes(MIB)] * 64)
    async with raw_server(refusing, receive_buffer=4096) as server, asyncio.timeout(10):
        assert await send(transport, put(server, body, 64 * MIB)) == (403, b"<Error/>")

        assert body.closed
        assert body.taken < 64


async def test_a_success_before_the_whole_body_is_no_success(transport: AiohttpTransport) -> None:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.write(answer(200))
            await reader.read()

        return serve

    body = Chunks(b"some", hold=asyncio.Event())
    async with raw_server(script) as server, asyncio.timeout(10):
        with pytest.raises(httpx.RemoteProtocolError):
            await send(transport, put(server, body, 1000))

        assert body.closed


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "HEAD"])
async def test_nothing_is_sent_twice_when_a_kept_connection_breaks(transport: AiohttpTransport, method: str) -> None:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_body(reader)
            writer.write(answer())
            await server.read_body(reader)

        return serve

    async with raw_server(script) as server:
        await send(transport, put(server, method=method))
        with pytest.raises(httpx.ReadError):
            await send(transport, put(server, b"again" if method == "PUT" else b"", method=method))

        assert (server.connections, len(server.heads)) == (1, 2)


def answering_twice(between: asyncio.Event, *, at_once: bool) -> Callable[[RawServer], Script]:
    """Answer each request with its own body, and the first a second time: at once, or when *between* is set."""

    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                said = answer(200, await server.read_body(reader))
                first = len(server.bodies) == 1
                writer.write(said * 2 if first and at_once else said)
                await writer.drain()
                if first and not at_once:
                    await between.wait()
                    writer.write(said)
                    await writer.drain()
                    await reader.read()
                    server.closed.set()

        return serve

    return script


@pytest.mark.promise(7)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_second_answer_to_one_request_is_nobody_s(transport: AiohttpTransport, *, at_once: bool) -> None:
    """It may even come while the connection waits for its next request."""
    between = asyncio.Event()
    async with raw_server(answering_twice(between, at_once=at_once)) as server, asyncio.timeout(10):
        assert await send(transport, put(server, b"first")) == (200, b"first")
        between.set()
        await server.closed.wait()

        assert await send(transport, put(server, method="GET")) == (200, b"")
        assert server.connections == 2


async def test_a_reset_in_the_middle_of_a_body_is_an_error_and_the_body_is_read_once(
    transport: AiohttpTransport,
) -> None:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            await reader.readexactly(100_000)

        return serve

    body = Chunks(*[bytes(65536)] * 500)
    async with raw_server(script) as server:
        with pytest.raises(httpx.ReadError):
            await send(transport, put(server, body, 500 * 65536))

        assert (body.reads, body.closed, server.connections) == (1, True, 1)


def dripping(data: bytes) -> Callable[[RawServer], Script]:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_body(reader)
            while True:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.02)

        return serve

    return script


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"X"])
@pytest.mark.parametrize("body", [b"", b"body"])
async def test_an_answer_that_never_begins_has_a_deadline(
    transport: AiohttpTransport, data: bytes, body: bytes
) -> None:
    async with raw_server(dripping(data)) as server, asyncio.timeout(10):
        with pytest.raises((httpx.ReadTimeout, httpx.RemoteProtocolError)):
            await send(transport, put(server, body, limits={"connect": 0.1, "write": 1, "read": 0.2}))


async def test_an_answer_that_stops_has_a_deadline(transport: AiohttpTransport) -> None:
    async with raw_server(always(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")) as server:
        with pytest.raises(httpx.ReadTimeout):
            await send(transport, put(server, limits={**LIMITS, "read": 0.2}))


@pytest.mark.parametrize("count", [16, 17, 10_000])
async def test_b83_interim_answers_without_end_drop_the_connection(transport: AiohttpTransport, count: int) -> None:
    async with raw_server(always(b"HTTP/1.1 100 Continue\r\n\r\n" * count + answer(200))) as server:
        if count == 16:
            assert await send(transport, put(server)) == (200, b"")
            return
        with pytest.raises(httpx.RemoteProtocolError):
            await send(transport, put(server))
        await server.closed.wait()


async def test_b83_headers_without_end_drop_the_connection(transport: AiohttpTransport) -> None:
    async with raw_server(always(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2**20)) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await send(transport, put(server))
        await server.closed.wait()


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_answer_that_is_no_http_is_refused(transport: AiohttpTransport, data: bytes) -> None:
    async with raw_server(always(data)) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await send(transport, put(server))


async def test_a_truncated_answer_is_refused(transport: AiohttpTransport) -> None:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_body(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        return serve

    async with raw_server(script) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await send(transport, put(server))


async def test_redirects_cookies_and_encodings_are_left_alone(transport: AiohttpTransport) -> None:
    said = answer(302, b"not gzip", "Location: /other", "Set-Cookie: a=b", "Content-Encoding: gzip")
    async with raw_server(always(said)) as server:
        for _ in range(2):
            response = await transport.handle_async_request(put(server))
            raw = b"".join([chunk async for chunk in response.aiter_raw()])
            await response.aclose()

            assert (response.status_code, raw) == (302, b"not gzip")
        assert len(server.heads) == 2
        assert all(b"ookie" not in head for head in server.heads)


async def test_the_environment_names_no_proxy(transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with raw_server(always(answer())) as server:
        response = await transport.handle_async_request(put(server))
        await response.aclose()

        assert len(server.heads) == 1


@pytest.mark.parametrize(("alone", "limit"), [(False, 1), (True, 1), (True, 4)])
async def test_waiting_for_a_free_connection_has_a_deadline(*, alone: bool, limit: int) -> None:
    transport = AiohttpTransport(connection_limit=limit)
    async with raw_server(dripping(b"")) as server:
        first = asyncio.create_task(send(transport, put(server, alone=alone)))
        await server.arrived.wait()
        with pytest.raises(httpx.ConnectTimeout):
            await send(transport, put(server, limits={**LIMITS, "connect": 0.1}, alone=alone))
        first.cancel()
        await asyncio.wait([first])
    await transport.aclose()


async def test_f7_fresh_connections_do_not_pile_up(transport: AiohttpTransport) -> None:
    async with raw_server(always(answer())) as server:
        for _ in range(3):
            await asyncio.gather(*(send(transport, put(server, b"x", fresh=True)) for _ in range(4)))
        session = transport._sessions[False]
        assert session.connector is not None
        idle = session.connector._conns

        assert (server.connections, sum(map(len, idle.values()))) == (12, 4)


async def test_f7_fresh_connections_keep_to_the_limit() -> None:
    transport = AiohttpTransport(connection_limit=2)
    async with raw_server(always(answer())) as server:
        sends = (send(transport, put(server, b"x", fresh=number % 2 == 0)) for number in range(16))
        assert await asyncio.gather(*sends) == [(200, b"")] * 16
    await transport.aclose()


async def test_a_refused_connection_is_a_connect_error(transport: AiohttpTransport) -> None:
    async with raw_server(always(answer())) as server:
        pass
    with pytest.raises(httpx.ConnectError):
        await send(transport, put(server))


async def test_a_body_without_a_length_is_refused_before_anything_is_sent(transport: AiohttpTransport) -> None:
    async with raw_server(always(answer())) as server:
        request = put(server, Chunks(b"x"), 1)
        del request.headers["content-length"]
        with pytest.raises(httpx.LocalProtocolError):
            await send(transport, request)

        assert server.connections == 0


async def test_after_forty_rounds_of_cancellation_every_body_is_closed_and_the_pool_works() -> None:
    transport = AiohttpTransport(connection_limit=8)
    rng = random.Random(40)
    async with raw_server(always(answer(200, b"x" * 100))) as server:
        for _ in range(40):
            bodies = [Chunks(*[bytes(65536)] * 16) for _ in range(16)]
            tasks = [asyncio.create_task(send(transport, put(server, body, MIB))) for body in bodies]
            await asyncio.sleep(rng.random() * 0.01)
            for task in rng.sample(tasks, 12):
                task.cancel()
            await asyncio.wait(tasks)

            assert all(body.closed for body in bodies if body.reads)
        async with asyncio.timeout(5):
            results = await asyncio.gather(*(send(transport, put(server, bytes(1000))) for _ in range(16)))

    assert results == [(200, b"x" * 100)] * 16
    await transport.aclose()

"""Bodies on their way out: exact lengths, stalls, and errors that stay what they are."""

import asyncio
import random
import time

import httpx
import pytest

from gateway.cos.transport import AiohttpTransport
from tests.cos.raw_server import RawServer, Script, always, answer, raw_server
from tests.cos.sending import LIMITS, MIB, Chunks, put, send


@pytest.mark.parametrize("sizes", [[1], [3 * MIB], [65536] * 40, [1, 0, 70_000, 5, 0, 2 * MIB, 0]])
async def test_bodies_arrive_as_they_are_over_one_connection(transport: AiohttpTransport, sizes: list[int]) -> None:
    rng = random.Random(7)
    chunks = [rng.randbytes(size) for size in sizes]
    async with raw_server(always(answer(200, b"", "ETag: x"))) as server:
        for _ in range(3):
            assert await send(transport, put(server, Chunks(*chunks), sum(sizes))) == (200, b"")

        assert server.bodies == [b"".join(chunks)] * 3
        assert server.connections == 1


async def test_a_peer_that_stops_reading_is_given_up(transport: AiohttpTransport) -> None:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        return serve

    body = Chunks(*[bytes(MIB)] * 64)
    async with raw_server(script, receive_buffer=4096) as server, asyncio.timeout(5):
        with pytest.raises(httpx.WriteTimeout):
            await send(transport, put(server, body, 64 * MIB, limits={**LIMITS, "write": 0.2}))

        assert body.closed


async def test_a_peer_that_stops_reading_later_is_given_up_too(transport: AiohttpTransport) -> None:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            for _ in range(20):
                await reader.readexactly(MIB)
                await asyncio.sleep(0.02)
            await asyncio.Event().wait()

        return serve

    async with raw_server(script, receive_buffer=4096) as server, asyncio.timeout(5):
        started = time.monotonic()
        with pytest.raises(httpx.WriteTimeout):
            await send(transport, put(server, bytes(64 * MIB), limits={**LIMITS, "write": 0.2}))

        assert time.monotonic() - started > 0.4


async def test_a_slow_peer_is_not_given_up_while_it_takes_bytes(transport: AiohttpTransport) -> None:
    size = 32 * MIB

    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            left = size
            while left:
                left -= len(await reader.read(MIB))
                await asyncio.sleep(0.02)
            writer.write(answer())
            await reader.read()

        return serve

    async with raw_server(script, receive_buffer=65536) as server:
        started = time.monotonic()
        status, _ = await send(transport, put(server, bytes(size), limits={**LIMITS, "write": 0.3}))

        assert status == 200
        assert time.monotonic() - started > 0.3


async def test_a_body_that_ends_early_is_broken_off(transport: AiohttpTransport) -> None:
    async with raw_server(always(answer())) as server, asyncio.timeout(10):
        with pytest.raises(httpx.LocalProtocolError, match="ended at byte 9 of 10"):
            await send(transport, put(server, Chunks(b"12345", b"6789"), 10))

        await server.closed.wait()
        assert server.bodies == [b"123456789"]


@pytest.mark.parametrize("chunks", [[b"12345", b"67890", b"x"], [b"12345", b"67890x"], [b"12345", b"67890", b"", b"x"]])
async def test_a_body_that_goes_on_is_broken_off_before_its_last_piece(
    transport: AiohttpTransport, chunks: list[bytes]
) -> None:
    async with raw_server(always(answer())) as server, asyncio.timeout(10):
        with pytest.raises(httpx.LocalProtocolError, match="goes on after byte 10"):
            await send(transport, put(server, Chunks(*chunks), 10))

        await server.closed.wait()
        assert server.bodies == [b"12345"]


@pytest.mark.parametrize("error", [KeyError("mine"), OSError("mine"), TimeoutError("mine"), httpx.ReadError("mine")])
async def test_what_a_body_raises_comes_out_unchanged_and_its_last_piece_stays_here(
    transport: AiohttpTransport, error: Exception
) -> None:
    body = Chunks(b"12345", b"67890", then=error)
    async with raw_server(always(answer())) as server, asyncio.timeout(10):
        with pytest.raises(type(error)) as raised:
            await send(transport, put(server, body, 10))

        assert raised.value is error
        await server.closed.wait()
        assert server.bodies == [b"12345"]
        assert await send(transport, put(server, b"after")) == (200, b"")
        assert server.connections == 2


async def test_an_empty_body_may_refuse_too(transport: AiohttpTransport) -> None:
    async with raw_server(always(answer())) as server:
        with pytest.raises(KeyError):
            await send(transport, put(server, Chunks(then=KeyError()), 0))
        assert await send(transport, put(server, Chunks(), 0)) == (200, b"")

        assert [head for head in server.heads if b"PUT" in head] == server.heads[-1:]


@pytest.mark.parametrize("chunk_size", [65_536, 8 * MIB])
async def test_an_answer_on_the_heels_of_the_last_byte_is_a_success(
    transport: AiohttpTransport, chunk_size: int
) -> None:
    data = random.Random(3).randbytes(8 * MIB)
    chunks = [data[start : start + chunk_size] for start in range(0, len(data), chunk_size)]
    async with raw_server(always(answer())) as server:
        for _ in range(20):
            assert await send(transport, put(server, Chunks(*chunks), len(data))) == (200, b"")

        assert server.bodies[-1] == data


async def test_an_answer_counts_once_the_connection_has_every_byte(transport: AiohttpTransport) -> None:
    """The answer may end the sending task before that task hears that the connection's buffer is empty."""

    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            await reader.readexactly(1)
            writer.write(answer())
            await asyncio.Event().wait()

        return serve

    async with raw_server(script, receive_buffer=4096) as server:
        assert await send(transport, put(server, Chunks(bytes(16 * MIB)), 16 * MIB)) == (200, b"")

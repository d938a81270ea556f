"""Reading a socket beside its transport: every byte once, pauses that hold, and ends that the transport finds."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

import pytest

from gateway.web.direct_reader import DirectReader, can_read_directly
from gateway.web.read_budget import LARGEST_PIECE_BYTES, ReadBudget

SECONDS: Final = 10.0
BODY: Final = random.Random(7).randbytes(5 * LARGEST_PIECE_BYTES + 123)


class Receiver(asyncio.Protocol):
    """Keeps what came through the transport and through the reader apart."""

    def __init__(self) -> None:
        self.direct: list[bytes] = []
        self.by_transport = bytearray()
        self.news = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def read_directly(self) -> None:
        self.reader = DirectReader(asyncio.get_running_loop(), self.transport, self.take, ReadBudget())

    def take(self, piece: bytes) -> None:
        self.direct.append(piece)
        self.news.set()

    def data_received(self, data: bytes) -> None:
        self.by_transport += data
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reader.stop()
        self.lost.set()

    async def until(self, arrived: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not arrived():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def reading() -> AsyncIterator[tuple[socket.socket, Receiver]]:
    """A client's end of a TCP connection, which blocks, and what reads the other end directly."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        client.settimeout(SECONDS)
        accepted, _ = listening.accept()
    with client:
        _, receiver = await asyncio.get_running_loop().connect_accepted_socket(Receiver, accepted)
        receiver.read_directly()
        try:
            yield client, receiver
        finally:
            receiver.transport.abort()
            await receiver.lost.wait()


async def send(client: socket.socket, data: bytes) -> None:
    await asyncio.to_thread(client.sendall, data)


async def test_every_byte_comes_once_and_in_order() -> None:
    async with reading() as (client, receiver):
        sending = asyncio.create_task(send(client, BODY))
        await receiver.until(lambda: sum(map(len, receiver.direct)) >= len(BODY))
        await sending

        assert b"".join(receiver.direct) == BODY
        assert max(map(len, receiver.direct)) <= LARGEST_PIECE_BYTES
        assert not receiver.by_transport


async def test_nothing_comes_while_it_is_paused() -> None:
    async with reading() as (client, receiver):
        receiver.reader.pause_reading()
        await send(client, b"early")
        # The loop has looked at the socket once this call, scheduled after that, has run.
        for _ in range(3):
            await asyncio.to_thread(client.getpeername)
        assert not receiver.direct

        receiver.reader.resume_reading()
        await receiver.until(lambda: bool(receiver.direct))

        assert receiver.direct == [b"early"]


async def test_the_transport_goes_on_where_the_reader_stopped() -> None:
    async with reading() as (client, receiver):
        await send(client, b"body")
        await receiver.until(lambda: bool(receiver.direct))
        receiver.reader.stop()
        await send(client, b"next request")
        receiver.transport.resume_reading()
        await receiver.until(lambda: len(receiver.by_transport) >= 12)

        assert (receiver.direct, bytes(receiver.by_transport)) == ([b"body"], b"next request")


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
async def test_a_connection_that_the_client_ends_is_lost_as_ever(reset: bool) -> None:
    async with reading() as (client, receiver):
        await send(client, b"half")
        await receiver.until(lambda: bool(receiver.direct))
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        async with asyncio.timeout(SECONDS):
            await receiver.lost.wait()

        assert receiver.direct == [b"half"]


async def test_a_reset_behind_bytes_not_read_yet_is_noticed_and_the_bytes_come() -> None:
    async with reading() as (client, receiver):
        receiver.reader.pause_reading()
        await send(client, BODY[:100_000])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        receiver.reader.resume_reading()
        async with asyncio.timeout(SECONDS):
            await receiver.lost.wait()

        assert b"".join(receiver.direct) == BODY[:100_000]


async def test_closing_the_transport_ends_the_stream_for_the_client_and_leaves_no_descriptor() -> None:
    async with reading() as (client, receiver):
        before = len(os.listdir("/dev/fd"))
        receiver.transport.close()
        async with asyncio.timeout(SECONDS):
            await receiver.lost.wait()

        assert await asyncio.to_thread(client.recv, 1) == b""
        assert len(os.listdir("/dev/fd")) == before - 2  # the transport's own and the duplicate


def test_a_tls_connection_is_not_read_directly() -> None:
    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return object() if name == "sslcontext" else default

    assert not can_read_directly(Transport())
    assert can_read_directly(asyncio.Transport())

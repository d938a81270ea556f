"""A TCP server whose every byte a test decides: one script for each connection, in the order they come."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    port: int = 0
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read_head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        self.arrived.set()
        return head

    async def read_body(self, reader: asyncio.StreamReader) -> bytes:
        """A whole request; its body as far as it comes."""
        head = (await self.read_head(reader)).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        try:
            body = await reader.readexactly(length)
        except asyncio.IncompleteReadError as exc:
            body = exc.partial
        self.bodies.append(body)
        return body


def answer(status: int = 200, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@asynccontextmanager
async def raw_server(
    script: Callable[[RawServer], Script],
    *,
    receive_buffer: int = 0,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[RawServer]:
    """Serve every connection with ``script(server)`` on *port*, or a free one.

    ``arrived`` is set when a head has come, ``closed`` when a connection has ended.
    """
    server = RawServer()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await script(server)(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.transport.abort()
            server.closed.set()

    listener = socket.create_server((host, port))
    if receive_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    server.port = listener.getsockname()[1]
    running_server = await asyncio.start_server(serve, sock=listener, limit=2**20, ssl=tls)
    try:
        yield server
    finally:
        running_server.close()
        for task in list(running):
            task.cancel()
        if running:
            await asyncio.wait(running)


def always(data: bytes) -> Callable[[RawServer], Script]:
    """Answer every request of every connection with *data*, once its body is there."""

    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.read_body(reader)
                writer.write(data)
                await writer.drain()

        return serve

    return script


def in_turn(*said: bytes) -> Callable[[RawServer], Script]:
    """Answer the first request with the first of *said*, and so on, over all connections; an empty one resets."""
    left = list(said)

    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.read_body(reader)
                data = left.pop(0)
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        return serve

    return script

"""The gateway's own protocol class under a real uvicorn in the test's event loop, and a client made of raw bytes."""

import asyncio
import functools
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.domain.errors import GatewayError
from gateway.web.edge_connections import EdgeConnections, EdgeRules
from gateway.web.http_edge import HttpEdge
from gateway.web.problems import problem_response

HEAD_BYTES: Final = 16 * 1024
SECONDS: Final = 10.0
"""Within which everything here happens, or the test fails."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Wire:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send *pieces*, each on its way before the next."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The next head, 100 Continue's too."""
        async with asyncio.timeout(SECONDS):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode("latin-1").strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(status.split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def answer(self, *, has_body: bool = True) -> Answer:
        """The next answer; its body is as long as Content-Length says, or goes on to the connection's end."""
        status, headers = await self.head()
        async with asyncio.timeout(SECONDS):
            length = int(headers.get("content-length", -1)) if has_body else 0
            body = await (self.reader.readexactly(length) if length >= 0 else self.reader.read())
        return Answer(status, headers, body)

    async def is_closed(self) -> bool:
        """Whether the server closes this connection, after nothing more."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):  # it was reset
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Vanish without a word."""
        self.writer.transport.abort()

    def break_off(self) -> None:
        """Vanish with a reset, which is no half-close."""
        connected: socket.socket = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Recorder:
    """Notes every message that *app* is given, as it is given."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.scopes: list[Scope] = []
        self.messages: list[Message] = []
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        """A request's application has returned."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.begun.set()

        async def receive_and_note() -> Message:
            message = await receive()
            self.messages.append(message)
            return message

        try:
            await self._app(scope, receive_and_note, send)
        finally:
            self.ended.set()

    @property
    def pieces(self) -> list[bytes]:
        return [message["body"] for message in self.messages if message["type"] == "http.request" and message["body"]]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.messages]

    async def wait_for_end(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.ended.wait()


async def answer(send: Send, body: bytes = b"", status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole answer."""
    told = [(b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    """The whole body, or what came of it before the client went."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body; the path is in the header X-Path."""
    await answer(send, await read_body(receive), 200, (b"x-path", scope["raw_path"]))


async def problem_echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes, and answers a body that failed as the gate does."""
    try:
        await echo(scope, receive, send)
    except GatewayError as error:
        await problem_response(error, "an-id")(scope, receive, send)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers without having asked for a byte of the body."""
    await answer(send, b"no", 403)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether to stop."""
        await self.on_tick(0)
        await self.stopping.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class EdgeServer:
    """A server that is running."""

    def __init__(self, server: _Server, port: int) -> None:
        self._server = server
        self._wires: list[Wire] = []
        self.port = port

    async def connect(self, *, buffer_bytes: int | None = None) -> Wire:
        """A new connection; *buffer_bytes* is the size of the client's socket buffers."""
        client = socket.socket()
        if buffer_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        wire = Wire(*await asyncio.open_connection(sock=client))
        self._wires.append(wire)
        return wire

    def shut_down_connections(self) -> None:
        """What the server does first when it stops."""
        for connection in list(self._server.server_state.connections):
            connection.shutdown()

    async def stop(self) -> None:
        """Stop as uvicorn does on SIGTERM; returns when it has."""
        self._server.stopping.set()
        async with asyncio.timeout(SECONDS):
            await self.serving

    async def drop(self) -> None:
        """End everything that a test left open, without uvicorn's pauses for thought."""
        for wire in self._wires:
            await wire.close()
        if self.serving.done():
            return
        self.serving.cancel()
        await asyncio.wait([self.serving])
        for listener in self._server.servers:
            listener.close()
        state = self._server.server_state
        async with asyncio.timeout(SECONDS):
            while state.connections or state.tasks:
                self.shut_down_connections()
                await asyncio.sleep(0.001)

    serving: "asyncio.Task[None]"


@asynccontextmanager
async def running_edge(
    app: ASGIApp,
    *,
    protocol: type[HttpEdge] = HttpEdge,
    rules: EdgeRules | None = None,
    edge: EdgeConnections | None = None,
    buffer_bytes: int | None = None,
    **options: Any,
) -> AsyncIterator[EdgeServer]:
    """Serve *app* on a free loopback port through *protocol*, under *rules* or as one of the connections of *edge*."""
    shared = EdgeConnections(rules or EdgeRules()) if edge is None else edge
    bound = socket.create_server(("127.0.0.1", 0))
    if buffer_bytes is not None:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    settings: dict[str, Any] = {
        "http": functools.partial(protocol, edge=shared),
        "ws": "websockets-sansio",
        "ws_max_size": 4096,
        "h11_max_incomplete_event_size": HEAD_BYTES,
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "timeout_graceful_shutdown": 2,
    }
    server = _Server(uvicorn.Config(app, **{**settings, **options}))
    running = EdgeServer(server, bound.getsockname()[1])
    running.serving = asyncio.create_task(server.serve(sockets=[bound]))
    await server.listening.wait()
    try:
        yield running
    finally:
        await running.drop()
        bound.close()

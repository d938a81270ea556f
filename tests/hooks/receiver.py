"""A webhook's receiver on a socket: it keeps what it was told, and answers as a test says."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11


@dataclass(frozen=True, slots=True)
class Told:
    """One request: header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """``statuses`` are given in turn, the last one for ever; ``extra`` is sent with each answer.

    While ``silent`` is set, requests are read and never answered.
    """

    port: int = 0
    statuses: list[int] = field(default_factory=lambda: [204])
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    endless: bool = False
    silent: bool = False
    told: list[Told] = field(default_factory=list)
    sent_bytes: int = 0
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, count: int, seconds: float = 10) -> list[Told]:
        """Everything told, once that is *count* requests."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: len(self.told) >= count)
        return self.told

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, h11.RemoteProtocolError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request, body = None, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return False
        assert request is not None
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        async with self._came:
            self.told.append(Told(request.method.decode(), request.target.decode(), headers, body))
            self._came.notify_all()
        if self.silent:
            await asyncio.Event().wait()
        await self._answer(connection, writer)
        return connection.our_state is h11.DONE

    async def _answer(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        length = [] if self.endless or status == 204 else [("Content-Length", str(len(self.body)))]
        head = connection.send(h11.Response(status_code=status, headers=[*self.headers, *length]))
        assert head is not None
        writer.write(head)
        while self.endless:
            piece = connection.send(h11.Data(data=b" " * 65_536))
            assert piece is not None
            writer.write(piece)
            await writer.drain()
            self.sent_bytes += 65_536
        if self.body and status != 204:
            writer.write(connection.send(h11.Data(data=self.body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()


@asynccontextmanager
async def running_receiver(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on 127.0.0.1 while the block lasts."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()

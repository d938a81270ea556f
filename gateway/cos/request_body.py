"""A request's body on its way out: exactly its declared length, watched for stalls, its own errors kept as they are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from gateway.fair_timeout import FairTimer

# Up to here the head and the first chunk leave in one write, which copies the chunk; beyond, two writes are cheaper.
_COALESCE_BYTES: Final = 32 * 1024


class BodyTooShort(httpx.LocalProtocolError):
    """The body ended before its Content-Length; the request was broken off."""


class BodyTooLong(httpx.LocalProtocolError):
    """The body goes on after its Content-Length; its last piece was not sent."""


class RequestBody(aiohttp.Payload):
    """Writes *stream*, which has *length* bytes, and remembers what went wrong.

    The piece that reaches the length leaves only after the stream has ended well, so that a stream can still refuse
    (a wrong digest, a cut-off body) what COS would otherwise have stored.

    Args:
        stall_seconds: how long the peer may take no byte before the connection is broken off; None: for ever.

    ``sent`` tells that every byte was handed to the connection, ``failure`` what the request failed of: what the stream
    raised, or an httpx error of ours. ``on_sent`` is called once, after the last byte.
    """

    def __init__(self, stream: httpx.AsyncByteStream, length: int, stall_seconds: float | None) -> None:
        super().__init__(stream)
        self._length = length
        self._stall_seconds = stall_seconds
        self._chunks: AsyncIterator[bytes] = aiter(stream)
        self._started = False
        self._ended = asyncio.Event()
        self._watchdog: FairTimer | None = None
        self.sent = False
        self.failure: Exception | None = None
        self.on_sent: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        return self._length

    @property
    def autoclose(self) -> bool:
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body is only ever written")

    async def over(self) -> None:
        """Return once nothing reads the stream any more."""
        if self._started:
            await self._ended.wait()

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, self._length)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Called by aiohttp, in a task that it cancels when the request is over."""
        self._started = True
        assert isinstance(writer, StreamWriter)
        try:
            await self._write_all(writer)
        finally:
            try:
                await self._close_stream()
            finally:
                self._ended.set()

    async def _write_all(self, writer: StreamWriter) -> None:
        left = self._length
        if left == 0:
            await self._expect_end()
        while left:
            chunk = await self._next_of(left)
            left -= len(chunk)
            if len(chunk) > _COALESCE_BYTES:
                writer.send_headers()
            await writer.write(chunk, drain=False)
            # Before the drain: the answer may come, and end this task, while its waiter has yet to run.
            self.sent = left == 0
            del chunk
            if writer.protocol.writing_paused:
                await self._drain(writer)
        self.sent = True
        if self.on_sent is not None:
            self.on_sent()

    async def _next_of(self, left: int) -> bytes:
        """The next chunk, if it fits the *left* bytes; one that fills them only if it is the last."""
        chunk = await self._next()
        if chunk is None:
            raise self._failed(BodyTooShort(f"the body ended at byte {self._length - left} of {self._length}"))
        if len(chunk) > left:
            raise self._failed(BodyTooLong(f"the body goes on after byte {self._length}"))
        if len(chunk) == left:
            await self._expect_end()
        return chunk

    async def _expect_end(self) -> None:
        while (chunk := await self._next()) is not None:
            if chunk:
                raise self._failed(BodyTooLong(f"the body goes on after byte {self._length}"))

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._chunks, None)
        except Exception as exc:
            self._failed(exc)
            raise

    async def _close_stream(self) -> None:
        aclose: Any = getattr(self._chunks, "aclose", None)
        if aclose is not None:
            await aclose()

    def _failed(self, failure: Exception) -> Exception:
        self.failure = failure
        return failure

    async def _drain(self, writer: StreamWriter) -> None:
        """Wait for room. A drain must not be cancelled and tried again (aiohttp's waiter would stay cancelled), so a
        watchdog looks at the connection's buffer instead, and breaks it off when that has not shrunk.
        """
        transport = writer.transport
        if transport is not None and self._stall_seconds is not None:
            self._look_later(transport, self._stall_seconds)
        try:
            await writer.drain()
        finally:
            if self._watchdog is not None:
                self._watchdog.cancel()
        if self.failure is not None:
            raise self.failure

    def _look_later(self, transport: asyncio.WriteTransport, stall_seconds: float) -> None:
        def look() -> None:
            if transport.get_write_buffer_size() < waiting_bytes:
                self._look_later(transport, stall_seconds)
            else:
                self._failed(httpx.WriteTimeout(f"no byte was taken for {stall_seconds:g} s"))
                transport.abort()

        waiting_bytes = transport.get_write_buffer_size()
        self._watchdog = FairTimer(stall_seconds, look)

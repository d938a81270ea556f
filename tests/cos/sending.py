"""Requests for the transport, and bodies that tell what became of them."""

import asyncio
from collections.abc import AsyncIterator

import httpx

from gateway.cos.transport import AiohttpTransport
from tests.cos.raw_server import RawServer

LIMITS = {"connect": 2.0, "write": 2.0, "read": 2.0}
MIB = 1024 * 1024


class Chunks(httpx.AsyncByteStream):
    """A body that tells what became of it."""

    def __init__(self, *chunks: bytes, then: BaseException | None = None, hold: asyncio.Event | None = None) -> None:
        self.chunks = chunks
        self.then = then
        self.hold = hold
        self.taken = 0
        self.reads = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.reads += 1
        try:
            for chunk in self.chunks:
                self.taken += 1
                yield chunk
            if self.hold is not None:
                await self.hold.wait()
            if self.then is not None:
                raise self.then
        finally:
            self.closed = True


def put(
    server: RawServer,
    body: httpx.AsyncByteStream | bytes = b"",
    length: int | None = None,
    *,
    method: str = "PUT",
    target: str = "/k",
    limits: dict[str, float] = LIMITS,
    alone: bool = False,
    fresh: bool = False,
) -> httpx.Request:
    if isinstance(body, bytes):
        length = len(body) if length is None else length
        body = httpx.ByteStream(body)
    headers = [("host", "b-1.cos.r.myqcloud.com"), ("content-length", str(length))]
    return httpx.Request(
        method,
        f"http://127.0.0.1:{server.port}/",
        headers=headers,
        stream=body,
        extensions={"target": target.encode(), "timeout": limits, "alone": alone, "fresh": fresh},
    )


async def send(transport: AiohttpTransport, request: httpx.Request) -> tuple[int, bytes]:
    response = await transport.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()

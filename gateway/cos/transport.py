"""The way to COS: an httpx transport straight on aiohttp that adds nothing, repeats nothing and checks every length.

Four httpx extensions steer a request: ``target`` is the request line's path and query, byte for byte,
``sni_hostname`` is the name that TLS expects where the URL only says where to connect, ``fresh`` asks for a connection
that has carried nothing before, and ``alone`` for one that will carry nothing after, either. ``timeout`` holds seconds:
``connect`` (with the wait for a free connection), ``write`` (no byte taken by the peer) and ``read`` (no answer, or
no more of it).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, cast

import aiohttp
import httpx
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from gateway.cos.addresses import AddressOutside
from gateway.cos.request_body import RequestBody
from gateway.fair_timeout import FairTimeout

_UNWANTED_HEADERS: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)
_KEEPALIVE_SECONDS: Final = 15.0
_DNS_SECONDS: Final = 30
_FRESH: Final[ContextVar[bool]] = ContextVar("fresh", default=False)
"""Of the request that is about to get a connection."""
_NEXT_ADDRESS_SECONDS: Final = 0.25
_MAX_INTERIM_ANSWERS: Final = 16
_SHARE_ALONE: Final = 0.25
"""Of the limit, for requests that have a connection alone: repetitions are a fifth of all calls."""


def alone_limit(connection_limit: int) -> int:
    """How many connections are open at once, on top of *connection_limit*, for requests that have theirs alone."""
    return max(1, int(connection_limit * _SHARE_ALONE))


class AddressRefused(httpx.ConnectError):
    """The host's addresses lie outside the ranges that it may be in; nothing was connected to."""


class CertificateRefused(httpx.ConnectError):
    """The peer's certificate is not the host's, not vouched for, or out of date; nothing was sent."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends each request once, over kept-alive connections of its own.

    Raises httpx's ``TransportError`` family, and unchanged whatever the request's stream raises; by then the stream is
    no longer being read. A success that comes before the whole body was sent is a ``RemoteProtocolError``; any other
    early answer is returned at once, and closing it ends the sending.

    Args:
        connection_limit: connections open at once, and the ``alone_limit`` on top; further requests wait for
            ``connect`` seconds.
        tls: TLS settings; aiohttp's own (certificates verified) when None.
        resolver: finds a host's addresses; the system's when None. They are taken in turn, and one that does not
            connect within 0.25 s is raced by the next.
    """

    def __init__(
        self,
        *,
        connection_limit: int = 2048,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._connection_limit = connection_limit
        self._tls = tls
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """By whether each request has a connection alone."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits: Mapping[str, float | None] = request.extensions.get("timeout", {})
        body = _body_of(request, limits.get("write"))
        deadline = FairTimeout(None)
        try:
            async with deadline:
                _start_when_sent(deadline, body, limits)
                answer = await self._send(request, body, limits)
        except BaseException as exc:
            if body is not None:
                await body.over()
                if body.failure is not None and isinstance(exc, httpx.TransportError):
                    raise body.failure  # noqa: B904 -- the cause itself; what was caught is its echo
            if isinstance(exc, TimeoutError) and deadline.expired():
                raise httpx.ReadTimeout("no answer in time", request=request) from exc
            raise
        finally:
            if body is not None:
                body.on_sent = None
        stream = _Answer(answer, body)
        if answer.status < 300 and body is not None and not body.sent:
            await stream.aclose()
            raise httpx.RemoteProtocolError(f"status {answer.status} came before the body was sent", request=request)
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=stream)

    async def aclose(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def _send(
        self, request: httpx.Request, body: RequestBody | None, limits: Mapping[str, float | None]
    ) -> aiohttp.ClientResponse:
        alone = bool(request.extensions.get("alone"))
        if (session := self._sessions.get(alone)) is None:
            session = self._sessions[alone] = self._open(alone=alone)
        headers = [(name.decode("ascii"), value.decode("utf-8")) for name, value in request.headers.raw]
        if alone:  # told to close, a peer closes behind an early answer, and the rest of the body resets that answer
            headers.append((hdrs.CONNECTION, "keep-alive"))
        _FRESH.set(bool(request.extensions.get("fresh")))
        return await session.request(
            request.method,
            _url(request),
            headers=headers,
            data=body,
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.get("connect"), sock_read=limits.get("read")),
            server_hostname=request.extensions.get("sni_hostname"),
            allow_redirects=False,
        )

    def _open(self, *, alone: bool) -> aiohttp.ClientSession:
        connector = _Connector(
            limit=alone_limit(self._connection_limit) if alone else self._connection_limit,
            force_close=alone,
            keepalive_timeout=None if alone else _KEEPALIVE_SECONDS,
            ttl_dns_cache=_DNS_SECONDS,
            ssl=self._tls if self._tls is not None else True,
            resolver=self._resolver,
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
        )
        connector._factory = partial(_Protocol, loop=asyncio.get_running_loop())  # type: ignore[assignment]
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_UNWANTED_HEADERS,
            auto_decompress=False,
            trust_env=False,
            middlewares=(_once,),
        )


class _Connector(aiohttp.TCPConnector):
    """Lends no connection that was in use before where a request asks for a fresh one."""

    async def _get(self, key: Any, traces: list[Any]) -> Any:
        if not _FRESH.get():
            return await super()._get(key, traces)
        if idle := self._conns.get(key):
            idle.popleft()[0].close()  # the new one will take its place
        return None


class _Protocol(ResponseHandler):
    """Drops a peer that answers a request twice, or with 1xx again and again.

    aiohttp would take the second answer for that to the connection's next request, and skips any number of 1xx.
    Whatever the kernel does not take at once pauses the writer: of a body one piece waits here, not one and 64 KiB.
    """

    _interim = 0
    _is_answered = True
    """Whether the head of the answer has come; so it has as long as nothing was asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Under TLS asyncio pauses from ``high`` bytes on, so that at 0 it would never go on.
        cast(asyncio.WriteTransport, transport).set_write_buffer_limits(high=1, low=0)

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent."""
        self._is_answered = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if data and self._is_answered and (self._payload is None or self._payload.is_eof()):
            self._drop()
        else:
            super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        is_final = data[0].code >= 200
        self._interim += not is_final
        if self._is_answered:
            self._drop()
        elif self._interim <= _MAX_INTERIM_ANSWERS:
            super().feed_data(data, size)
            if is_final:
                self._interim, self._is_answered = 0, True
        else:
            self.set_exception(HttpProcessingError(message="too many interim answers"))
            self._drop()

    def _drop(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Map errors before aiohttp sees them: it would send some requests again when a kept-alive connection broke."""
    with _mapped_errors():
        return await send(request)


@contextmanager
def _mapped_errors() -> Iterator[None]:
    """Turn aiohttp's errors into httpx's; their texts could hold a URL, so only their names are kept."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as exc:
        raise httpx.ConnectTimeout(type(exc).__name__) from exc
    except aiohttp.ServerTimeoutError as exc:
        raise httpx.ReadTimeout(type(exc).__name__) from exc
    except aiohttp.ClientConnectorCertificateError as exc:
        raise CertificateRefused(type(exc).__name__) from exc
    except aiohttp.ClientConnectorError as exc:
        if isinstance(exc.os_error, AddressOutside):
            raise AddressRefused(type(exc).__name__) from exc
        raise httpx.ConnectError(type(exc).__name__) from exc
    except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as exc:
        raise httpx.RemoteProtocolError(type(exc).__name__) from exc
    except aiohttp.ClientError as exc:
        raise httpx.ReadError(type(exc).__name__) from exc


def _start_when_sent(deadline: FairTimeout, body: RequestBody | None, limits: Mapping[str, float | None]) -> None:
    """Give the answer's head ``read`` seconds, counted from the end of the body.

    aiohttp's own read timeout starts anew with every byte, so that alone would never end.
    """
    read = limits.get("read")
    if read is None:
        return
    if body is None:
        deadline.restart((limits.get("connect") or 0.0) + read)
    else:
        body.on_sent = lambda: deadline.restart(read)


def _url(request: httpx.Request) -> URL:
    target = request.extensions.get("target", request.url.raw_path)
    origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
    return URL(origin + target.decode("ascii"), encoded=True)


def _body_of(request: httpx.Request, stall_seconds: float | None) -> RequestBody | None:
    length = request.headers.get("content-length")
    if length is None or (length == "0" and isinstance(request.stream, httpx.ByteStream)):
        if not isinstance(request.stream, httpx.ByteStream) or any(request.stream):
            raise httpx.LocalProtocolError("a body needs a Content-Length", request=request)
        return None
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return RequestBody(request.stream, int(length), stall_seconds)


class _Answer(httpx.AsyncByteStream):
    """An answer's body. Closing it also ends a request body that is still being sent, and waits for that."""

    def __init__(self, answer: aiohttp.ClientResponse, body: RequestBody | None) -> None:
        self._answer = answer
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _mapped_errors():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        self._answer.close()
        if self._body is not None:
            await self._body.over()

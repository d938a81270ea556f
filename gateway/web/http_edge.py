"""HTTP/1.1 at the socket: an h11 protocol class of our own for uvicorn (design decision 4).

h11 reads every head and every chunked body. A body with a Content-Length does not pass through it: each piece goes from
the socket to the application as the very bytes object that arrived, copied nowhere.
"""

import asyncio
import logging
import secrets
from contextvars import copy_context
from typing import Any, Final, cast
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.domain.errors import BadFraming, GatewayError, HeaderTooLarge, UriTooLong
from gateway.web.http_exchange import CLOSE, REASONS, Exchange
from gateway.web.problems import problem_response

log = logging.getLogger(__name__)

DRAIN_BYTES: Final = 1 << 20
DRAIN_SECONDS: Final = 2.0
"""What is read of a body that nobody wants any more, so that its sender sees the answer (RFC 9112 section 9.6)."""
_HEAD_BYTES: Final = 16 * 1024
_TOO_LONG: Final = 431
_VERSIONS: Final = (b"1.1", b"1.0")


class HttpEdge(asyncio.Protocol):
    """One client's connection. Constructed by uvicorn, whose server and supervisor it serves."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._app = cast(ASGIApp, config.loaded_app)
        self._server_state = server_state
        self._app_state = app_state
        self._loop: asyncio.AbstractEventLoop = _loop or asyncio.get_running_loop()
        self._context = copy_context()
        self._http = self._new_http()
        self._exchange: Exchange | None = None
        self._left = 0
        self._later = b""
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._drainable = 0
        self._eof_written = False
        self._is_closing_down = False
        self._writable = asyncio.Event()
        self._writable.set()

    def _new_http(self) -> h11.Connection:
        """A state for one request: what a Content-Length announces is counted here, so h11 never sees its end."""
        return h11.Connection(h11.SERVER, self._config.h11_max_incomplete_event_size or _HEAD_BYTES)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._server_state.connections.add(cast(Any, self))
        self._close_after(self._config.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(cast(Any, self))
        self._stop_timer()
        self._writable.set()
        if self._exchange is not None:
            self._exchange.client_lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if self._draining:
            self._drain(data)
        elif exchange is not None and self._left:
            self._take_body(exchange, data)
        elif exchange is not None and exchange.body_ended:
            self._later += data  # a pipelined request waits for this one's answer
            self._transport.pause_reading()
        else:
            self._stop_timer()
            self._http.receive_data(data)
            self._read_events()

    # --- reading

    def _take_body(self, exchange: Exchange, data: bytes) -> None:
        """Pass on a piece of a body with a Content-Length; what follows its end belongs to the next request."""
        piece, self._later = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(piece)
        exchange.add(piece, ended=not self._left)
        if exchange.is_full or self._later:
            self._transport.pause_reading()

    def _read_events(self) -> None:
        try:
            while self._handle(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _handle(self, event: Any) -> bool:
        """Act on one event of h11's; whether to ask for the next."""
        match event:
            case h11.Request():
                return self._begin(event)
            case h11.Data() if self._exchange is not None:
                self._exchange.add(bytes(event.data), ended=False)
                if self._exchange.is_full:
                    self._transport.pause_reading()
                return not self._exchange.is_full
            case h11.EndOfMessage() if self._exchange is not None:
                self._later = bytes(self._http.trailing_data[0])
                self._exchange.add(b"", ended=True)
                return False
            case _:
                return False

    def _begin(self, request: h11.Request) -> bool:
        """Hand a request to the application; whether h11 is to read its body."""
        headers = list(request.headers)
        _require_one_meaning(request, headers)
        if _wants_websocket(request, headers):
            self._upgrade(request)
            return False
        length = _content_length(headers)
        exchange = Exchange(self, self._http, self._scope(request, headers))
        self._exchange = exchange
        # Begun behind another request, it must not inherit what that one's task had set.
        task = self._loop.create_task(exchange.run(self._app), context=self._context.copy())
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)
        if length is None:
            return True
        self._left = length
        rest = bytes(self._http.trailing_data[0])
        if rest or not length:
            self._take_body(exchange, rest)
        return False

    def _scope(self, request: h11.Request, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        raw_path, _, query = request.target.partition(b"?")
        root = self._config.root_path
        return {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": request.method.decode("ascii"),
            "root_path": root,
            "path": root + unquote(raw_path.decode("ascii")),
            "raw_path": root.encode("ascii") + raw_path,
            "query_string": query,
            "headers": headers,
            "state": self._app_state.copy(),
        }

    def _upgrade(self, request: h11.Request) -> None:
        """Give the connection, and everything read of it, to uvicorn's websocket protocol."""
        lines = [b"%s %s HTTP/1.1" % (request.method, request.target)]
        lines += [b"%s: %s" % (name, value) for name, value in request.headers]
        rest, _ = self._http.trailing_data
        self._server_state.connections.discard(cast(Any, self))
        websocket = cast(Any, self._config.ws_protocol_class)(
            config=self._config, server_state=self._server_state, app_state=self._app_state
        )
        websocket.connection_made(self._transport)
        self._transport.set_protocol(websocket)
        websocket.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(rest))

    # --- refusing and closing

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is not HTTP, if nothing was answered yet, and close: what follows cannot be told apart."""
        request_id = secrets.token_hex(16)
        refusal = self._refusal(error)
        log.info("a message that is not HTTP/1.1 was refused", extra={"request_id": request_id, "code": refusal.code})
        if self._exchange is not None:
            self._exchange.client_lost()
            self._exchange = None
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = problem_response(refusal, request_id)
            headers = [*self.default_headers, *answer.raw_headers, (b"x-request-id", request_id.encode()), CLOSE]
            self._transport.write(
                b"HTTP/1.1 %d %s\r\n" % (answer.status_code, REASONS[answer.status_code])
                + b"".join(b"%s: %s\r\n" % pair for pair in headers)
                + b"\r\n"
                + bytes(answer.body)
            )
        self._linger()

    def _refusal(self, error: h11.RemoteProtocolError) -> GatewayError:
        if error.error_status_hint != _TOO_LONG:
            return BadFraming("The message is not valid HTTP/1.1.")
        most = f"expected at most {self._config.h11_max_incomplete_event_size or _HEAD_BYTES} bytes"
        if b"\n" in self._http.trailing_data[0]:
            return HeaderTooLarge(f"The request's head is too large, {most}.")
        return UriTooLong(f"The request line is too long, {most}.")

    def _linger(self) -> None:
        """Close our side, and read on for the sake of a client that sends before it reads, within bounds."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._eof_written = True
        self._left = 0
        self._start_draining()

    def _start_draining(self) -> None:
        self._draining = True
        self._drainable = DRAIN_BYTES
        self._close_after(DRAIN_SECONDS)
        self._transport.resume_reading()

    def _drain(self, data: bytes) -> None:
        """Drop *data*: of a body of known length up to its end, which another request may follow; else of whatever."""
        self._drainable -= len(data)
        if self._left:
            self._left, rest = max(0, self._left - len(data)), data[self._left :]
            if not self._left:
                self._draining = False
                self._later = rest
                self._next_request()
        elif self._drainable < 0:
            self._transport.close()

    def _close_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self._transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self) -> None:
        """Called by uvicorn: end the connection when it is idle, or after the answer under way."""
        self._is_closing_down = True
        if self._exchange is None:
            self._transport.close()

    # --- for Exchange

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The Date of this second, spelled as COS does: its SDKs for Python tell cases apart."""
        return [(name.title(), value) for name, value in self._server_state.default_headers]

    def must_close_after(self, exchange: Exchange) -> bool:
        """Whether an answer that begins now ends the connection: too much of the body is still to come."""
        return self._is_closing_down or (not exchange.body_ended and not 0 < self._left <= DRAIN_BYTES)

    def resume_reading(self) -> None:
        """The application has room for more of a body that has not ended: first for what h11 still holds of it."""
        exchange = self._exchange
        if exchange is None or self._transport.is_closing():
            return
        if not self._left:
            self._read_events()
        if not (self._draining or exchange.is_full or self._later):
            self._transport.resume_reading()

    async def write(self, data: bytes) -> None:
        """Send *data*, waiting while the client takes none."""
        if data and not self._eof_written and not self._transport.is_closing():
            self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    def abort(self) -> None:
        """Break the connection: the answer cannot be ended properly."""
        self._transport.close()

    def finished(self, exchange: Exchange) -> None:
        """The answer is complete: go on with the next request, once this one's body is out of the way."""
        self._exchange = None
        self._server_state.total_requests += 1
        if self._transport.is_closing():
            return
        if exchange.body_ended:
            self._next_request()
        elif self._http.our_state is h11.MUST_CLOSE:
            self._linger()
        else:
            self._start_draining()

    def _next_request(self) -> None:
        self._stop_timer()
        if self._http.our_state is h11.MUST_CLOSE or self._is_closing_down:
            self._transport.close()
            return
        data, self._later = self._later, b""
        self._http = self._new_http()
        self._close_after(self._config.timeout_keep_alive)
        self._transport.resume_reading()
        if data:
            self.data_received(data)


def _address(found: Any) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None


def _require_one_meaning(request: h11.Request, headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse what h11 lets pass though two parsers may differ on where it ends (RFC 9112 section 6.3)."""
    if request.http_version not in _VERSIONS:
        raise h11.RemoteProtocolError("neither HTTP/1.1 nor HTTP/1.0")
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
        raise h11.RemoteProtocolError("a length and a transfer encoding")


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """The announced length, 0 without any body, None for a chunked one. h11 has checked that it is one number."""
    for name, _ in headers:
        if name == b"transfer-encoding":
            return None
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


def _wants_websocket(request: h11.Request, headers: list[tuple[bytes, bytes]]) -> bool:
    found = dict(headers)
    tokens = [token.strip().lower() for token in found.get(b"connection", b"").split(b",")]
    return request.method == b"GET" and found.get(b"upgrade", b"").lower() == b"websocket" and b"upgrade" in tokens

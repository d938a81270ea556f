"""HTTP/1.1 at the socket: an h11 protocol class of our own for uvicorn (design decision 4).

h11 reads every head and every chunked body. A body with a Content-Length does not pass through it: each piece goes from
the socket to the application as the very bytes object that arrived, copied nowhere.
"""

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp, Message
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.domain.errors import BadFraming
from gateway.web.problems import problem_response

log = logging.getLogger(__name__)

UNREAD_BYTES: Final = 256 * 1024
"""Reading pauses while the application has more than this before it."""
DRAIN_BYTES: Final = 1 << 20
DRAIN_SECONDS: Final = 2.0
"""What is read of a body that nobody wants any more, so that its sender sees the answer (RFC 9112 section 9.6)."""
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_CLOSE: Final = (b"connection", b"close")


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
        self._http = self._new_http()
        self._exchange: Exchange | None = None
        self._left = 0
        self._later = b""
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._drainable = 0
        self._is_closing_down = False
        self._writable = asyncio.Event()
        self._writable.set()

    def _new_http(self) -> h11.Connection:
        """A state for one request: what a Content-Length announces is counted here, so h11 never sees its end."""
        limit = self._config.h11_max_incomplete_event_size or 16 * 1024
        return h11.Connection(h11.SERVER, max_incomplete_event_size=limit)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._server_state.connections.add(cast(Any, self))
        self._timer = self._loop.call_later(self._config.timeout_keep_alive, self._transport.close)

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
        if self._draining:
            self._drain(data)
        elif self._left and self._exchange is not None:
            self._take_body(self._exchange, data)
        elif self._exchange is not None and self._exchange.body_ended:
            self._later += data  # a pipelined request waits for this one's answer
            self._transport.pause_reading()
        else:
            self._stop_timer()
            self._http.receive_data(data)
            self._read_events()

    # --- reading

    def _take_body(self, exchange: "Exchange", data: bytes) -> None:
        """Pass on a piece of a body with a Content-Length; what follows its end belongs to the next request."""
        piece, self._later = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(piece)
        exchange.add(piece, ended=not self._left)
        if exchange.unread_bytes > UNREAD_BYTES or self._later:
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
                if self._exchange.unread_bytes > UNREAD_BYTES:
                    self._transport.pause_reading()
                return True
            case h11.EndOfMessage() if self._exchange is not None:
                self._later = bytes(self._http.trailing_data[0])
                self._exchange.add(b"", ended=True)
                return False
            case _:
                return False

    def _begin(self, request: h11.Request) -> bool:
        """Hand a request to the application; whether h11 is to read its body."""
        headers = list(request.headers)
        if _wants_websocket(request, headers):
            self._upgrade(request)
            return False
        length = _content_length(headers)
        exchange = Exchange(self, self._http, self._scope(request, headers))
        self._exchange = exchange
        task = self._loop.create_task(exchange.run(self._app))
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

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is not HTTP, if nothing was answered yet, and close: what follows cannot be told apart."""
        log.info("a message that is not HTTP/1.1 was refused")
        if self._exchange is not None:
            self._exchange.client_lost()
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = problem_response(BadFraming("The message is not valid HTTP/1.1."), "")
            headers = [*answer.raw_headers, _CLOSE]
            self._transport.write(
                b"HTTP/1.1 400 Bad Request\r\n"
                + b"".join(b"%s: %s\r\n" % pair for pair in headers)
                + b"\r\n"
                + bytes(answer.body)
            )
        self._transport.close()

    # --- for Exchange

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The Date of this second."""
        return self._server_state.default_headers

    def must_close_after(self, exchange: "Exchange") -> bool:
        """Whether an answer that begins now ends the connection: too much of the body is still to come."""
        return self._is_closing_down or (not exchange.body_ended and not 0 < self._left <= DRAIN_BYTES)

    def resume_reading(self) -> None:
        """The application wants more of the body."""
        if not self._transport.is_closing() and not self._later:
            self._transport.resume_reading()

    async def write(self, data: bytes) -> None:
        """Send *data*, waiting while the client takes none."""
        if data and not self._transport.is_closing():
            self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    def abort(self) -> None:
        """Break the connection: the answer cannot be ended properly."""
        self._transport.close()

    def finished(self, exchange: "Exchange") -> None:
        """The answer is complete: go on with the next request, once this one's body is out of the way."""
        self._exchange = None
        self._server_state.total_requests += 1
        if self._transport.is_closing():
            return
        if not exchange.body_ended:
            self._draining = True
            self._drainable = DRAIN_BYTES
            self._timer = self._loop.call_later(DRAIN_SECONDS, self._transport.close)
            self._transport.resume_reading()
        else:
            self._next_request()

    def _drain(self, data: bytes) -> None:
        """Read on for the sake of a client that sends before it reads, within bounds."""
        size = min(len(data), self._left) if self._left else len(data)
        self._drainable -= size
        if self._left:
            self._left -= size
            if not self._left:
                self._draining = False
                self._later = data[size:]
                self._next_request()
                return
        if self._drainable < 0:
            self._transport.close()

    def _next_request(self) -> None:
        self._stop_timer()
        if self._http.our_state is h11.MUST_CLOSE or self._is_closing_down:
            self._transport.close()
            return
        data, self._later = self._later, b""
        self._http = self._new_http()
        self._timer = self._loop.call_later(self._config.timeout_keep_alive, self._transport.close)
        self._transport.resume_reading()
        if data:
            self.data_received(data)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self) -> None:
        """Called by uvicorn: end the connection when it is idle, or after the answer under way."""
        self._is_closing_down = True
        if self._exchange is None:
            self._transport.close()


class Exchange:
    """One request and its answer, as ASGI sees them."""

    def __init__(self, edge: HttpEdge, http: h11.Connection, scope: dict[str, Any]) -> None:
        self._edge = edge
        self._http = http
        self._scope = scope
        self._pieces: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._expects_continue = http.they_are_waiting_for_100_continue
        self._lost = False
        self._answered = False
        self._told_end = False
        self.unread_bytes = 0
        self.body_ended = False

    def add(self, piece: bytes, *, ended: bool) -> None:
        """A piece of the body arrived."""
        if piece:
            self._pieces.append(piece)
            self.unread_bytes += len(piece)
        self.body_ended = self.body_ended or ended
        self._news.set()

    def client_lost(self) -> None:
        """The connection is gone; what arrived before can still be read."""
        self._lost = True
        self._news.set()

    async def run(self, app: ASGIApp) -> None:
        """Let *app* answer. The gate answers for every failure; one that gets here breaks the connection."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            log.exception("the application failed outside of its own error handling")
        finally:
            if not self._answered:
                self._edge.abort()

    async def receive(self) -> Message:
        """The next piece of the body; a disconnect only after all that arrived was read."""
        if self._expects_continue:
            self._expects_continue = False
            await self._edge.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        while not (self._has_message() or self._lost or self._answered):
            self._news.clear()
            await self._news.wait()
        return self._message()

    def _has_message(self) -> bool:
        return bool(self._pieces) or (self.body_ended and not self._told_end)

    def _message(self) -> Message:
        if self._answered or not self._has_message():
            return {"type": "http.disconnect"}
        piece = self._pieces.popleft() if self._pieces else b""
        self.unread_bytes -= len(piece)
        more = bool(self._pieces) or not self.body_ended
        self._told_end = not more
        if more and self.unread_bytes <= UNREAD_BYTES:
            self._edge.resume_reading()
        return {"type": "http.request", "body": piece, "more_body": more}

    async def send(self, message: Message) -> None:
        """A part of the answer. After the client has gone nothing is sent and nothing fails."""
        if self._lost:
            self._answered = True
            return
        if message["type"] == "http.response.start":
            await self._edge.write(self._head(message))
            return
        body = b"" if self._scope["method"] == "HEAD" else message.get("body", b"")
        ended = not message.get("more_body", False)
        output = self._http.send(h11.Data(data=body)) or b""
        if ended:
            output += self._http.send(h11.EndOfMessage()) or b""
        await self._edge.write(output)
        if ended:
            self._answered = True
            self._news.set()
            self._edge.finished(self)

    def _head(self, message: Message) -> bytes:
        status: int = message["status"]
        headers = [*self._edge.default_headers, *message.get("headers", ())]
        if self._expects_continue or self._edge.must_close_after(self):
            headers.append(_CLOSE)
        self._expects_continue = False
        response = h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, b""))
        return self._http.send(response) or b""


def _address(found: Any) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None


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

"""HTTP/1.1 at the socket: an h11 protocol class of our own for uvicorn (design decision 4).

h11 reads every head. A body does not pass through it: each piece of one with a Content-Length goes from the socket to
the application as the very bytes object that arrived, copied nowhere, and a large one past the transport as well.
"""

from typing import Any, Final, cast
from urllib.parse import unquote

import h11

from gateway.domain.errors import (
    BadFraming,
    BadInput,
    BadRequestTarget,
    GatewayError,
    HeaderTooLarge,
    Overloaded,
    UriTooLong,
)
from gateway.web.chunked_body import ChunkedBody
from gateway.web.client_address import without_claims
from gateway.web.direct_reader import DirectReader, can_read_directly
from gateway.web.edge_deadlines import BodyPace
from gateway.web.edge_protocol import DRAIN_BYTES, EdgeConnection
from gateway.web.http_exchange import Exchange
from gateway.web.raw_head import body_length
from gateway.web.socket_edge import SocketEdge, websocket_handshake

MAX_PIPELINED: Final = 100
"""Requests in a row that came before the answer to the one before; after that many the connection closes."""
_HEAD_COPIES: Final = 3
"""A head that is not whole lies here and at h11, which keeps some room for more."""
DIRECT_FROM_BYTES: Final = 64 * 1024
"""From so many bytes on a body is worth a reader of its own; smaller ones come in one or two reads."""


class HttpEdge(EdgeConnection):
    """Reads requests from a connection and hands each to the application, one at a time."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head = b""
        self._head_is_timed = True
        self._exchange: Exchange | None = None
        self._chunks: ChunkedBody | None = None
        self._later = b""
        self._pipelined = 0
        self._pace: BodyPace | None = None
        self._held_back = False

    def data_received(self, data: bytes) -> None:
        """The next bytes of the connection."""
        exchange = self._exchange
        if self._draining:
            self._drain(data)
        elif exchange is not None and self._left:
            self._take_body(exchange, data)
        elif exchange is not None and exchange.body_ended:
            self._later += data  # a pipelined request waits for this one's answer
            self._transport.pause_reading()
            self._hold_later()
        elif exchange is not None and self._chunks is not None:
            self._chunks.receive(data)
            self._take_chunks(exchange, self._chunks)
        else:
            self._read_head(data)

    # --- reading

    def _take_body(self, exchange: Exchange, data: bytes) -> None:
        """Pass on a piece of a body with a Content-Length; what follows its end belongs to the next request."""
        piece, self._later = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(piece)
        if not self._left:
            self._stop_reading_directly()
        exchange.add(piece, ended=not self._left)
        if (exchange.is_full and self._left) or self._later:
            self._hold_back(exchange)

    def _take_chunks(self, exchange: Exchange, chunks: ChunkedBody) -> None:
        """Pass on what has arrived of a chunked body, as much as the application may have before it."""
        try:
            while not exchange.is_full and (piece := chunks.next_piece()) is not None:
                exchange.add(piece, ended=False, undecoded_bytes=chunks.unread_bytes)
        except BadInput as error:
            self._refuse(error)
            return
        if chunks.ended:
            self._later, self._chunks = chunks.rest, None
            self._stop_reading_directly()
            exchange.add(b"", ended=True)
        if exchange.is_full or self._later:
            self._hold_back(exchange)

    def _hold_later(self) -> None:
        """Hold what came behind the request under way, or break the connection, which cannot tell why."""
        if not self._held.try_resize(len(self._later)):
            self._transport.abort()

    def _hold_back(self, exchange: Exchange) -> None:
        if self._later:
            self._hold_later()
        self._held_back = self._held_back or exchange.is_behind
        (self._direct or self._transport).pause_reading()

    def _read_head(self, data: bytes) -> None:
        before = len(self._head)
        self._head = self._head + data if before else data
        end = self._head.find(b"\r\n\r\n", max(0, before - 3), self._head_bytes + 4)
        if end < 0 and len(self._head) > self._head_bytes:
            self._refuse(self._too_large())
            return
        ours, body = (data, b"") if end < 0 else (data[: end + 4 - before], data[end + 4 - before :])
        try:
            self._http.receive_data(ours)
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            self._refuse(_malformed(self._head))
            return
        if isinstance(event, h11.Request):
            rest = bytes(self._http.trailing_data[0]) + body
            raw, self._head = self._head[: len(self._head) - len(rest)], b""
            self._held.release()
            self._stop_timer()
            self._begin(event, raw, rest)
        elif not self._held.try_resize(_HEAD_COPIES * len(self._head)):
            self._refuse(Overloaded("There is no memory for more of a request's head."))
        elif not self._head_is_timed:
            self._head_is_timed = True
            self._await_head()

    def _begin(self, request: h11.Request, raw: bytes, rest: bytes) -> None:
        """Hand on a request, whose head was *raw*, and *rest*, what has come of its body."""
        headers = list(request.headers)
        try:
            length = body_length(raw, request, headers)
        except BadInput as error:
            self._refuse(error)
            return
        if not self._enter_request(client := self._client_of(headers, length)):
            return
        headers = without_claims(headers)
        if length == 0 and self._opens_websockets and (handshake := websocket_handshake(request, headers)):
            self._upgrade(handshake + rest, client)
            return
        exchange = Exchange(self, self._http, self._scope(request, headers, client), self._edge.reads)
        self._exchange = exchange
        # Begun behind another request, it must not inherit what that one's task had set.
        task = self._loop.create_task(exchange.run(self._app), context=self._context.copy())
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)
        self._begin_body(exchange, length, rest)

    def _begin_body(self, exchange: Exchange, length: int | None, rest: bytes) -> None:
        """Take *rest*, and watch over what is still to come of a body of *length* bytes; None is a chunked one."""
        if length is None:
            self._chunks = ChunkedBody()
            self._chunks.receive(rest)
            self._take_chunks(exchange, self._chunks)
        else:
            self._left = length
            if rest or not length:
                self._take_body(exchange, rest)
        if not (exchange.body_ended or self._draining):  # draining: what came of it was refused
            self._pace = BodyPace(self._deadlines, self._loop.time(), exchange.received_bytes)
            self._after(self._deadlines.look, self._look_at_body)
        is_long = self._left >= DIRECT_FROM_BYTES or (self._chunks is not None and not self._draining)
        if is_long and can_read_directly(self._transport):
            self._direct = DirectReader(self._loop, self._transport, self.data_received, self._edge.reads)
            if exchange.is_full:
                self._direct.pause_reading()

    def _scope(
        self, request: h11.Request, headers: list[tuple[bytes, bytes]], client: tuple[str, int] | None
    ) -> dict[str, Any]:
        raw_path, _, query = request.target.partition(b"?")
        root = self._config.root_path
        return {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "server": self._server,
            "client": client,
            "scheme": self._scheme,
            "method": request.method.decode("ascii"),
            "root_path": root,
            "path": root + unquote(raw_path.decode("ascii")),
            "raw_path": root.encode("ascii") + raw_path,
            "query_string": query,
            "headers": headers,
            "state": self._app_state.copy(),
        }

    def _upgrade(self, handshake: bytes, client: tuple[str, int] | None) -> None:
        """Give the connection, and everything read of it, to the websocket's protocol."""
        self._server_state.connections.discard(cast(Any, self))
        self._is_websocket = True
        websocket = SocketEdge(
            self._config,
            self._server_state,
            self._app_state,
            client=client,
            patience=self._deadlines.answer,
            on_lost=self._websocket_is_lost,
        )
        websocket.connection_made(self._transport)
        self._transport.pause_reading()  # so that the transport asks anew into what it is to read
        self._transport.set_protocol(websocket)
        self._transport.resume_reading()
        websocket.data_received(handshake)

    def _too_large(self) -> GatewayError:
        most = f"expected at most {self._head_bytes} bytes"
        if b"\n" in self._head[: self._head_bytes]:
            return HeaderTooLarge(f"The request's head is too large, {most}.")
        return UriTooLong(f"The request line is too long, {most}.")

    # --- bodies

    def _look_at_body(self) -> None:
        exchange, pace = self._exchange, self._pace
        if exchange is None or pace is None or exchange.body_ended:
            return
        held_back = self._held_back or exchange.expects_continue or not exchange.waits
        self._held_back = exchange.is_full
        error = pace.look(self._loop.time(), exchange.received_bytes, held_back=held_back)
        if error is None:
            self._after(self._deadlines.look, self._look_at_body)
        else:
            exchange.fail(error)

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
            # Closed at once, a proxy that writes before it reads would see a broken connection and no answer.
            self._transport.pause_reading()

    # --- for EdgeConnection

    @property
    def is_active(self) -> bool:
        return self._exchange is not None or (self._head_is_timed and not self._draining)

    @property
    def body_under_way(self) -> object | None:
        return None if self._exchange is None or self._exchange.body_ended else self._exchange

    def _has_request(self) -> bool:
        return self._exchange is not None

    def _owes_answer(self) -> bool:
        return self._exchange is not None and self._exchange.body_ended

    def _drop_request(self) -> None:
        if self._exchange is not None:
            self._exchange.client_lost()
            self._exchange = None

    # --- for Exchange

    def must_close_after(self, exchange: Exchange) -> bool:
        """Whether an answer that begins now ends the connection: too much of the body is still to come."""
        if self._is_closing_down or self._drain_state.closes:
            return True
        if exchange.failure is not None or self._pipelined > MAX_PIPELINED:
            return True
        if self.client_ended_at is not None and not self._later:
            return True
        return not exchange.body_ended and not 0 < self._left <= DRAIN_BYTES

    def resume_reading(self) -> None:
        """The application has room for more of a body that has not ended: first for what is here of it."""
        exchange = self._exchange
        if exchange is None or self._transport.is_closing():
            return
        if self._chunks is not None:
            self._take_chunks(exchange, self._chunks)
        if not (self._draining or exchange.is_full or self._later):
            (self._direct or self._transport).resume_reading()

    def finished(self, exchange: Exchange) -> None:
        """The answer is complete: go on with the next request, once this one's body is out of the way."""
        self._exchange = self._chunks = None
        self._leave_request()
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
        data, self._later = self._later, b""
        self._held.release()
        if self._http.our_state is h11.MUST_CLOSE or self._is_closing_down:
            if data:
                self._linger()
            else:
                self._close()
            return
        self._pipelined = self._pipelined + 1 if data else 0
        self._http = self._new_http()
        self._head_is_timed = False
        self._after(self._config.timeout_keep_alive, self._close)
        self._transport.resume_reading()
        if data:
            self.data_received(data)
        if self.client_ended_at is not None and not self._owes_answer():
            self._close()  # of what would have followed nothing comes


def _malformed(head: bytes) -> GatewayError:
    """What a head deserves that h11 cannot read."""
    if not head.partition(b"\n")[0].isascii():
        return BadRequestTarget("The request line holds bytes beyond ASCII.")
    return BadFraming("The message is not valid HTTP/1.1.")

"""Websockets at the socket: uvicorn's protocol, cut off where a client sends without measure or never reads.

uvicorn parses all that arrived before anyone may object, answers every ping, and keeps a closed connection until its
last byte is taken; here pieces are small, frames are counted, and patience ends.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.web.drain import Drain
from gateway.web.raw_head import Headers, is_utf8

log: Final = logging.getLogger(__name__)
log.setLevel(logging.WARNING)

_PIECE_BYTES: Final = 4096
_CONTROL_FRAMES: Final = 10
_FRAMES: Final = 64
"""In a second, of any kind. Messages have a limit of their own, which the application keeps."""
_MESSAGE_SECONDS: Final = 10.0
"""From a message's first fragment to its last."""
_UNSENT_BYTES: Final = 256 * 1024
_NO_TEXT: Final = 1007
_TOO_MANY: Final = 1008
_ANSWERS: Final = frozenset({"websocket.accept", "websocket.http.response.start", "websocket.http.response.body"})
"""To a handshake."""


def websocket_handshake(request: h11.Request, headers: Headers) -> bytes | None:
    """The head of a whole handshake (RFC 6455 section 4.2.1), None for any other request, which is a plain one.

    websockets judges it beforehand: what it cannot read has no answer of ours there, or none at all and no end.
    """
    if request.method != b"GET" or request.http_version != b"1.1" or not any(name == b"upgrade" for name, _ in headers):
        return None
    lines = [b"GET %s HTTP/1.1" % request.target, *(b"%s: %s" % pair for pair in headers)]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    judge = ServerProtocol(logger=log)
    judge.receive_data(head)
    read = judge.events_received()
    takes = bool(read) and isinstance(read[0], Request) and judge.accept(read[0]).status_code == 101
    return head if takes else None


class FramesMade:
    """The frame of the text that was sent last: many sockets are sent one text, and hold one frame."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._frame = b""

    def of(self, text: str) -> bytes:
        """The frame of *text*: a server's is not masked, so it is the same for everybody."""
        if text is not self._text:
            self._text, self._frame = text, Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
        return self._frame


_FRAMES_MADE: Final = FramesMade()


class SocketEdge(WebSocketsSansIOProtocol):
    """One websocket's connection, taken over from ``HttpEdge`` together with what it had read.

    Args:
        client: whom the connection comes from, as host and port.
        patience: seconds in which the client must take the last that is said to it.
        on_lost: called when the connection has ended.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        client: tuple[str, int] | None,
        patience: float,
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(config, server_state, app_state)
        # Both uvicorn and websockets would log every query, and at level debug every header.
        self.logger = self.conn.logger = log
        self.conn.debug = False
        self._given_client = client
        self._patience = patience
        self._on_lost = on_lost
        self._second = 0.0
        self._frames = self._control_frames = 0
        self._abort_timer: asyncio.TimerHandle | None = None
        self._message_timer: asyncio.TimerHandle | None = None
        self._opens_no_more = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over *transport*."""
        super().connection_made(transport)
        self.client = self._given_client
        self.transport.set_write_buffer_limits(high=0)  # of each client one message waits, no more

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._time_message(ended=True)
        super().connection_lost(exc)
        self._on_lost()

    def shutdown(self) -> None:
        """Close, because the process is on its way out; where uvicorn would answer a handshake under way with 500 it
        goes on, and is refused when it is to open.
        """
        self._opens_no_more = self.handshake_initiated and not self.handshake_complete
        if not self._opens_no_more:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse *data* a little at a time: whoever is cut off costs no more than that."""
        for at in range(0, len(data), _PIECE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + _PIECE_BYTES])

    def handle_cont(self, event: Frame) -> None:
        """Go on with a message in fragments."""
        if self._takes_frame():
            self._time_message(ended=event.fin)
            super().handle_cont(event)

    def handle_text(self, event: Frame) -> None:
        """Begin a message."""
        if self._takes_frame():
            self._time_message(ended=event.fin)
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """Begin a message."""
        if self._takes_frame():
            self._time_message(ended=event.fin)
            super().handle_bytes(event)

    def send_receive_event_to_app(self) -> None:
        """Hand on a message; a text that is none closes with 1007, and is no error of ours."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not is_utf8(b"".join(self.frames)):
            self.conn.fail(_NO_TEXT)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, within reason."""
        if self._takes_control_frame():
            super().handle_ping()
            if self.transport.get_write_buffer_size() > _UNSENT_BYTES:
                self.transport.abort()

    def handle_pong(self, event: Frame) -> None:
        """Note a pong."""
        if self._takes_control_frame():
            super().handle_pong(event)

    def handle_parser_exception(self) -> None:
        """Close after what is no frame, or too much of one."""
        if self.conn.close_sent is None:  # it never opened
            self.transport.abort()
            return
        super().handle_parser_exception()
        self._abort_soon()

    def keepalive_timeout(self) -> None:
        """Close: the client answered no ping."""
        super().keepalive_timeout()
        self._abort_soon()

    async def run_asgi(self) -> None:
        """Serve the websocket; a client that does not take the last word has no more time for it than others."""
        await super().run_asgi()
        self._abort_soon()

    async def send(self, message: Any) -> None:
        """Send; where uvicorn would speak of an error of ours, there is none: a refusal ends a handshake too, who
        sends on a websocket that was cut off meanwhile has lost the client, and a client may leave unanswered.

        Raises:
            Draining: a websocket was to open that would close at once.
        """
        if self.disconnected and message["type"] in _ANSWERS:
            return
        if self._opens_no_more and message["type"] == "websocket.accept":
            raise Drain.ended()
        if self.close_sent and self.handshake_complete:
            raise ClientDisconnected
        if message["type"] == "websocket.send" and self.handshake_complete:
            await self._send_message(message)
            return
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    async def _send_message(self, message: Any) -> None:
        """Send a text, once all before it has left."""
        await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(_FRAMES_MADE.of(message["text"]))

    def _takes_control_frame(self) -> bool:
        if not self._takes_frame():
            return False
        self._control_frames += 1
        if self._control_frames > _CONTROL_FRAMES:
            self._cut_off()
        return self._control_frames <= _CONTROL_FRAMES

    def _takes_frame(self) -> bool:
        now = self.loop.time()
        if now - self._second >= 1:
            self._second, self._frames, self._control_frames = now, 0, 0
        self._frames += 1
        if self._frames == _FRAMES + 1:
            self._cut_off()
        return self._frames <= _FRAMES

    def _time_message(self, *, ended: bool) -> None:
        """Wait for the rest of a message that has begun, but not for ever."""
        if not ended and self._message_timer is None:
            self._message_timer = self.loop.call_later(_MESSAGE_SECONDS, self._message_is_late)
        elif ended and self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None

    def _message_is_late(self) -> None:
        self._message_timer = None
        if self.read_paused:  # it may be here, and we have not looked
            self._time_message(ended=False)
        else:
            self._cut_off()

    def _cut_off(self) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(_TOO_MANY)
        self.handle_parser_exception()

    def _abort_soon(self) -> None:
        """Break the connection if it has not ended by then: closing waits for the client to take every byte."""
        if self._abort_timer is None and not self.disconnected:
            closing_seconds = 0.0 if self.close_timer is None else self.close_timeout
            self._abort_timer = self.loop.call_later(closing_seconds + self._patience, self.transport.abort)

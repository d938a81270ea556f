"""One client's connection, whatever is said on it: its deadlines, its refusals and its end."""

import asyncio
import logging
import secrets
from abc import abstractmethod
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final, cast

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.domain.errors import GatewayError, HeadTimeout, Overloaded, RateLimited
from gateway.fair_timeout import FairTimer
from gateway.web.client_address import Headers
from gateway.web.direct_reader import DirectReader
from gateway.web.drain import Drain
from gateway.web.edge_connections import EdgeConnections, Entry
from gateway.web.edge_refusals import refusal_message
from gateway.web.unsent_answer import SMALL_BYTES

log = logging.getLogger(__name__)

DRAIN_BYTES: Final = 1 << 20
DRAIN_SECONDS: Final = 2.0
"""What is read of a body that nobody wants any more, so that its sender sees the answer (RFC 9112 section 9.6)."""
_HEAD_BYTES: Final = 16 * 1024
_BUFFER: Final = bytearray(32 * 1024)
"""All connections read into it, one after another: no more than this of any is taken in before somebody asks for it."""


class EdgeConnection(asyncio.BufferedProtocol):
    """What ``HttpEdge`` is built on; uvicorn constructs it, and its server keeps it.

    Args:
        drain: whether answers are their connections' last, because the process is on its way out.
        edge: the rules for connections, and those that there are.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: Any = None,
        *,
        drain: Drain | None = None,
        edge: EdgeConnections | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._app = cast(ASGIApp, config.loaded_app)
        self._server_state = server_state
        self._drain_state = drain or Drain()
        self._edge = EdgeConnections() if edge is None else edge
        self._deadlines = self._edge.rules.deadlines
        self._app_state = app_state
        self._loop: asyncio.AbstractEventLoop = _loop or asyncio.get_running_loop()
        self._context = copy_context()
        self._head_bytes = config.h11_max_incomplete_event_size or _HEAD_BYTES
        self._http = self._new_http()
        self._direct: DirectReader | None = None
        self._timer: asyncio.TimerHandle | FairTimer | None = None
        self._answer_timer: FairTimer | None = None
        self._draining = False
        self._drainable = 0
        self._left = 0
        self._eof_written = False
        self.client_ended_at: float | None = None
        self._counted_client: str | None = None
        self._is_closing_down = False
        self._is_websocket = False
        self._writable = asyncio.Event()
        self._writable.set()

    def _new_http(self) -> h11.Connection:
        """A state for one request: what follows its head is read here, so h11 never sees its end."""
        return h11.Connection(h11.SERVER, self._head_bytes)

    # --- asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> bytearray:
        del sizehint
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(_BUFFER)[:nbytes]))

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """The next bytes of the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server = _address(transport.get_extra_info("sockname"))
        self._peer = _address(transport.get_extra_info("peername"))
        self._host = None if self._peer is None else self._peer[0]
        self._by_proxy = self._host is not None and self._host in self._edge.trusted
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._opens_websockets = self._edge.rules.takes_websockets(self._server and self._server[1])
        self._held, self._unsent = self._edge.lease(self._host), self._edge.lease(self._host)
        self._transport.set_write_buffer_limits(0)  # so that `write` returns once the kernel has it all
        self._server_state.connections.add(cast(Any, self))
        match self._edge.admit(self, self._host, self._server and self._server[1]):
            case Entry.SERVED:
                self._await_head()
            case Entry.REFUSED:
                self._refuse(Overloaded("There are as many connections as there may be."))
            case Entry.DROPPED:
                self._transport.abort()

    def eof_received(self) -> bool | None:
        """The client sends no more. Whether our side stays open: as long as a whole request waits for its answer."""
        self.client_ended_at = self._loop.time()
        return self._owes_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_request()
        self._server_state.connections.discard(cast(Any, self))
        self._edge.leave(self, self._host)
        self._held.release()
        self._unsent.release()
        if self._direct is not None:
            self._direct.stop()
        self._stop_timer()
        self._stop_answer_timer()
        self._writable.set()
        self._drop_request()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._watch_answer()

    def resume_writing(self) -> None:
        self._writable.set()
        self._unsent.release()
        if not self._transport.is_closing():
            self._stop_answer_timer()

    # --- what is said on it

    def _client_of(self, headers: Headers, length: int | None) -> tuple[str, int] | None:
        """Whom a request with these *headers*, and a body of *length* bytes, comes from."""
        if self._by_proxy and self._host is not None:
            return self._edge.client_of(self._host, headers, length), 0
        return self._peer

    def _enter_request(self, client: tuple[str, int] | None) -> bool:
        """Count a request of *client* where a proxy names one; False: it was refused as one too many.

        Connections are counted where there is no proxy, and a connection has one request at a time.
        """
        if not self._by_proxy or client is None or client[0] == self._host:
            return True
        if self._edge.begin_request(client[0]):
            self._counted_client = client[0]
            return True
        most = self._edge.rules.per_address_count
        detail = f"The address has {most} requests under way, the most there may be."
        self._refuse(RateLimited(detail, retry_after_seconds=1))
        return False

    def _leave_request(self) -> None:
        """The request under way is over."""
        client, self._counted_client = self._counted_client, None
        if client is not None:
            self._edge.end_request(client)

    @abstractmethod
    def _has_request(self) -> bool:
        """Whether a request is under way."""

    @abstractmethod
    def _owes_answer(self) -> bool:
        """Whether a request that came to its end is not answered yet."""

    @abstractmethod
    def _drop_request(self) -> None:
        """The request under way, if there is one, gets no more bytes and no answer."""

    def _stop_reading_directly(self) -> None:
        """Let the transport read again."""
        if self._direct is not None:
            self._direct.stop()
            self._direct = None
            self._transport.resume_reading()

    def _websocket_is_lost(self) -> None:
        """What this connection became has ended."""
        self._leave_request()
        self._edge.leave(self, self._host)

    # --- deadlines

    def _await_head(self) -> None:
        """Give a request's head its time."""
        self._stop_timer()
        self._timer = FairTimer(self._deadlines.head, self._head_is_late)

    def _head_is_late(self) -> None:
        self._refuse(HeadTimeout(f"The request's head did not come within {self._deadlines.head:g} seconds."))

    def _watch_answer(self) -> None:
        """Break the connection unless the client takes what lies here for it, or a fair share, in time."""
        if self._answer_timer is None:
            size = self._transport.get_write_buffer_size()
            self._answer_timer = FairTimer(self._deadlines.answer, partial(self._look_at_answer, size))

    def _look_at_answer(self, before: int) -> None:
        self._answer_timer = None
        if self._transport.get_write_buffer_size() > max(0, before - self._deadlines.answer_bytes):
            self._transport.abort()
        else:
            self._watch_answer()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        """The one thing that this connection waits for."""
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    # --- refusing and closing

    def _refuse(self, refusal: GatewayError) -> None:
        """Answer what is no request, if nothing was answered yet, and close: what follows cannot be told apart."""
        request_id = secrets.token_hex(16)
        told = {"request_id": request_id, "code": refusal.code, "client": self._host}
        log.info("a connection was refused", extra=told)
        self._edge.note_refusal(refusal.code)
        self._drop_request()
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            as_cos = self._server is not None and self._server[1] == self._edge.rules.cos_port
            self._transport.write(refusal_message(refusal, request_id, self.default_headers, as_cos=as_cos))
        self._linger()

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
        self._after(DRAIN_SECONDS, self._close)
        self._stop_reading_directly()
        self._transport.resume_reading()

    def _close(self) -> None:
        """End the connection once the client has taken what lies here for it, for which it has not for ever."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._watch_answer()

    def shutdown(self) -> None:
        """Called by uvicorn: end the connection when it is idle, or after the answer under way."""
        self._is_closing_down = True
        if self.is_idle:
            self._close()

    @property
    def is_lingering(self) -> bool:
        """Whether what is left of a refused body is still read, so that its sender sees the answer."""
        return self._draining

    @property
    @abstractmethod
    def is_active(self) -> bool:
        """Whether a request is under way, or awaited: the first, or one whose head has begun."""

    @property
    @abstractmethod
    def body_under_way(self) -> object | None:
        """What stands for the request whose body has not come to its end, if there is one."""

    # --- for EdgeConnections

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not (self._has_request() or self._is_websocket)

    def close_idle(self) -> None:
        """End it: another connection takes its place."""
        self._close()

    # --- answers

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The Date of this second, spelled as COS does: its SDKs for Python tell cases apart."""
        return [(name.title(), value) for name, value in self._server_state.default_headers]

    async def write(self, data: bytes) -> None:
        """Send *data*, waiting while the client takes none."""
        if data and not self._eof_written and not self._transport.is_closing():
            self._transport.write(data)
        if not self._writable.is_set():
            # Larger answers are their subjects' to hold: see `unsent_answer`.
            if len(data) <= SMALL_BYTES and not self._unsent.try_resize(self._transport.get_write_buffer_size()):
                self._transport.abort()
            await self._writable.wait()

    def abort(self) -> None:
        """Break the connection: the answer cannot be ended properly."""
        self._close()


def _address(found: Any) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None

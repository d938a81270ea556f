"""One request and its answer, as ASGI sees them: pieces of the body in, parts of the answer out."""

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import Final, Protocol

import h11
from starlette.types import ASGIApp, Message, Scope

from gateway.domain.errors import GatewayError
from gateway.transfer.part_pages import CLIENT_WAITS
from gateway.web.read_budget import SMALLEST_PIECE_BYTES, ReadBudget

log = logging.getLogger(__name__)

UNREAD_BYTES: Final = SMALLEST_PIECE_BYTES
UNREAD_PIECES: Final = 512
"""No more is read from the client while the application has so much before it."""
ENDED_SECONDS: Final = 5.0
"""How long a client that has closed its sending side is taken to wait for an answer."""
REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
CLOSE: Final = (b"connection", b"close")


class Connection(Protocol):
    """What an exchange asks of the connection that its request came on."""

    client_ended_at: float | None
    """When the client closed its sending side, by the event loop's clock."""

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""

    def must_close_after(self, exchange: "Exchange") -> bool:
        """Whether an answer that begins now has to be the connection's last."""

    def resume_reading(self) -> None:
        """The application has room for more of the body."""

    async def write(self, data: bytes) -> None:
        """Send *data*, waiting while the client takes none."""

    def abort(self) -> None:
        """Break the connection: the answer cannot be ended properly."""

    def finished(self, exchange: "Exchange") -> None:
        """The answer is complete."""


class Exchange:
    """The two callables that ASGI wants, over one h11 state.

    ``body_ended``: the request's last byte has come, though perhaps not to the application. ``received_bytes``: how
    much of the body has. ``failure``: why no more of it is waited for. What lies here of the body is held in
    *budget*, and what the application got last until it asks for more: by then that is kept under a lease, or gone.
    """

    def __init__(self, connection: Connection, http: h11.Connection, scope: Scope, budget: ReadBudget) -> None:
        self._connection = connection
        self._http = http
        self._scope = scope
        self._budget = budget
        self._held_bytes = 0
        self._given_bytes = 0
        self._undecoded_bytes = 0
        self._over = False
        self._pieces: deque[bytes] = deque()
        self._unread_bytes = 0
        self._news = asyncio.Event()
        self._expects_continue = http.they_are_waiting_for_100_continue
        self._lost = False
        self._answered = False
        self._unsent_head = b""
        self._told_end = False
        self._waits = False
        self.body_ended = False
        self.received_bytes = 0
        self.failure: GatewayError | None = None

    @property
    def expects_continue(self) -> bool:
        """Whether the client holds the body back until it is told that it is wanted."""
        return self._expects_continue

    @property
    def is_full(self) -> bool:
        """Whether the application has enough of the body before it."""
        return self._unread_bytes >= UNREAD_BYTES or len(self._pieces) > UNREAD_PIECES

    @property
    def is_behind(self) -> bool:
        """Whether the client brought more bytes than the application takes: tiny pieces alone cost it hardly any."""
        return self._unread_bytes >= UNREAD_BYTES

    @property
    def waits(self) -> bool:
        """Whether the application waits for more of the body; else what is slow is not the client."""
        return self._waits

    def add(self, piece: bytes, *, ended: bool, undecoded_bytes: int = 0) -> None:
        """A piece of the body arrived, and behind it *undecoded_bytes* that the connection still keeps."""
        if piece:
            self._pieces.append(piece)
            self._unread_bytes += len(piece)
            self.received_bytes += len(piece)
        self._undecoded_bytes = undecoded_bytes
        self._count()
        self.body_ended = self.body_ended or ended
        self._news.set()

    def _count(self) -> None:
        held = 0 if self._over else self._unread_bytes + self._given_bytes + self._undecoded_bytes
        self._budget.hold(held - self._held_bytes)
        self._held_bytes = held

    def fail(self, error: GatewayError) -> None:
        """Wait for no more of the body: whoever reads it gets *error* after all that arrived."""
        self.failure = error
        self._news.set()

    def client_lost(self) -> None:
        """Nothing more comes and nothing more is taken; what arrived before can still be read."""
        self._lost = True
        self._news.set()

    def has_client(self) -> bool:
        """Whether the client is likely to wait for its answer: one that sends nothing more may have gone altogether."""
        ended_at = self._connection.client_ended_at
        if self._lost or ended_at is None:
            return not self._lost
        return asyncio.get_running_loop().time() - ended_at < ENDED_SECONDS

    async def run(self, app: ASGIApp) -> None:
        """Let *app* answer. The gate answers for every failure; one that gets here breaks the connection."""
        CLIENT_WAITS.set(self.has_client)
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            log.exception("the application failed outside of its own error handling")
        finally:
            self._over = True
            self._count()
            if not (self._answered or self._lost):
                self._connection.abort()

    async def receive(self) -> Message:
        """The next piece of the body; a disconnect only after all that arrived was read.

        Raises:
            GatewayError: the body is given up (BodyTimeout, BodyTooSlow), which is for the application to answer.
        """
        self._given_bytes = 0
        self._count()
        if self._expects_continue and not self._lost:
            self._expects_continue = False
            await self._connection.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        if not (self._pieces or self.body_ended or self._lost):
            # Only now: one piece a body is in memory, however long the application is busy with it.
            self._connection.resume_reading()
        self._waits = True
        while not (self._has_message() or self._lost or self._answered or self.failure):
            self._news.clear()
            await self._news.wait()
        self._waits = False
        if self.failure is not None and not (self._has_message() or self._lost or self._answered):
            raise self.failure
        return self._message()

    def _has_message(self) -> bool:
        return bool(self._pieces) or (self.body_ended and not self._told_end)

    def _message(self) -> Message:
        if self._answered or not self._has_message():
            return {"type": "http.disconnect"}
        piece = self._pieces.popleft() if self._pieces else b""
        self._unread_bytes -= len(piece)
        self._given_bytes = len(piece)
        more = bool(self._pieces) or not self.body_ended
        self._told_end = not more
        return {"type": "http.request", "body": piece, "more_body": more}

    async def send(self, message: Message) -> None:
        """A part of the answer. After the client has gone nothing is sent and nothing fails."""
        if self._lost:
            self._answered = True
            return
        if message["type"] == "http.response.start":
            self._unsent_head = self._head(message)
            return
        body = b"" if self._scope["method"] == "HEAD" else message.get("body", b"")
        ended = not message.get("more_body", False)
        # With the head, the answer is one write, and one packet for the client to wake up for.
        output = self._unsent_head + (self._http.send(h11.Data(data=body)) or b"")
        self._unsent_head = b""
        if ended:
            output += self._http.send(h11.EndOfMessage()) or b""
        await self._connection.write(output)
        if ended:
            self._answered = True
            self._news.set()
            self._connection.finished(self)

    def _head(self, message: Message) -> bytes:
        status: int = message["status"]
        headers = [*self._connection.default_headers, *message.get("headers", ())]
        if self._expects_continue or self._connection.must_close_after(self):
            headers.append(CLOSE)
        self._expects_continue = False
        response = h11.Response(status_code=status, headers=headers, reason=REASONS.get(status, b""))
        return self._http.send(response) or b""

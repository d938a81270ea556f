"""The first and last thing every request passes: an id, the rules for heads and origins, one log line, the metrics.

Pure ASGI, outside of routing, so that nothing is served that it did not see.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.domain.errors import GatewayError, OriginNotAllowed
from gateway.telemetry import REQUEST_ID, Metrics
from gateway.transfer.process_memory import USUAL_BYTES, ProcessMemory
from gateway.web.drain import Drain
from gateway.web.head_rules import METHODS, PROBES, Head, HeadRules
from gateway.web.origins import Origins, RawHeaders, Verdict, is_preflight, preflight_headers
from gateway.web.passage import ROUTE
from gateway.web.problems import CLIENT_GONE, problem_response
from gateway.web.unsent_answer import UnsentAnswer

KEY_ROUTES: Final = ("/v1/objects/",)

_access = logging.getLogger("gateway.access")
_log = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_REQUEST_ID_BYTES: Final = 16
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PRIVATE: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_NO_ROUTE: Final = "none"
_LOGGED_PATH_BYTES: Final = 512
_LONG_SEGMENT: Final = re.compile(r"(?<=[^/]{40})[^/]+")

TurnedAway = Callable[[Scope, Mapping[bytes, bytes]], GatewayError | None]


class Gate:
    """Lets good requests through to *app*, and answers the others.

    Args:
        app: what is behind the gate; a Starlette's routes give the metrics their names.
        allowed_hosts: host names that we answer to, without ports.
        allowed_origins: web origins that may call besides our own.
        metrics: where requests are counted.
        key_routes: path prefixes after which an object's key follows.
        drain: whether the process still takes requests; it always does without.
        turned_away: why a request with these headers is refused before it is looked at any further, which is then not
            worth a line in the log; None to look.
        memory: what holds answers that clients have not taken.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Collection[str],
        allowed_origins: Collection[str] = (),
        metrics: Metrics,
        key_routes: Collection[str] = KEY_ROUTES,
        drain: Drain | None = None,
        turned_away: TurnedAway = lambda scope, headers: None,
        memory: ProcessMemory | None = None,
    ) -> None:
        self._app = app
        self._drain = drain or Drain()
        self._turned_away = turned_away
        self._key_routes = tuple(prefix.encode() for prefix in key_routes)
        self._rules = HeadRules(allowed_hosts, key_routes)
        self._origins = Origins(allowed_origins)
        self._metrics = metrics
        self._memory = memory or ProcessMemory.of(USUAL_BYTES)
        self._templates = {
            getattr(route, "endpoint", None): getattr(route, "path", _NO_ROUTE) for route in getattr(app, "routes", ())
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        head = Head.of(scope["headers"])
        request_id = _request_id(head)
        REQUEST_ID.set(request_id)
        verdict = self._origins.judge(head.values)
        headers = self._origins.answer_headers(verdict, head.values, scope.get("method", ""))
        headers.append((b"x-request-id", request_id.encode()))
        exchange = _Exchange(receive, send, headers, self._metrics)
        try:
            answer = self._answer(scope, head, verdict, request_id) or self._unread(scope, head, exchange, request_id)
            if answer is not None:
                await answer(scope, exchange.receive, exchange.send)
            else:
                answer_of = UnsentAnswer(self._memory, scope, exchange.receive, exchange.send)
                await self._app(scope, exchange.receive, answer_of.send)
        except asyncio.CancelledError:
            if not self._drain.ends:
                raise
            if not exchange.status:
                await problem_response(Drain.ended(), request_id)(scope, exchange.receive, exchange.send)
        except Exception:  # noqa: BLE001 -- the last edge: it is logged, and answered 500
            _log.exception("a request failed in a way that nobody expected")
            if not exchange.status:
                await problem_response(GatewayError(), request_id)(scope, exchange.receive, exchange.send)
        finally:
            exchange.close()
            self._tell(scope, exchange, time.perf_counter() - began)

    def _answer(self, scope: Scope, head: Head, verdict: Verdict, request_id: str) -> Response | None:
        """The answer to a request that does not reach the routes, else None."""
        try:
            self._rules.check(scope, head)
            if scope["raw_path"] not in PROBES:
                self._drain.require_open()
            method = scope.get("method", "")
            preflight = is_preflight(method, head.values)
            if verdict is Verdict.FOREIGN and (preflight or method not in _SAFE_METHODS):
                raise OriginNotAllowed("The page's origin may not do this.")
        except GatewayError as error:
            allow = {"Allow": ", ".join(METHODS)} if error.status_hint == 405 else None
            return problem_response(error, request_id, allow)
        return Response(status_code=204, headers=preflight_headers(head.values)) if preflight else None

    def _unread(self, scope: Scope, head: Head, exchange: "_Exchange", request_id: str) -> Response | None:
        """The answer to who is turned away."""
        refusal = self._turned_away(scope, head.values)
        if refusal is None:
            return None
        exchange.is_quiet = True
        return problem_response(refusal, request_id)

    def _logged(self, path: bytes) -> str:
        """*path* for the log: where no key follows, what is longer than our ids is none, and perhaps a ticket."""
        text = path[:_LOGGED_PATH_BYTES].decode("ascii", "replace")
        return text if path.startswith(self._key_routes) else _LONG_SEGMENT.sub("…", text)

    def _tell(self, scope: Scope, exchange: "_Exchange", seconds: float) -> None:
        route = scope[ROUTE] = self._templates.get(scope.get("endpoint"), _NO_ROUTE)
        method = scope.get("method", "WEBSOCKET")
        label = method if method in METHODS or method == "WEBSOCKET" else "OTHER"
        status = exchange.status or CLIENT_GONE
        self._metrics.count("gateway_http_requests_total", route, label, str(status))
        self._metrics.observe("gateway_http_request_seconds", seconds, route, label)
        if exchange.received_bytes:
            self._metrics.count("gateway_body_bytes_total", by=exchange.received_bytes)
        path: bytes = scope["raw_path"]
        level = logging.DEBUG if exchange.is_quiet or (path in PROBES and status == 200) else logging.INFO
        if _access.isEnabledFor(level):
            told: dict[str, Any] = {
                "method": label,
                "path": self._logged(path),
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                "received_bytes": exchange.received_bytes,
                "client": scope["client"][0] if scope.get("client") else None,
            }
            _access.log(level, "request", extra=told)


class _Exchange:
    """One request and its answer, on their way past the gate: notes the status, adds headers, counts bytes."""

    __slots__ = ("_headers", "_metrics", "_open_socket", "_receive", "_send", "is_quiet", "received_bytes", "status")

    def __init__(self, receive: Receive, send: Send, headers: RawHeaders, metrics: Metrics) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._metrics = metrics
        self._open_socket = False
        self.is_quiet = False
        self.status = 0
        self.received_bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if body := message.get("body"):
            self.received_bytes += len(body)
        elif message["type"] == "http.disconnect":
            self.status = self.status or CLIENT_GONE  # whatever is answered now, nobody hears it
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
            own = list(message.get("headers", ()))
            if kind == "http.response.start":
                own += _unless_set(own)
            message = {**message, "headers": [*own, *self._headers]}
            self.status = self.status or message.get("status", 101)
            if kind == "websocket.accept":
                self._open_socket = True
                self._metrics.add("gateway_websockets_open", 1)
        elif kind == "websocket.close" and not self.status:
            self.status = 403  # what a server makes of a close before accept
        await self._send(message)

    def close(self) -> None:
        """Count the websocket as closed, if one was open."""
        if self._open_socket:
            self._metrics.add("gateway_websockets_open", -1)


def _unless_set(headers: RawHeaders) -> RawHeaders:
    """What keeps an answer, which may hold tickets and keys, out of caches, and its type from being guessed."""
    names = {name for name, _ in headers}
    return [pair for pair in _PRIVATE if pair[0] not in names]


def _request_id(head: Head) -> str:
    """The caller's own id, where it is one; else 128 random bits."""
    given = head.values.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return secrets.token_hex(_REQUEST_ID_BYTES)

"""The COS door: COS's XML API, host-rooted, for programs that use Tencent's own SDKs. It translates, no more.

Pure ASGI, and the door's own edge: an id for every request, the rules for heads, CORS, one log line, the metrics.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from gateway.audit import note_door_refusal, note_refusal
from gateway.collector import let_go
from gateway.domain.errors import GatewayError
from gateway.telemetry import REQUEST_ID, Metrics
from gateway.web.admission import Admission
from gateway.web.cos_answers import CosAnswer, Header, refusal_answer, send_answer
from gateway.web.cos_auth import CosAuth
from gateway.web.cos_call import CosCall, Handler, Operation, operation_of, read_call
from gateway.web.cos_cors import CosCors
from gateway.web.cos_form_calls import FormCalls
from gateway.web.cos_problems import CosRefusal, refusal_of
from gateway.web.cos_said import check_said
from gateway.web.drain import Drain
from gateway.web.head_rules import Head, HeadRules
from gateway.web.passage import ROUTE
from gateway.web.problems import CLIENT_GONE
from gateway.web.unsent_answer import held, note_owner

_access = logging.getLogger("gateway.access")
_log = logging.getLogger(__name__)

_REQUEST_ID_BYTES: Final = 16
_NO_OPERATION: Final = "cos:none"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_WITH_BYTES: Final = frozenset({Operation.PUT_OBJECT, Operation.APPEND_OBJECT, Operation.UPLOAD_PART})
_LOGGED_PATH_BYTES: Final = 512


class CosDoor:
    """Answers every request of the COS listener.

    Args:
        handlers: who answers which operation; POST Object is *forms*'s.
        allowed_hosts: host names without ports that we answer to.
        allowed_origins: web origins whose pages may call.
        drain: whether the process still takes requests; it always does without.
    """

    def __init__(
        self,
        auth: CosAuth,
        admission: Admission,
        handlers: Mapping[Operation, Handler],
        forms: FormCalls,
        *,
        allowed_hosts: Collection[str],
        allowed_origins: Collection[str],
        metrics: Metrics,
        drain: Drain | None = None,
    ) -> None:
        self._auth = auth
        self._admission = admission
        self._drain = drain or Drain()
        self._handlers = handlers
        self._forms = forms
        self._rules = HeadRules(allowed_hosts, key_routes=("/",))
        self._cors = CosCors(allowed_origins)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send)
        request_id = secrets.token_hex(_REQUEST_ID_BYTES)
        REQUEST_ID.set(request_id)
        try:
            await self._serve(scope, exchange, request_id)
        except asyncio.CancelledError:
            if not self._drain.ends:
                raise
            await _fail(scope, exchange, Drain.ended(), request_id)
        except Exception:  # noqa: BLE001 -- the last edge: it is logged, and answered 500
            _log.exception("a request failed in a way that nobody expected")
            await _fail(scope, exchange, GatewayError(), request_id)
        finally:
            self._tell(scope, exchange)

    async def _serve(self, scope: Scope, exchange: "_Exchange", request_id: str) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        lease: AbstractContextManager[object] = nullcontext()
        try:
            answer = await self._answer(scope, exchange, headers)
            lease = await held(self._admission.memory, scope, len(answer.body) if isinstance(answer.body, bytes) else 0)
        except CosRefusal as refusal:
            note_door_refusal(refusal.code, refusal.status)
            answer = _refused(refusal, scope, request_id)
        except GatewayError as error:
            note_refusal(error)
            answer = _refused(refusal_of(error), scope, request_id)
            let_go(error)
        extra: list[Header] = [("x-cos-request-id", request_id), *self._cors.answer_headers(headers, answer.headers)]
        try:
            with lease:
                await send_answer(exchange.send, answer, extra)
        finally:
            answer.on_end()

    async def _answer(self, scope: Scope, exchange: "_Exchange", headers: Mapping[str, str]) -> CosAnswer:
        self._rules.check(scope, Head.of(scope["headers"]))
        self._drain.require_open()
        if scope["method"] == "OPTIONS":
            return self._cors.preflight(headers)
        self._admission.arriving(scope)
        call = read_call(Request(scope, exchange.receive))
        if call.is_form:
            exchange.route = _route(Operation.POST_OBJECT)
            return await self._forms.post(call)
        return await self._admitted(call, exchange)

    async def _admitted(self, call: CosCall, exchange: "_Exchange") -> CosAnswer:
        asked = self._auth.admit(call)
        operation = operation_of(asked.call)
        exchange.route = _route(operation)
        note_owner(call.request.scope, asked.caller.owner)
        caller, handle = self._admission.admit(asked.caller, call.method), self._handlers[operation]
        asked.require(operation)
        check_said(operation, asked.call)
        if operation is Operation.INITIATE_UPLOAD:
            self._admission.creating(caller)
        if operation not in _WITH_BYTES:
            return await handle(asked)
        with self._admission.receiving(caller, call.request.scope):
            return await handle(asked)

    def _tell(self, scope: Scope, exchange: "_Exchange") -> None:
        scope[ROUTE] = exchange.route
        seconds = time.perf_counter() - exchange.began
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        status = exchange.status or CLIENT_GONE
        self._metrics.count("gateway_http_requests_total", exchange.route, method, str(status))
        self._metrics.observe("gateway_http_request_seconds", seconds, exchange.route, method)
        if exchange.received_bytes:
            self._metrics.count("gateway_body_bytes_total", by=exchange.received_bytes)
        if _access.isEnabledFor(logging.INFO):
            told = {
                "method": method,
                "path": scope["raw_path"][:_LOGGED_PATH_BYTES].decode("ascii", "replace"),
                "route": exchange.route,
                "status": status,
                "seconds": round(seconds, 6),
                "received_bytes": exchange.received_bytes,
                "client": scope["client"][0] if scope.get("client") else None,
            }
            _access.info("request", extra=told)


class _Exchange:
    """One request and its answer, on their way past the door: notes the status and counts bytes."""

    __slots__ = ("_receive", "_send", "began", "received_bytes", "route", "status")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = time.perf_counter()
        self.route = _NO_OPERATION
        self.received_bytes = 0
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if body := message.get("body"):
            self.received_bytes += len(body)
        elif message["type"] == "http.disconnect":
            self.status = self.status or CLIENT_GONE  # whatever is answered now, nobody hears it
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = self.status or message["status"]
        await self._send(message)


def _route(operation: Operation) -> str:
    return f"cos:{operation}"


async def _fail(scope: Scope, exchange: _Exchange, error: GatewayError, request_id: str) -> None:
    """Answer a request that was broken off, if it has no answer yet."""
    if not exchange.status:
        note_refusal(error)
        answer = _refused(refusal_of(error), scope, request_id)
        await send_answer(exchange.send, answer, [("x-cos-request-id", request_id)])


def _refused(refusal: CosRefusal, scope: Scope, request_id: str) -> CosAnswer:
    resource = scope["raw_path"].decode("ascii", "replace")
    return refusal_answer(refusal, resource=resource, request_id=request_id, head_only=scope["method"] == "HEAD")

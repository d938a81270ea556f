"""Every failure as one document: ``application/problem+json`` (RFC 9457) with a registered code.

Nothing of the caller's is ever in it: texts and facts are ours.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import ExceptionHandler

from gateway.audit import note_refusal
from gateway.collector import let_go
from gateway.domain.errors import BadInput, Busy, GatewayError, MethodNotAllowed, NotFound
from gateway.domain.task import TaskError
from gateway.telemetry import REQUEST_ID
from gateway.web.json_answers import json_bytes

MEDIA_TYPE: Final = "application/problem+json"
CLIENT_GONE: Final = 499
"""The status logged for a request whose client left before the answer (nginx's own number)."""

_ALWAYS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_DEFAULT_RETRY_SECONDS: Final = 1


def current_request_id() -> str:
    """The id that the gate gave to this request; empty where no gate stands in front."""
    return REQUEST_ID.get() or ""


def problem(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The problem document of *error*. Its facts are further members, and cannot replace the standard ones."""
    document: dict[str, Any] = {
        **error.facts,
        "type": f"urn:upload-gateway:error:{error.code}",
        "title": error.title,
        "status": error.status_hint,
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
    }
    if error.detail:
        document["detail"] = error.detail
    if error.cos is not None:
        document["cos"] = {"status": error.cos.status, "code": error.cos.code, "request_id": error.cos.request_id}
    return document


def problem_response(error: GatewayError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that carries ``problem(error)``; *headers* are added, for example ``Allow``."""
    note_refusal(error)
    body = json_bytes(problem(error, request_id))
    return Response(body, error.status_hint, {**_ALWAYS, **_status_headers(error), **(headers or {})}, MEDIA_TYPE)


def error_document(error: TaskError) -> dict[str, Any]:
    """A task's ``error`` member."""
    return {
        "code": error.code,
        "title": error.title,
        "detail": error.detail,
        "retryable": error.retryable,
        "cos": None if error.cos is None else dict(error.cos),
    }


def exception_handlers() -> dict[Any, ExceptionHandler]:
    """What Starlette is to do with each kind of exception. The gate logs what was not expected."""
    return {
        GatewayError: _answer_gateway_error,
        HTTPException: _answer_http_exception,
        ClientDisconnect: _answer_nobody,
        Exception: _answer_unexpected,
    }


def _status_headers(error: GatewayError) -> dict[str, str]:
    headers: dict[str, str] = {}
    seconds = error.retry_after_seconds
    if seconds is None and isinstance(error, Busy):
        seconds = _DEFAULT_RETRY_SECONDS
    if seconds is not None:
        headers["Retry-After"] = str(max(0, ceil(seconds)))
    if error.status_hint == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


async def _answer_gateway_error(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    let_go(error)
    return problem_response(error, current_request_id())


async def _answer_http_exception(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    translated = _translated(error.status_code)
    allow = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return problem_response(translated, current_request_id(), allow)


def _translated(status: int) -> GatewayError:
    """Starlette raises 404 and 405 for routes, 400 for what it cannot read; it has no other reason of its own."""
    if status == 405:
        return MethodNotAllowed()
    if status == 404:
        return NotFound()
    return BadInput() if 400 <= status < 500 else GatewayError()


async def _answer_nobody(connection: HTTPConnection, error: Exception) -> Response:
    let_go(error)
    return Response(status_code=CLIENT_GONE)


async def _answer_unexpected(connection: HTTPConnection, error: Exception) -> Response:
    del error
    return problem_response(GatewayError(), current_request_id())

"""What the COS door says: COS's header names and XML, sent as they are spelled here.

Tencent's Python SDK, and user code above it, reads ``ETag`` and ``x-cos-…`` by exactly these names.
"""

import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from starlette.types import Send

from gateway.web.cos_problems import AUTH_CODES, CosRefusal

Header = tuple[str, str]

DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8" ?>\n'
XML_TYPE: Final = ("Content-Type", "application/xml")
_PLAIN: Final = re.compile(r"[\w./:%-]*", re.ASCII)
_TRACE_BYTES: Final = 24
_QUOTE: Final = {'"': "&quot;"}


@dataclass(frozen=True, slots=True)
class CosAnswer:
    """One HTTP answer: ``bytes`` are sent with their length, an iterator as it comes. ``code`` is COS's error code.

    ``on_end`` is called when the answer is over, however it ended.
    """

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes | AsyncIterator[bytes] = b""
    code: str = field(default="", compare=False)
    on_end: Callable[[], None] = field(default=lambda: None, compare=False)


def tag(name: str, *children: str, namespace: str = "") -> str:
    """An XML element around *children*, which are XML already."""
    declared = f' xmlns="{namespace}"' if namespace else ""
    return f"<{name}{declared}>{''.join(children)}</{name}>"


def text(name: str, value: str | int) -> str:
    """An XML element around a value."""
    shown = str(value)
    return f"<{name}>{shown if _PLAIN.fullmatch(shown) else escape(shown, _QUOTE)}</{name}>"


def xml_answer(root: str, *, status: int = 200, headers: Iterable[Header] = ()) -> CosAnswer:
    """*root*, an XML element, as an answer."""
    return CosAnswer(status, (XML_TYPE, *headers), DECLARATION + root.encode())


def error_element(refusal: CosRefusal, *, resource: str, request_id: str, trace_id: str = "") -> str:
    """COS's error document."""
    server_time = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return tag(
        "Error",
        text("Code", refusal.code),
        text("Message", refusal.message),
        text("ServerTime", server_time) if refusal.code in AUTH_CODES else "",
        text("Resource", resource),
        text("RequestId", request_id),
        text("TraceId", trace_id),
    )


def refusal_answer(refusal: CosRefusal, *, resource: str, request_id: str, head_only: bool) -> CosAnswer:
    """*refusal* as an answer; to a HEAD it is the status alone."""
    trace_id = secrets.token_hex(_TRACE_BYTES)
    headers: list[Header] = [("x-cos-trace-id", trace_id)]
    if refusal.retry_after_seconds is not None:
        headers.append(("Retry-After", str(refusal.retry_after_seconds)))
    if head_only:
        return CosAnswer(refusal.status, tuple(headers), code=refusal.code)
    body = error_element(refusal, resource=resource, request_id=request_id, trace_id=trace_id)
    return CosAnswer(refusal.status, (XML_TYPE, *headers), DECLARATION + body.encode(), refusal.code)


async def send_answer(send: Send, answer: CosAnswer, extra: Iterable[Header]) -> None:
    """Send *answer* with *extra* headers in front."""
    headers = [*extra, *answer.headers]
    sized = answer.status in (204, 304) or any(name == "Content-Length" for name, _ in headers)
    if isinstance(answer.body, bytes) and not sized:
        headers.append(("Content-Length", str(len(answer.body))))
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    if isinstance(answer.body, bytes):
        await send({"type": "http.response.body", "body": answer.body})
        return
    async for chunk in answer.body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})

"""What the local COS says: answers with COS's own header names, XML and error codes."""

import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final
from xml.sax.saxutils import escape

from starlette.types import Send

Header = tuple[str, str]

DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8" ?>\n'
_AUTH_CODES: Final = {
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_STATUSES: Final = {
    "AccessDenied": 403,
    "AppendPositionErr": 409,
    "BadDigest": 400,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    # COS's pages name no code for x-cos-forbid-overwrite; 409 is documented, the word is our choice.
    "FileAlreadyExists": 409,
    "IncompleteBody": 400,
    "IncorrectNumberOfFilesInPostRequest": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidDigest": 400,
    "InvalidObjectName": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidPolicyDocument": 400,
    "InvalidRange": 416,
    "InvalidURI": 400,
    "KeyTooLong": 400,
    "ListPartUploadIdIsEmpty": 400,
    "MalformedPOSTRequest": 400,
    "MalformedXML": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "NotSupportedStorageClass": 400,
    "ObjectNotAppendable": 409,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "UploadConflict": 409,
    "XMLSizeLimit": 400,
}


class Refusal(Exception):
    """The request gets one of COS's errors.

    Args:
        code: COS's word; it decides the status unless *status* is given.
        details: further XML elements of the error, in order.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int | None = None,
        details: Iterable[tuple[str, str]] = (),
        headers: Iterable[Header] = (),
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message or code
        self.status = status or _STATUSES[code]
        self.details = tuple(details)
        self.headers = tuple(headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. ``headers`` keep their casing on the wire: Tencent's Python SDK reads ``ETag`` by that name.

    A body of ``bytes`` is sent with its length; an iterator is sent as it comes, by the length that ``headers`` give
    or chunked. ``code`` is COS's error code, for the journal.
    """

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes | AsyncIterator[bytes] = b""
    code: str = ""


@dataclass(slots=True)
class Signoff:
    """What every answer to one request carries: its id and the server's time, which a fault may move."""

    now: float
    request_id: str = field(default_factory=lambda: secrets.token_hex(12))

    def headers(self) -> list[Header]:
        return [
            ("Date", formatdate(self.now, usegmt=True)),
            ("Server", "tencent-cos"),
            ("x-cos-request-id", self.request_id),
        ]


def tag(name: str, *children: str, namespace: str = "") -> str:
    """An XML element around *children*, which are XML already."""
    declared = f' xmlns="{namespace}"' if namespace else ""
    return f"<{name}{declared}>{''.join(children)}</{name}>"


def text(name: str, value: str | int | bool) -> str:
    """An XML element around a value as text; booleans are ``true`` and ``false``."""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name}>{escape(shown, {chr(34): '&quot;'})}</{name}>"


def xml_answer(root: str, *, status: int = 200, headers: Iterable[Header] = ()) -> Answer:
    """*root*, an XML element, as an answer."""
    return Answer(status, (("Content-Type", "application/xml"), *headers), DECLARATION + utf8(root))


def refusal_answer(refusal: Refusal, signoff: Signoff, *, resource: str, head_only: bool) -> Answer:
    """COS's error document; to a HEAD it is the status alone."""
    trace_id = secrets.token_hex(24)
    headers = (("x-cos-trace-id", trace_id), *refusal.headers)
    if head_only:
        return Answer(refusal.status, headers, code=refusal.code)
    server_time = [("ServerTime", iso_time(signoff.now))] if refusal.code in _AUTH_CODES else []
    rows = [
        ("Code", refusal.code),
        ("Message", refusal.message),
        *refusal.details,
        *server_time,
        ("Resource", resource),
        ("RequestId", signoff.request_id),
        ("TraceId", trace_id),
    ]
    body = utf8("<?xml version='1.0' encoding='utf-8' ?>\n" + tag("Error", *(text(*row) for row in rows)))
    return Answer(refusal.status, (("Content-Type", "application/xml"), *headers), body, refusal.code)


async def send_answer(send: Send, answer: Answer, extra: Iterable[Header]) -> None:
    """Send *answer* with *extra* headers in front."""
    headers = [*extra, *answer.headers]
    has_length = answer.status == 204 or any(name == "Content-Length" for name, _ in headers)
    if isinstance(answer.body, bytes) and not has_length:
        headers.append(("Content-Length", str(len(answer.body))))
    raw = [(utf8(name), utf8(value)) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    if isinstance(answer.body, bytes):
        await send({"type": "http.response.body", "body": answer.body})
        return
    async for chunk in answer.body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def iso_time(moment: float) -> str:
    """Unix seconds as COS writes times in XML."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utf8(value: str) -> bytes:
    """*value* in the bytes it came in, valid UTF-8 or not."""
    return value.encode("utf-8", "surrogateescape")

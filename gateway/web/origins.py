"""Which web pages may call: our own, and those of the configured origins (the Fetch standard's CORS protocol)."""

import re
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final

REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Digest",
    "Content-Disposition",
    "Content-Encoding",
    "Content-MD5",
    "Content-Range",
    "Content-Type",
    "Expires",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Traceparent",
    "Tracestate",
    "Upload-Ticket",
    "X-Cos-Hash-Crc64ecma",
    "X-Request-Id",
)
ANSWER_HEADERS: Final = (
    *("Content-Length", "ETag", "Last-Modified", "Location", "Retry-After", "Upload-Ticket", "X-Request-Id"),
    *("x-cos-hash-crc64ecma", "x-cos-next-append-position", "x-cos-object-type", "x-cos-request-id"),
    *("x-cos-storage-class", "x-cos-version-id"),
)
"""What pages may read."""
_EXPOSED: Final = ", ".join(ANSWER_HEADERS).encode()
_EXPOSED_OF_OBJECT: Final = _EXPOSED + b", *"
"""With the object's own ``x-cos-meta-*``. Elsewhere no asterisk: it makes Chromium complain in its console whenever a
page asks an answer for a header that it happens not to have, such as Retry-After."""
_COS_HEADER: Final = re.compile(r"(?<![^ ,])x-cos-[a-z0-9-]{1,128}(?![^ ,])")
_METHODS: Final = "GET, HEAD, POST, PUT, DELETE, PATCH"
_PREFLIGHT_SECONDS: Final = 7200
_VARY: Final = (b"vary", b"origin")

RawHeaders = list[tuple[bytes, bytes]]


class Verdict(Enum):
    """Where a request comes from: no page or our own, a listed origin, or any other."""

    OWN = 1
    LISTED = 2
    FOREIGN = 3


class Origins:
    """Judges the ``Origin`` of requests; *allowed* are ``scheme://host[:port]``."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(origin.lower().encode() for origin in allowed)

    def judge(self, values: Mapping[bytes, bytes]) -> Verdict:
        """The verdict on a request with these headers. Without Origin no page sent it, or one that need not tell."""
        origin = values.get(b"origin")
        if origin is None:
            return Verdict.OWN
        origin = origin.lower()
        if origin in self._allowed:
            return Verdict.LISTED
        # A proxy that ends TLS hides the scheme from us: the host decides.
        scheme, _, place = origin.partition(b"://")
        own = scheme in (b"https", b"http") and place and place == values.get(b"host", b"").lower()
        return Verdict.OWN if own else Verdict.FOREIGN

    def answer_headers(self, verdict: Verdict, values: Mapping[bytes, bytes], method: str) -> RawHeaders:
        """What lets the page read the answer to a request by *method*."""
        if verdict is Verdict.LISTED:
            return [
                (b"access-control-allow-origin", values[b"origin"]),
                (b"access-control-expose-headers", _EXPOSED_OF_OBJECT if method == "HEAD" else _EXPOSED),
                _VARY,
            ]
        return [_VARY] if self._allowed and b"origin" in values else []


def is_preflight(method: str, values: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks what it may send."""
    return method == "OPTIONS" and b"origin" in values and b"access-control-request-method" in values


def preflight_headers(values: Mapping[bytes, bytes]) -> dict[str, str]:
    """The answer to a preflight from a page that may call; it may also send the ``x-cos-*`` headers it asks for."""
    asked = values.get(b"access-control-request-headers", b"").decode("latin-1").lower()
    cos = _COS_HEADER.findall(asked)
    return {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": ", ".join([*REQUEST_HEADERS, *cos]),
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
    }

"""What browsers ask before and read after: every origin may use the local COS, as a bucket with open rules lets it."""

from collections.abc import Collection, Mapping
from typing import Final

from gateway.dev.cos_answers import Answer, Header, Refusal
from gateway.dev.cos_calls import Call

_EXPOSED: Final = (
    "Accept-Ranges, Content-Length, Content-Range, Date, ETag, Last-Modified, Location, x-cos-hash-crc64ecma, "
    "x-cos-next-append-position, x-cos-object-type, x-cos-request-id, x-cos-storage-class, x-cos-trace-id, "
    "x-cos-version-id"
)


def cors_headers(headers: Mapping[str, str], answered: Collection[Header]) -> list[Header]:
    """What an answer with the headers *answered* says besides to a request that has an Origin among *headers*."""
    origin = headers.get("origin")
    if origin is None:
        return []
    exposed = ", ".join([_EXPOSED, *_metadata(answered)])
    return [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", exposed), ("Vary", "Origin")]


def preflight(call: Call) -> Answer:
    """OPTIONS Object, doc 8288. No signature: browsers send none.

    Raises:
        Refusal: AccessDenied: it is no preflight.
    """
    method = call.headers.get("access-control-request-method")
    if "origin" not in call.headers or method is None:
        raise Refusal("AccessDenied", "An OPTIONS request needs Origin and Access-Control-Request-Method.")
    wanted = call.headers.get("access-control-request-headers", "*")
    return Answer(
        200,
        (
            ("Access-Control-Allow-Methods", "GET, HEAD, PUT, POST, DELETE"),
            ("Access-Control-Allow-Headers", wanted),
            ("Access-Control-Max-Age", "600"),
        ),
    )


def _metadata(answered: Collection[Header]) -> list[str]:
    """The caller's metadata is its own to read."""
    return sorted(name for name, _ in answered if name.lower().startswith("x-cos-meta-"))

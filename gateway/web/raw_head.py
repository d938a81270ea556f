"""What a request's head must be before anyone reads it: of one meaning to every parser on the way (RFC 9112)."""

import re
from typing import Final

import h11

from gateway.domain.errors import BadFraming

Headers = list[tuple[bytes, bytes]]

MAX_LENGTH_DIGITS: Final = 16
_VERSIONS: Final = (b"1.1", b"1.0")
_LENGTHS: Final = re.compile(rb"\ncontent-length:[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE)
_PLAIN_LENGTH: Final = re.compile(rb"[0-9]{1,%d}" % MAX_LENGTH_DIGITS)
_SOCKET_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


def body_length(raw: bytes, request: h11.Request, headers: Headers) -> int | None:
    """The length of the body that follows *raw*, which h11 read as *request*; 0 without any, None for a chunked one.

    Raises:
        BadFraming: h11 lets it pass, but two parsers may differ on where the head or the body ends.
    """
    if request.http_version not in _VERSIONS:
        raise BadFraming("The request is neither of HTTP/1.1 nor of HTTP/1.0.")
    if raw.count(b"\n") != raw.count(b"\r\n") or b"\n " in raw or b"\n\t" in raw:
        raise BadFraming("A line of the head is folded, or does not end with CR LF.")
    lengths = [value for name, value in headers if name == b"content-length"]
    is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
    if is_chunked and (lengths or request.http_version == b"1.0"):
        raise BadFraming("A transfer encoding comes with a length, or with HTTP/1.0.")
    if not lengths:
        return None if is_chunked else 0
    told = _LENGTHS.findall(raw)  # h11 makes one of several that agree
    if len(told) != 1 or not _PLAIN_LENGTH.fullmatch(told[0]):
        raise BadFraming(f"Content-Length is not one number of at most {MAX_LENGTH_DIGITS} digits.")
    return int(told[0])


def wants_websocket(request: h11.Request, headers: Headers) -> bool:
    """Whether this is a whole websocket handshake (RFC 6455 section 4.2.1); any other upgrade is a plain request."""
    found = dict(headers)
    tokens = [token.strip().lower() for token in found.get(b"connection", b"").split(b",")]
    return (
        request.method == b"GET"
        and found.get(b"upgrade", b"").lower() == b"websocket"
        and b"upgrade" in tokens
        and found.get(b"sec-websocket-version") == b"13"
        and _SOCKET_KEY.fullmatch(found.get(b"sec-websocket-key", b"")) is not None
    )

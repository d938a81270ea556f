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


def is_utf8(raw: bytes) -> bool:
    """Whether *raw* is text."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True

"""Reading what a request says of itself: its body's chunks, digests, ranges and preconditions."""

import base64
import binascii
import re
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from gateway.domain.errors import (
    BadDigest,
    BadQuery,
    BodyIncomplete,
    InvalidField,
    InvalidPartNumber,
    InvalidRange,
    LengthRequired,
)
from gateway.domain.object_headers import require_taken
from gateway.domain.objects import ETag
from gateway.transfer.digests import Digests
from gateway.transfer.relay import PartConditions
from gateway.transfer.sequential_flow import ContentRange
from gateway.web.raw_head import is_utf8
from gateway.web.receptions import refusal_of

MAX_CRC64: Final = (1 << 64) - 1
NO_XML: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
"""Control characters, and what else no XML of COS's can hold (XML 1.0 section 2.2)."""
_DIGEST_HEADERS: Final = frozenset({"x-cos-hash-crc64ecma"})
_PART_NUMBER: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,20}", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,16})-([0-9]{1,16})/([0-9]{1,16}|\*)", re.ASCII)
_VERSION: Final = re.compile(r'"([0-9]{1,15})"', re.ASCII)
_CONTENT_DIGEST: Final = re.compile(r"([a-z0-9-]+)=:([A-Za-z0-9+/=]*):", re.ASCII)
_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,128}"', re.ASCII)


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The request's body as it arrives.

    A lost client shows here and nowhere else: asking for it between chunks would eat body bytes. Neither this nor
    whoever passes chunks on keeps one while it waits for the next: with a client that pauses that may be minutes.

    Raises:
        BodyIncomplete: the client left before the body's end.
        TokenExpired, TokenInvalid: the caller's token ended while it came.
    """
    receive, scope = request.receive, request.scope
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyIncomplete("The client left before the body's end.")
        if (refusal := refusal_of(scope)) is not None:
            raise refusal
        chunk, more = message.get("body"), message.get("more_body")
        del message
        if chunk:
            yield chunk
        del chunk
        if not more:
            return


def content_length(request: Request) -> int | None:
    """Content-Length in bytes, None for a chunked body."""
    value = request.headers.get("content-length")
    return None if value is None else int(value)


def required_length(request: Request) -> int:
    """Content-Length in bytes. Raises LengthRequired without one."""
    length = content_length(request)
    if length is None:
        raise LengthRequired("A part, and what is appended, is sent with a Content-Length.")
    return length


def part_number(text: str) -> int:
    """A part number from a path. Raises InvalidPartNumber."""
    if not _PART_NUMBER.fullmatch(text):
        raise InvalidPartNumber("A part number is a decimal number from 1 to 10000.")
    return int(text)


def digests(request: Request) -> Digests:
    """What the headers say of the body: ``Content-MD5`` or ``Content-Digest: md5``, and ``x-cos-hash-crc64ecma``.

    Raises:
        BadDigest: malformed, of an unknown algorithm, or two that disagree.
    """
    md5 = request.headers.get("content-md5") or None
    for algorithm, value in _content_digests(request.headers.get("content-digest")):
        if algorithm != "md5":
            raise BadDigest("Content-Digest names an algorithm other than md5.")
        if md5 not in (None, value):
            raise BadDigest("Content-MD5 and Content-Digest disagree.")
        md5 = value
    if md5 is not None:
        md5_of(md5)
    crc = request.headers.get("x-cos-hash-crc64ecma")
    return Digests(md5, None if crc is None else crc64_of(crc))


def _content_digests(header: str | None) -> list[tuple[str, str]]:
    """RFC 9530 section 2: a dictionary of byte sequences."""
    if header is None:
        return []
    members = [member.strip() for member in header.split(",")]
    matches = [_CONTENT_DIGEST.fullmatch(member) for member in members]
    if not all(matches):
        raise BadDigest("Content-Digest is not a list of algorithm=:base64:.")
    return [(match[1], match[2]) for match in matches if match is not None]


def refuse_object_headers(request: Request) -> None:
    """Refuse COS's own headers on a call that takes none: what an object is to be is said when its task is created.

    Raises:
        InvalidField: there is one.
    """
    require_taken((name for name, value in request.headers.items() if value), _DIGEST_HEADERS, meta=False)


def md5_of(text: str) -> str:
    """An MD5 in base64, as it is. Raises BadDigest."""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadDigest("The MD5 is not base64.") from None
    if len(digest) != 16:
        raise BadDigest(f"The MD5 has {len(digest)} bytes, expected 16.")
    return text


def crc64_of(text: str) -> int:
    """A CRC-64 from unsigned decimal text. Raises BadDigest."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_CRC64:
        raise BadDigest("The CRC-64 is not an unsigned decimal number of 64 bits.")
    return int(text)


def part_conditions(request: Request) -> PartConditions:
    """``If-Match`` with a part's ETag, ``If-None-Match: *``. Raises InvalidField for anything else."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if none_match not in (None, "*"):
        raise InvalidField("If-None-Match takes * only.")
    if match is not None and not _ETAG.fullmatch(match):
        raise InvalidField("If-Match takes one ETag with its quotes.")
    return PartConditions(None if match is None else ETag(match), none_match == "*")


def expected_version(request: Request) -> int | None:
    """The task version in ``If-Match``, None without one. Raises InvalidField."""
    value = request.headers.get("if-match")
    if value is None:
        return None
    match = _VERSION.fullmatch(value)
    if match is None:
        raise InvalidField('If-Match takes one task version in quotes, like "7".')
    return int(match[1])


def content_range(request: Request) -> ContentRange:
    """Which bytes of the file the body holds (RFC 9110 section 14.4); without Content-Range it is the whole file.

    Raises:
        InvalidRange: malformed, empty, beyond its total, or not of the body's length.
    """
    length = content_length(request)
    header = request.headers.get("content-range")
    if header is None:
        return ContentRange(length=length, total=length)
    match = _CONTENT_RANGE.fullmatch(header)
    if match is None:
        raise InvalidRange("Content-Range is not bytes first-last/total or bytes first-last/*.")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        raise InvalidRange("Content-Range ends before it begins, or beyond its total.")
    span = last - first + 1
    if length not in (None, span):
        raise InvalidRange(f"Content-Range covers {span} bytes, Content-Length says {length}.", expected=span)
    return ContentRange(first, span, total, ends_file=False)


def ranged_size(request: Request) -> int | None:
    """The size of the file that a Content-Range says is whole; ``HeadRules`` lets no other through. None without."""
    header = request.headers.get("content-range")
    return None if header is None else int(header.rpartition("/")[2])


def query_parameters(request: Request, allowed: frozenset[str]) -> dict[str, str]:
    """The query's parameters, each known and at most once. Raises BadQuery."""
    if not is_utf8(unquote_to_bytes(request.scope["query_string"])):  # read on, it would become another text
        raise BadQuery("The query is not UTF-8.")
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadQuery("A query parameter is given twice.")
    if not found.keys() <= allowed:
        raise BadQuery(f"The query holds an unknown parameter, expected only {', '.join(sorted(allowed)) or 'none'}.")
    return found


def limit_of(text: str | None, default: int = 50, most: int = 100) -> int:
    """A page's ``limit``. Raises BadQuery."""
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise BadQuery(f"limit is not a number from 1 to {most}.")
    return int(text)

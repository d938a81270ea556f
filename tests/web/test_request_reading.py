import base64
import hashlib
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from gateway.domain.errors import (
    BadDigest,
    BadQuery,
    BodyIncomplete,
    InvalidField,
    InvalidPartNumber,
    InvalidRange,
    LengthRequired,
)
from gateway.transfer.digests import Digests
from gateway.transfer.relay import PartConditions
from gateway.transfer.sequential_flow import ContentRange
from gateway.web.request_reading import (
    body_chunks,
    content_length,
    content_range,
    crc64_of,
    digests,
    expected_version,
    limit_of,
    part_conditions,
    part_number,
    query_parameters,
    required_length,
)

MD5 = base64.b64encode(hashlib.md5(b"hello", usedforsecurity=False).digest()).decode()
OTHER_MD5 = base64.b64encode(bytes(16)).decode()


def request(headers: dict[str, str] | None = None, query: str = "", *messages: Message) -> Request:
    coming = list(messages)

    async def receive() -> Message:
        return coming.pop(0)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "PUT",
        "path": "/",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
    }
    return Request(scope, receive)


async def chunks_of(*messages: Message) -> list[bytes]:
    return [chunk async for chunk in body_chunks(request(None, "", *messages))]


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_s_chunks_are_those_that_came_without_the_empty_ones() -> None:
    assert await chunks_of(piece(b"a"), piece(b""), piece(b"bc"), piece(b"", more=False)) == [b"a", b"bc"]
    assert await chunks_of({"type": "http.request"}) == []


async def test_nothing_is_asked_for_after_the_last_chunk() -> None:
    """Asking again would wait for the next request."""
    assert await chunks_of(piece(b"all", more=False)) == [b"all"]


async def test_a_client_that_leaves_is_an_error_after_the_chunks_that_came() -> None:
    chunks = body_chunks(request(None, "", piece(b"half"), {"type": "http.disconnect"}))

    assert await anext(chunks) == b"half"
    with pytest.raises(BodyIncomplete):
        await anext(chunks)


def test_a_length_is_what_the_header_says_or_unknown() -> None:
    assert content_length(request({"Content-Length": "0"})) == 0
    assert required_length(request({"Content-Length": "5"})) == 5
    assert content_length(request({"Transfer-Encoding": "chunked"})) is None
    with pytest.raises(LengthRequired):
        required_length(request())


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("9999", 9999), ("10000", 10_000), ("10001", 10_001)])
def test_part_numbers_are_plain_decimals(text: str, number: int) -> None:
    assert part_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "01", "-1", "+1", "1.0", "1e3", " 1", "1\n", "100000", "١", "１", "true"])
def test_anything_else_is_no_part_number(text: str) -> None:
    with pytest.raises(InvalidPartNumber):
        part_number(text)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, Digests()),
        ({"Content-MD5": MD5}, Digests(MD5)),
        ({"Content-MD5": ""}, Digests()),
        ({"Content-Digest": f"md5=:{MD5}:"}, Digests(MD5)),
        ({"Content-MD5": MD5, "Content-Digest": f"md5=:{MD5}:"}, Digests(MD5)),
        ({"x-cos-hash-crc64ecma": str(2**64 - 1)}, Digests(None, 2**64 - 1)),
        ({"x-cos-hash-crc64ecma": "0"}, Digests(None, 0)),
    ],
)
def test_digests_are_read_from_their_headers(headers: dict[str, str], found: Digests) -> None:
    assert digests(request(headers)) == found


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-MD5": "5d41402abc4b2a76b9719d911017c592"},
        {"Content-MD5": MD5.rstrip("=")},
        {"Content-MD5": MD5[:-4] + "!==="},
        {"Content-MD5": base64.b64encode(bytes(20)).decode()},
        {"Content-Digest": f"sha-256=:{MD5}:"},
        {"Content-Digest": MD5},
        {"Content-Digest": ""},
        {"Content-Digest": f"md5=:{MD5}:, sha-256=:{MD5}:"},
        {"Content-MD5": MD5, "Content-Digest": f"md5=:{OTHER_MD5}:"},
        {"Content-Digest": f"md5=:{MD5}:,md5=:{OTHER_MD5}:"},
        {"x-cos-hash-crc64ecma": str(2**64)},
        {"x-cos-hash-crc64ecma": "0x1"},
        {"x-cos-hash-crc64ecma": "-1"},
        {"x-cos-hash-crc64ecma": ""},
    ],
)
def test_digests_that_are_none_or_disagree_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadDigest):
        digests(request(headers))


def test_a_crc_is_an_unsigned_decimal_of_64_bits() -> None:
    assert crc64_of("00018446744073709551615"[3:]) == 2**64 - 1
    with pytest.raises(BadDigest):
        crc64_of("1" * 21)


def test_part_conditions_take_one_etag_or_none_at_all() -> None:
    assert part_conditions(request()) == PartConditions()
    assert part_conditions(request({"If-None-Match": "*"})) == PartConditions(None, True)
    assert part_conditions(request({"If-Match": '"abc-1"'})).if_match == '"abc-1"'


@pytest.mark.parametrize(
    "headers",
    [
        {"If-None-Match": '"abc"'},
        {"If-Match": "*"},
        {"If-Match": "abc"},
        {"If-Match": 'W/"abc"'},
        {"If-Match": '"a", "b"'},
        {"If-Match": '""'},
    ],
)
def test_part_conditions_of_any_other_kind_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidField):
        part_conditions(request(headers))


def test_a_version_stands_in_quotes() -> None:
    assert expected_version(request()) is None
    assert expected_version(request({"If-Match": '"7"'})) == 7


@pytest.mark.parametrize("value", ["7", "*", '""', '"-7"', 'W/"7"', '"7", "8"', '"1234567890123456"', '"٧"'])
def test_a_version_of_any_other_form_is_refused(value: str) -> None:
    with pytest.raises(InvalidField):
        expected_version(request({"If-Match": value.encode().decode("latin-1")}))


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, ContentRange(length=None, total=None)),
        ({"Content-Length": "5"}, ContentRange(length=5, total=5)),
        (
            {"Content-Length": "5", "Content-Range": "bytes 5-9/10"},
            ContentRange(5, 5, 10, ends_file=False),
        ),
        ({"Content-Range": "bytes 5-9/10"}, ContentRange(5, 5, 10, ends_file=False)),
        ({"Content-Range": "bytes 0-0/*"}, ContentRange(0, 1, None, ends_file=False)),
    ],
)
def test_a_content_range_says_which_bytes_come(headers: dict[str, str], found: ContentRange) -> None:
    assert content_range(request(headers)) == found


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-4/10"},
        {"Content-Range": "bytes 5-10/10"},
        {"Content-Range": "bytes 5-9"},
        {"Content-Range": "bytes */10"},
        {"Content-Range": "bytes -5/10"},
        {"Content-Range": "Bytes 5-9/10"},
        {"Content-Range": "bytes 5-9/10 "},
        {"Content-Range": "bytes 0-99999999999999999/*"},
        {"Content-Length": "4", "Content-Range": "bytes 5-9/10"},
        {"Content-Length": "0", "Content-Range": "bytes 0-0/1"},
    ],
)
def test_a_content_range_that_means_nothing_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRange):
        content_range(request(headers))


def test_query_parameters_are_known_and_come_once() -> None:
    allowed = frozenset({"a", "b"})

    assert query_parameters(request(query="a=1&b=%E4%BD%A0"), allowed) == {"a": "1", "b": "你"}
    for query in ("a=1&a=1", "a=1&c=2", "a=%ff", "a=%ED%A0%80"):
        with pytest.raises(BadQuery):
            query_parameters(request(query=query), allowed)


def test_a_limit_is_a_number_within_bounds() -> None:
    assert (limit_of(None), limit_of("1"), limit_of("100"), limit_of("1000", 7, 1000)) == (50, 1, 100, 1000)
    for text in ("0", "101", "-1", "1e1", "", "00001", "١"):
        with pytest.raises(BadQuery):
            limit_of(text)

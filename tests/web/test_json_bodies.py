import json
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from typing import Any, Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.domain.errors import BadJson, InvalidField, UnknownField
from gateway.transfer.memory_budget import MemoryBudget
from gateway.web.json_bodies import parse, read_json
from gateway.web.json_decoding import MAX_INTEGER, decode
from gateway.web.kept_body import KeptBody
from gateway.web.problems import exception_handlers

JSON = {"content-type": "application/json"}


class Item(BaseModel):
    number: int
    etag: str


class Body(BaseModel):
    key: str
    size: int | None = None
    mode: Literal["parts", "content"] = "parts"
    meta: dict[str, str] = {}
    items: list[Item] = []


async def post(
    content: bytes | AsyncIterator[bytes], headers: dict[str, str] = JSON, *, allow_empty: bool = False
) -> httpx.Response:
    async def echo(request: Request) -> Response:
        with MemoryBudget(1 << 20).open("alice") as lease:
            body = KeptBody(request, lease, nullcontext)
            return JSONResponse(await read_json(body, 1024, allow_empty=allow_empty))

    app = Starlette(routes=[Route("/", echo, methods=["POST"])], exception_handlers=exception_handlers())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        return await client.post("/", content=content, headers=headers)


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8"])
async def test_an_object_is_read_as_it_is(content_type: str) -> None:
    answer = await post(
        '{"key": "画像 \\ud83d\\ude00", "n": [1, 2.5, null, true]}'.encode(), {"content-type": content_type}
    )

    assert answer.json() == {"key": "画像 😀", "n": [1, 2.5, None, True]}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unsupported_media_type"),
        ({"content-type": "text/plain"}, "unsupported_media_type"),
        ({"content-type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"content-type": "application/json; charset=utf-16"}, "unsupported_media_type"),
        ({"content-type": "application/jsonx"}, "unsupported_media_type"),
        (JSON | {"content-encoding": "gzip"}, "content_encoding_unsupported"),
    ],
)
async def test_what_is_not_plain_json_is_415(headers: dict[str, str], code: str) -> None:
    answer = await post(b"{}", headers)

    assert (answer.status_code, answer.json()["code"]) == (415, code)


async def test_identity_is_no_encoding() -> None:
    assert (await post(b"{}", JSON | {"content-encoding": "identity"})).status_code == 200


async def test_a_body_over_the_limit_is_413_by_its_declared_length() -> None:
    answer = await post(b"[" * 1025)

    assert (answer.status_code, answer.json()["code"], answer.json()["expected"]) == (413, "body_too_large", 1024)


async def test_a_body_without_a_length_is_cut_off_at_the_limit() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield b" " * 100

    answer = await post(endless())

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert sent <= 1200


async def test_no_body_is_an_empty_object_only_where_that_is_allowed() -> None:
    assert (await post(b"", {}, allow_empty=True)).json() == {}
    assert (await post(b"")).json()["code"] == "bad_json"
    assert (await post(b"{}", {}, allow_empty=True)).json()["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{} {}",
        b'\xef\xbb\xbf{"bom": 1}',
        b'{"latin": "\xe9"}',
        b'{"surrogate": "\xed\xa0\x80"}',
        rb'{"lone": "\ud800"}',
        rb'{"\udc00": 1}',
        rb'{"deep": [["\ud800"]]}',
        b'{"n": NaN}',
        b'{"n": Infinity}',
        b'{"n": -Infinity}',
        b'{"n": 1e400}',
        b'{"n": 9007199254740993}',
        b'{"n": -9007199254740993}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"o": {"a": 1, "a": 1}}',
        b'{"a": ' * 100_000,
        b"[" * 100_000,
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"a": 01}',
        b"{'a': 1}",
        b'{"a": "\n"}',
        b'{"a": 1,}',
        b'{"n": [' + b"1," * 32_001 + b"1]}",
        json.dumps({"o": {f"m{n}": n for n in range(65)}}).encode(),
    ],
    ids=range(30),
)
def test_anything_but_one_sound_object_is_bad_json(raw: bytes) -> None:
    with pytest.raises(BadJson):
        decode(raw)


def test_the_limits_themselves_are_allowed() -> None:
    assert decode(b'{"n": 9007199254740992, "m": -9007199254740992}')["n"] == MAX_INTEGER
    deepest = b'{"a":' + b"[" * 31 + b"]" * 31 + b"}"
    assert decode(deepest)
    assert decode(b'{"n": [' + b"1," * 32_000 + b"1]}")
    assert decode(json.dumps({"o": {f"m{n}": n for n in range(64)}}).encode())
    with pytest.raises(BadJson, match="deeper than 32"):
        decode(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}")


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-MAX_INTEGER, MAX_INTEGER), st.text(), st.floats(-1e300, 1e300)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4), st.booleans())
def test_every_sound_object_reads_back_equal(value: dict[str, Any], escaped: bool) -> None:
    assert decode(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_bad_json(raw: bytes) -> None:
    with suppress(BadJson):
        assert isinstance(decode(raw), dict)


def test_a_good_document_becomes_its_model() -> None:
    body = parse(Body, {"key": "a", "size": 5, "items": [{"number": 1, "etag": "x"}]})

    assert (body.key, body.size, body.items) == ("a", 5, [Item(number=1, etag="x")])


@pytest.mark.parametrize(
    ("data", "kind", "told"),
    [
        ({"key": "a", "tenant": "b"}, UnknownField, "Unknown member in the body."),
        ({"key": "a", "__proto__": {}}, UnknownField, "Unknown member in the body."),
        ({"key": "a", "Keys": "b"}, UnknownField, "Unknown member in the body. Was key meant?"),
        (
            {"key": "a", "items": [{"number": 1, "etag": "x", "evil": 1}]},
            UnknownField,
            "Unknown member in items.0.",
        ),
        ({"key": "a", "size": True}, InvalidField, "size: Input should be a valid integer."),
        ({"key": "a", "size": "5"}, InvalidField, "size: Input should be a valid integer."),
        ({"key": "a", "size": 5.0}, InvalidField, "size: Input should be a valid integer."),
        ({"key": 5}, InvalidField, "key: Input should be a valid string."),
        ({}, InvalidField, "key: Field required."),
        ({"key": "a", "mode": "evil"}, InvalidField, "mode: Input should be 'parts' or 'content'."),
        ({"key": "a", "meta": {"evil": 1}}, InvalidField, "meta: Input should be a valid string."),
        (
            {"key": "a", "items": [{"number": 1, "etag": "x"}, {"number": "evil"}]},
            InvalidField,
            "items.1.number: Input should be a valid integer.",
        ),
    ],
)
def test_a_wrong_document_is_told_in_our_words_only(data: dict[str, Any], kind: type[Exception], told: str) -> None:
    with pytest.raises((UnknownField, InvalidField)) as caught:
        parse(Body, data)

    assert (caught.type, caught.value.detail) == (kind, told)
    assert caught.value.__cause__ is None

"""JSON request bodies: read with a cap, parsed strictly, checked against a model. Nothing of them is echoed."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from gateway.domain.errors import (
    BodyTooLarge,
    ContentEncodingUnsupported,
    InvalidField,
    UnknownField,
    UnsupportedMediaType,
)
from gateway.web.json_decoding import check_counts, decode, decode_in_slices, lists_in
from gateway.web.kept_body import KeptBody
from gateway.web.slices import in_slices

SMALL_BODY_BYTES: Final = 64 << 10
LARGE_BODY_BYTES: Final = 1 << 20
"""For create (fingerprints), complete and batch."""

_NARROW_COPIES: Final = 3
_WIDE_COPIES: Final = 10
"""A text with one character beyond ASCII may take four bytes for each of its characters."""
_BYTES_A_LIST: Final = 640
_BYTES_A_VALUE: Final = 64

_LONGEST_NAME: Final = 40
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")

_AT_ONCE_BYTES: Final = 16 << 10
"""A body up to here is parsed in less than a millisecond."""

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_json(
    body: KeptBody, limit_bytes: int = SMALL_BODY_BYTES, *, allow_empty: bool = False
) -> dict[str, Any]:
    """The JSON object that *body* is; with *allow_empty* no body at all stands for ``{}``. It holds memory for the
    object and for a model of it.

    Raises:
        UnsupportedMediaType, ContentEncodingUnsupported: it is not plain ``application/json``.
        BodyTooLarge: more than *limit_bytes*, found before they were all read.
        BadJson: not one object, or outside our limits (RFC 7493, and how deep and how many).
        Overloaded, RateLimited: there is no memory for it, or the caller has spent too much.
    """
    _check_headers(body.request)
    raw = await body.read(limit_bytes, lambda: _too_large(limit_bytes))
    if not raw and allow_empty:
        return {}
    if "content-type" not in body.request.headers:
        raise UnsupportedMediaType("Expected application/json.")
    check_counts(raw)
    await body.hold(parsed_bytes(raw))
    async with body.parsing(len(raw)):
        return decode(raw) if len(raw) <= _AT_ONCE_BYTES else await decode_in_slices(raw)


def parsed_bytes(raw: bytes) -> int:
    """What *raw*, its text, the object it spells and a model of that take together, at most."""
    is_narrow = raw.isascii() and b"\\u" not in raw
    copies = _NARROW_COPIES if is_narrow else _WIDE_COPIES
    return copies * len(raw) + _BYTES_A_LIST * lists_in(raw) + _BYTES_A_VALUE * raw.count(b",")


def parse(model: type[ModelT], data: dict[str, Any]) -> ModelT:
    """*data* as a *model*: strictly typed, without further members.

    Raises:
        UnknownField: a member that the model does not have.
        InvalidField: a value that it does not take; the detail names our field only.
    """
    try:
        return model.model_validate(data, strict=True, extra="forbid")
    except ValidationError as error:
        raise _failure(model, error) from None


def _failure(model: type[BaseModel], error: ValidationError, before: str = "") -> UnknownField | InvalidField:
    """What is wrong with a *model* at the path *before*."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = (before + _path(model, first["loc"])).rstrip(".")
    if first["type"] == "extra_forbidden":
        meant = _meant(str(first["loc"][-1]), _names(model))
        return UnknownField(f"Unknown member in {path or 'the body'}.{meant}")
    return InvalidField(f"{path or 'The body'}: {first['msg']}.")


async def parse_rows(model: type[ModelT], rows: Sequence[Any], name: str) -> list[ModelT]:
    """Each of *rows*, the list called *name*, as a *model*; other requests have turns in between.

    Raises:
        UnknownField, InvalidField: as ``parse``.
    """
    parsed: list[ModelT] = []
    async for some in in_slices(rows):
        for row in some:
            try:
                parsed.append(model.model_validate(row, strict=True, extra="forbid"))
            except ValidationError as error:
                raise _failure(model, error, f"{name}.{len(parsed)}.") from None
    return parsed


def require_identity_encoding(request: Request) -> None:
    """Raise ContentEncodingUnsupported for a body that is compressed: JSON and forms are never inflated."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ContentEncodingUnsupported("The body must come as it is, without a Content-Encoding.")


def _check_headers(request: Request) -> None:
    require_identity_encoding(request)
    media_type, _, charset = request.headers.get("content-type", "application/json").lower().partition(";")
    if media_type.strip() != "application/json" or charset.replace('"', "").strip() not in ("", "charset=utf-8"):
        raise UnsupportedMediaType("Expected application/json.")


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {limit_bytes} bytes.", expected=limit_bytes)


def _path(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """*location* without anything that is not a name of ours or an index."""
    ours = _names(model)
    return ".".join(str(step) for step in location if isinstance(step, int) or step in ours)


def _meant(name: str, ours: frozenset[str]) -> str:
    """A question after that name of ours which *name* resembles; *name* itself is not repeated."""
    snake = _CAPITAL.sub("_", name[:_LONGEST_NAME]).lower()
    close = get_close_matches(snake, sorted(ours), n=1, cutoff=0.8)
    return f" Was {close[0]} meant?" if close else ""


@lru_cache(maxsize=64)
def _names(model: type[BaseModel]) -> frozenset[str]:
    found: set[str] = set()
    pending: list[Any] = [model.model_json_schema()]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            found.update(node.get("properties", ()))
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return frozenset(found)

"""JSON request bodies: read with a cap, parsed strictly, checked against a model. Nothing of them is echoed."""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, Never, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from gateway.domain.errors import (
    BadJson,
    BodyTooLarge,
    ContentEncodingUnsupported,
    InvalidField,
    UnknownField,
    UnsupportedMediaType,
)
from gateway.web.kept_body import KeptBody

SMALL_BODY_BYTES: Final = 64 << 10
LARGE_BODY_BYTES: Final = 1 << 20
"""For create (fingerprints), complete and batch."""

MAX_DEPTH: Final = 32
MAX_MEMBERS: Final = 64
"""Of one object: twice what the largest of our models has."""
MAX_COMMAS: Final = 32_000
"""The list of 10,000 parts has 30,000. What is in a body, and not its length, is what keeps the event loop busy."""
MAX_LISTS: Final = 12_000
"""Objects and lists together: the list of 10,000 parts has 10,002."""
MAX_INTEGER: Final = 2**53

_NARROW_COPIES: Final = 3
_WIDE_COPIES: Final = 10
"""A text with one character beyond ASCII may take four bytes for each of its characters."""
_BYTES_A_LIST: Final = 640
_BYTES_A_VALUE: Final = 64

_INTEGER_DIGITS: Final = 17
_LONGEST_NAME: Final = 40
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")

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
        Overloaded, RateLimited: there is no memory for it.
    """
    _check_headers(body.request)
    raw = await body.read(limit_bytes, lambda: _too_large(limit_bytes))
    if not raw and allow_empty:
        return {}
    if "content-type" not in body.request.headers:
        raise UnsupportedMediaType("Expected application/json.")
    _check_counts(raw)
    await body.hold(parsed_bytes(raw))
    return decode(raw)


def parsed_bytes(raw: bytes) -> int:
    """What *raw*, its text, the object it spells and a model of that take together, at most."""
    is_narrow = raw.isascii() and b"\\u" not in raw
    copies = _NARROW_COPIES if is_narrow else _WIDE_COPIES
    return copies * len(raw) + _BYTES_A_LIST * _lists_in(raw) + _BYTES_A_VALUE * raw.count(b",")


def decode(raw: bytes) -> dict[str, Any]:
    """The object that *raw* spells. Raises BadJson."""
    _check_counts(raw)
    try:
        value = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise BadJson("The body is not one JSON object, or lies outside the limits.") from error
    if not isinstance(value, dict):
        raise BadJson("The body is JSON, but not an object.")
    _check_values(value)
    return value


def _check_counts(raw: bytes) -> None:
    if raw.count(b",") > MAX_COMMAS:
        raise BadJson(f"The body holds more values than {MAX_COMMAS} commas part.")
    if _lists_in(raw) > MAX_LISTS:
        raise BadJson(f"The body holds more than {MAX_LISTS} objects and lists.")


def _lists_in(raw: bytes) -> int:
    return raw.count(b"{") + raw.count(b"[")


def parse(model: type[ModelT], data: dict[str, Any]) -> ModelT:
    """*data* as a *model*: strictly typed, without further members.

    Raises:
        UnknownField: a member that the model does not have.
        InvalidField: a value that it does not take; the detail names our field only.
    """
    try:
        return model.model_validate(data, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = _path(model, first["loc"])
        if first["type"] == "extra_forbidden":
            meant = _meant(str(first["loc"][-1]), _names(model))
            raise UnknownField(f"Unknown member in {path or 'the body'}.{meant}") from None
        raise InvalidField(f"{path or 'The body'}: {first['msg']}.") from None


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


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS or abs(value := int(text)) > MAX_INTEGER:
        raise ValueError("an integer beyond 2**53")
    return value


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number beyond a double")
    return value


def _constant(text: str) -> Never:
    raise ValueError("NaN and Infinity are not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs) or len(members) > MAX_MEMBERS:
        raise ValueError("a member came twice, or too many came")
    return members


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)


def _check_values(top: dict[str, Any]) -> None:
    """Raise BadJson for more than 32 levels, or for text that is not Unicode (a lone surrogate)."""
    level: list[Any] = [top]
    for _ in range(MAX_DEPTH):
        _check_texts(value for value in level if isinstance(value, str) and not value.isascii())
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise BadJson(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()


def _check_texts(texts: Iterable[str]) -> None:
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError as error:
        raise BadJson("The body holds a lone surrogate.") from error


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

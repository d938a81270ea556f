"""JSON text as values: strictly (RFC 7493), within bounds, and without holding up the event loop for long."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Never

from gateway.domain.errors import BadJson
from gateway.web.slices import SLICE_ROWS

MAX_DEPTH: Final = 32
MAX_MEMBERS: Final = 64
"""Of one object: twice what the largest of our models has."""
MAX_COMMAS: Final = 32_000
"""The list of 10,000 parts has 30,000. What is in a body, and not its length, is what keeps the event loop busy."""
MAX_LISTS: Final = 12_000
"""Objects and lists together: the list of 10,000 parts has 10,002."""
MAX_INTEGER: Final = 2**53

_INTEGER_DIGITS: Final = 17
_SPACE: Final = re.compile(r"[ \t\n\r]*")


def decode(raw: bytes) -> dict[str, Any]:
    """The object that *raw* spells. Raises BadJson."""
    check_counts(raw)
    try:
        value = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise _bad() from error
    if not isinstance(value, dict):
        raise BadJson("The body is JSON, but not an object.")
    _check_values([value], MAX_DEPTH)
    return value


async def decode_in_slices(raw: bytes) -> dict[str, Any]:
    """As ``decode``; a long list among the object's members is read a few rows at a time, and other requests have turns
    in between: 10,000 rows in one go hold up everybody for 20 ms.
    """
    check_counts(raw)
    try:
        reader = _Reader(raw.decode())
        members = [member async for member in reader.members()]
        return _object(members)
    except (ValueError, RecursionError) as error:
        raise _bad() from error


class _Reader:
    """Reads one JSON object member by member, and a list in it row by row, with the decoder's own scanner."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    async def members(self) -> AsyncIterator[tuple[str, Any]]:
        """The members up to the object's end, which must be the text's."""
        self._take("{")
        ended = self._takes("}")
        while not ended:
            if self._next() != '"':
                raise ValueError("a member without a name")
            name = self._value()
            self._take(":")
            value = await self._list() if self._next() == "[" else self._value()
            _check_values([name] if isinstance(value, list) else [name, value], MAX_DEPTH - 1)
            yield name, value
            ended = not self._takes(",")
            if ended:
                self._take("}")
        if self._next():
            raise ValueError("more behind the object")

    async def _list(self) -> list[Any]:
        self._take("[")
        rows: list[Any] = []
        ended, checked = self._takes("]"), 0
        while not ended:
            rows.append(self._value())
            ended = not self._takes(",")
            if len(rows) % SLICE_ROWS == 0:
                _check_values(rows[checked:], MAX_DEPTH - 2)
                checked = len(rows)
                await asyncio.sleep(0)
            if ended:
                self._take("]")
        _check_values(rows[checked:], MAX_DEPTH - 2)
        return rows

    def _value(self) -> Any:
        self._next()
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def _next(self) -> str:
        """The next character that is no space, empty at the end."""
        found = _SPACE.match(self._text, self._at)
        assert found is not None, "it matches nothing, too"
        self._at = found.end()
        return self._text[self._at : self._at + 1]

    def _takes(self, character: str) -> bool:
        if self._next() != character:
            return False
        self._at += 1
        return True

    def _take(self, character: str) -> None:
        if not self._takes(character):
            raise ValueError(f"no {character} where one must be")


def _bad() -> BadJson:
    return BadJson("The body is not one JSON object, or lies outside the limits.")


def check_counts(raw: bytes) -> None:
    """Raise BadJson for more values in *raw* than there may be."""
    if raw.count(b",") > MAX_COMMAS:
        raise BadJson(f"The body holds more values than {MAX_COMMAS} commas part.")
    if lists_in(raw) > MAX_LISTS:
        raise BadJson(f"The body holds more than {MAX_LISTS} objects and lists.")


def lists_in(raw: bytes) -> int:
    """How many objects and lists *raw* spells, at most."""
    return raw.count(b"{") + raw.count(b"[")


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


def _check_values(level: list[Any], levels: int) -> None:
    """Raise BadJson for more than so many *levels* below, or for text that is not Unicode (a lone surrogate)."""
    for _ in range(levels):
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

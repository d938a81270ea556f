"""The secrets that the system tests hand out, and the search for them in everything that a gateway says (P27)."""

import re
from collections.abc import Iterable
from typing import Final

SECRETS: Final[set[str]] = set()
"""Exact texts that nothing may hold: each test adds its own."""
_SHAPES: Final = re.compile(
    rb"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"  # a bearer token
    rb"|\bfirst\.[A-Za-z0-9_-]{38,}"  # what our seal key made: a ticket, a cursor, an issued key
    rb"|q-signature=[0-9a-f]{40}"  # a signature for COS
)


def secret(text: str) -> str:
    """*text*, which is from now on searched for."""
    SECRETS.add(text)
    return text


def leaks_in(said: bytes, known: Iterable[str] = ()) -> list[bytes]:
    """What of the secrets *said* holds, with some of what stands around it."""
    exact = [re.escape(text.encode()) for text in (*SECRETS, *known)]
    found = [*_SHAPES.finditer(said), *(hit for text in exact for hit in re.finditer(text, said))]
    return [said[max(0, hit.start() - 80) : hit.end() + 20] for hit in found]

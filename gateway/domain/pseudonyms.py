"""Callers and tokens as logs name them: hashes that stay the same and that nobody can turn back."""

import hashlib
import re
from functools import lru_cache
from typing import Final

_DIGITS: Final = 16
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_REMEMBERED: Final = 1024
TOKEN_PREFIX: Final = "jti:"  # noqa: S105 -- tells a token's id from a subject of the same text


@lru_cache(_REMEMBERED)
def subject_digest(subject: str) -> str:
    """The SHA-256 of *subject*, a token's ``sub``, in hexadecimal digits. A request asks for it eight times."""
    return hashlib.sha256(subject.encode()).hexdigest()


def subject_pseudonym(subject: str) -> str:
    """*subject*, a token's ``sub``: the first 16 hexadecimal digits of its SHA-256, as in the names of Redis keys."""
    return subject_digest(subject)[:_DIGITS]


def token_pseudonym(token_id: str) -> str:
    """A token by its ``jti``: the same of ``jti:`` and the id."""
    return subject_pseudonym(TOKEN_PREFIX + token_id)


def pseudonym_of(name: str) -> str:
    """*name* as logs show it: a subject, ``jti:`` and a token's id, or what is a pseudonym already."""
    return name if _PSEUDONYM.fullmatch(name) else subject_pseudonym(name)

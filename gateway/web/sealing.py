"""Small documents that travel through the client and come back unchanged, or not at all: tickets, cursors, issued keys.

AES-256-GCM; one key for each purpose, derived by HKDF-SHA-256, so that a sealed cursor is no ticket.
"""

import base64
import binascii
import hmac
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.web.json_answers import json_bytes

Purpose = Literal["ticket", "cursor", "key"]
PURPOSES: Final[tuple[Purpose, ...]] = ("ticket", "cursor", "key")
MAX_SEALED_BYTES: Final = 5 * 1024
"""Room for a ticket with a key of 850 quotes and an owner of 256 characters outside the Basic Multilingual Plane."""

_NONCE_BYTES: Final = 12
_SECRET_DIGITS: Final = 40
_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{38,})", re.ASCII)
_DERIVED_KEY_ID: Final = "t"


class SealBroken(ValueError):
    """The text was not sealed here for this purpose, or was changed since."""


class Sealer:
    """Seals and opens documents.

    Args:
        keys: secrets by key id (``[A-Za-z0-9_-]{1,32}``), of at least 32 bytes each. All of them open.
        current: the id of the one that seals.

    Raises:
        ValueError: an id of another form, or *current* is not among the keys.
    """

    def __init__(self, keys: Mapping[str, str], current: str) -> None:
        if current not in keys:
            raise ValueError("the current seal key is not among the keys")
        if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,32}", key_id, re.ASCII) for key_id in keys):
            raise ValueError("a seal key's id holds more than letters, digits, - and _, or is not 1 to 32 long")
        self._current = current
        self._secrets = {key_id: _derived(secret, "key secret") for key_id, secret in keys.items()}
        self._ciphers = {
            (key_id, purpose): AESGCM(_derived(secret, purpose))
            for key_id, secret in keys.items()
            for purpose in PURPOSES
        }

    @classmethod
    def derive_from_secret(cls, token_secret: str) -> Self:
        """A sealer for an installation that configures only the secret of its tokens."""
        return cls({_DERIVED_KEY_ID: token_secret}, _DERIVED_KEY_ID)

    def seal(self, purpose: Purpose, payload: Mapping[str, Any]) -> str:
        """*payload* (JSON) as URL-safe text of at most 5 KiB that only a Sealer with the same key can read.

        Raises:
            ValueError: the payload is too large.
        """
        nonce = os.urandom(_NONCE_BYTES)
        plain = json_bytes(payload)
        sealed = self._ciphers[self._current, purpose].encrypt(nonce, plain, _bound_to(self._current, purpose))
        text = f"{self._current}.{_encode(nonce + sealed)}"
        if len(text) > MAX_SEALED_BYTES:
            raise ValueError(f"the sealed text would have {len(text)} bytes, expected at most {MAX_SEALED_BYTES}")
        return text

    def open(self, purpose: Purpose, text: str) -> dict[str, Any]:
        """The payload that was sealed as *text* for *purpose*.

        Raises:
            SealBroken: it was not, whatever the reason.
        """
        shape = _SHAPE.fullmatch(text) if len(text) <= MAX_SEALED_BYTES else None
        cipher = self._ciphers.get((shape[1], purpose)) if shape else None
        if shape is None or cipher is None:
            raise SealBroken("not a sealed text, or an unknown key")
        raw = _decode(shape[2])
        try:
            plain = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(shape[1], purpose))
        except InvalidTag as error:
            raise SealBroken("the seal does not fit") from error
        payload: dict[str, Any] = json.loads(plain)
        return payload

    def secret_of(self, sealed: str, name: str) -> str:
        """A secret of 40 hex digits for *name*, which only a Sealer with the key that made *sealed* can tell.

        Raises:
            SealBroken: there is no such key.
        """
        key = self._secrets.get(sealed.partition(".")[0])
        if key is None:
            raise SealBroken("not a sealed text, or an unknown key")
        return hmac.digest(key, name.encode(), "sha256").hex()[:_SECRET_DIGITS]


def _derived(secret: str, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=b"upload-gateway seal", info=purpose.encode()).derive(secret.encode())


def _bound_to(key_id: str, purpose: Purpose) -> bytes:
    return f"{key_id}.{purpose}".encode()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise SealBroken("not base64") from error
    if _encode(raw) != text:  # the last character's spare bits are not under the seal
        raise SealBroken("not canonical base64")
    return raw

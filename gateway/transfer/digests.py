"""What a client says of the bytes of one body, held against the bytes."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.domain.checksums import crc64
from gateway.domain.errors import DigestMismatch


@dataclass(frozen=True, slots=True)
class Digests:
    """What the client says of the bytes of this body: MD5 as base64 and CRC-64, None where it says nothing."""

    md5_base64: str | None = None
    crc64: int | None = None

    def require(self, chunks: Iterable[bytes]) -> None:
        """Raise DigestMismatch unless *chunks* are the whole body that was meant."""
        check = DigestCheck(self)
        for chunk in chunks:
            check.update(chunk)
        check.require()


class DigestCheck:
    """Follows a body chunk by chunk; computes only what the client gave."""

    __slots__ = ("_crc64", "_md5", "_said")

    def __init__(self, said: Digests) -> None:
        self._said = said
        self._md5 = hashlib.md5(usedforsecurity=False) if said.md5_base64 is not None else None
        self._crc64 = 0

    def update(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._md5 is not None:
            self._md5.update(chunk)
        if self._said.crc64 is not None:
            self._crc64 = crc64(chunk, self._crc64)

    def require(self) -> None:
        """Raise DigestMismatch unless the bytes so far are the body that was meant."""
        if self._said.crc64 not in (None, self._crc64):
            raise DigestMismatch("The CRC-64 of the bytes that came is not the one that was announced.")
        if self._md5 is not None and b64encode(self._md5.digest()).decode() != self._said.md5_base64:
            raise DigestMismatch("The MD5 of the bytes that came is not the one that was announced.")

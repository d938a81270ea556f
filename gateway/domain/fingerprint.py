"""What a caller knows of a file's content before sending it: enough to find an earlier upload of the same file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.errors import InvalidField, InvalidSize
from gateway.domain.objects import ObjectAddress, StoredPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A file of ``size`` bytes by the digests of its parts of ``part_size`` bytes, or by one of the whole.

    Exactly one of the four digests is given. MD5 is 32 lower-case hex digits, as COS's ETag of a part (doc 436/7750).
    """

    size: int
    part_size: int | None = None
    parts_md5: Sequence[str] | None = None
    parts_crc64: Sequence[int] | None = None
    md5: str | None = None
    crc64: int | None = None

    def check(self) -> None:
        """Raise InvalidField, InvalidSize unless the members agree with each other."""
        digests = (self.parts_md5, self.parts_crc64, self.md5, self.crc64)
        if sum(digest is not None for digest in digests) != 1:
            raise InvalidField("fingerprint takes exactly one of parts_md5, parts_crc64, md5 and crc64.")
        by_part = self.parts_md5 if self.parts_md5 is not None else self.parts_crc64
        if (by_part is None) != (self.part_size is None):
            raise InvalidField("fingerprint takes part_size with digests of parts, and only then.")
        if by_part is None or self.part_size is None:
            return
        if self.part_size < 1:
            raise InvalidSize(f"fingerprint.part_size is {self.part_size} bytes, expected 1 or more.")
        expected = max(1, -(-self.size // self.part_size))
        if len(by_part) != expected:
            raise InvalidSize(f"fingerprint has digests of {len(by_part)} parts, expected {expected}.")

    def content_of(self, at: ObjectAddress, headers: Mapping[str, str]) -> str:
        """This content at *at* with these object headers, as 32 hex digits."""
        digests = [self.parts_md5, self.parts_crc64, self.md5, self.crc64]
        facts = [at.bucket.name, at.bucket.region, at.key, sorted(headers.items()), self.size, self.part_size, digests]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def fits(self, part: StoredPart) -> bool:
        """Whether *part* has the length that its number has in this fingerprint; one of the whole tells no lengths."""
        if self.part_size is None:
            return True
        expected = min(self.part_size, self.size - (part.number - 1) * self.part_size)
        return part.size == expected > 0

    def holds(self, part: StoredPart) -> bool:
        """Whether *part* is the file's, as far as its length and the digest that is known of it tell."""
        if not self.fits(part):
            return False
        if self.parts_md5 is not None:
            return part.etag.strip('"').lower() == self.parts_md5[part.number - 1]
        if self.parts_crc64 is not None:
            return part.crc64 in (None, self.parts_crc64[part.number - 1])
        return True

"""What a caller may say of an object, or do with one, only where it is allowed: in a bucket of several owners it costs,
shows or destroys what is not theirs. What is not listed here describes the object alone, and anybody may say it.
"""

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from gateway.domain.object_headers import STANDARD
from gateway.domain.picture_operations import PIC_OPERATIONS


class Option(StrEnum):
    """The names in the claim ``options`` and in ``GATEWAY_BUCKET_OPTIONS``."""

    ACL = "acl"
    GRANT_READ = "grant_read"
    GRANT_READ_ACP = "grant_read_acp"
    GRANT_WRITE_ACP = "grant_write_acp"
    GRANT_FULL_CONTROL = "grant_full_control"
    STORAGE_CLASS = "storage_class"
    TAGGING = "tagging"
    KMS = "kms"
    INLINE = "inline"
    PIC_OPERATIONS = "pic_operations"
    OVERWRITE = "overwrite"


_ALWAYS_MEANT: Final[Mapping[str, Option]] = {
    "x-cos-grant-read": Option.GRANT_READ,
    "x-cos-grant-read-acp": Option.GRANT_READ_ACP,
    "x-cos-grant-write-acp": Option.GRANT_WRITE_ACP,
    "x-cos-grant-full-control": Option.GRANT_FULL_CONTROL,
    "x-cos-tagging": Option.TAGGING,
    "x-cos-server-side-encryption-cos-kms-key-id": Option.KMS,
    "x-cos-server-side-encryption-context": Option.KMS,
    PIC_OPERATIONS: Option.PIC_OPERATIONS,
}
_MEANT_UNLESS: Final[Mapping[str, tuple[Option, frozenset[str]]]] = {
    "x-cos-acl": (Option.ACL, frozenset({"default", "private"})),
    "x-cos-storage-class": (Option.STORAGE_CLASS, frozenset({STANDARD})),
    "x-cos-server-side-encryption": (Option.KMS, frozenset({"AES256"})),
}


def options_in(headers: Mapping[str, str]) -> Iterator[Option]:
    """The options that COS's *headers*, by lower-case name, take."""
    for name, value in headers.items():
        if name in _ALWAYS_MEANT:
            yield _ALWAYS_MEANT[name]
        elif name in _MEANT_UNLESS:
            option, harmless = _MEANT_UNLESS[name]
            if value not in harmless:
                yield option
        elif name == "content-disposition" and not is_saved(value):
            yield Option.INLINE


def is_saved(disposition: str) -> bool:
    """Whether a Content-Disposition has browsers save the object whatever it is, instead of showing it."""
    return disposition.partition(";")[0].strip().lower() == "attachment"


def is_among(option: Option, patterns: Collection[str] | None) -> bool:
    """Whether *patterns* allow *option*: names, ``grant_*``, ``*`` for all; None allows any."""
    return patterns is None or "*" in patterns or any(fnmatchcase(option.value, pattern) for pattern in patterns)


def is_pattern(text: str) -> bool:
    """Whether *text* allows anything at all: else it is a slip of the pen."""
    return any(is_among(option, (text,)) for option in Option)

"""What a file's first bytes say that it is: enough to see that a picture is a page, or a program.

Sources: the signatures of each format's own specification; for HTML the MIME Sniffing standard, section 7.1.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from gateway.domain.errors import TypeMismatch

PEEK_BYTES: Final = 4096
"""As much of a file is looked at."""
OPAQUE: Final = "application/octet-stream"
"""Whoever allows it takes anything."""

_STARTS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "application/pdf": (b"%PDF-",),
    "application/zip": (b"PK\x03\x04", b"PK\x05\x06"),
    "application/gzip": (b"\x1f\x8b",),
    "application/x-msdownload": (b"MZ",),
    "application/x-executable": (b"\x7fELF",),
    "text/x-shellscript": (b"#!",),
}
_PICTURES: Final[Mapping[str, re.Pattern[bytes]]] = {
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/avif": re.compile(rb"....ftypavi[fs]", re.DOTALL),
    "image/bmp": re.compile(rb"BM....\x00\x00\x00\x00", re.DOTALL),
    "image/tiff": re.compile(rb"II\*\x00|MM\x00\*"),
}
_SVG: Final = re.compile(rb"<svg[\s>:]", re.IGNORECASE)
_HTML: Final = re.compile(
    rb"<(?:!doctype html|html|head|body|script|iframe|title|style|table|div|form|font|meta|link|img|h1|br|p|a)[\s>/]",
    re.IGNORECASE,
)
_TEXT: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\s]*<")
_HARMFUL: Final = frozenset(
    {"text/html", "image/svg+xml", "application/x-msdownload", "application/x-executable", "text/x-shellscript"}
)
_DEMANDED: Final = frozenset({*_STARTS, "image/webp", "image/svg+xml", "text/html"})
"""Whatever is said to be one of these has to begin as one."""
_CONTAINERS: Final = frozenset({"application/zip", "application/gzip", "application/pdf"})
"""Many formats of other names under ``application/`` are one of these inside."""


def type_of(head: bytes) -> str | None:
    """The media type that a file's first ``PEEK_BYTES`` show; None for what has no signature that is known here."""
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    for name, pattern in _PICTURES.items():
        if pattern.match(head):
            return name
    if _TEXT.match(head):
        if _HTML.search(head):
            return "text/html"
        return "image/svg+xml" if _SVG.search(head) else None
    return None


def stored_type(content_type: str | None, head: bytes, allows: Callable[[str], bool]) -> str | None:
    """The type under which a file that is said to be of *content_type* and begins with *head* is stored: as said, or
    what it shows itself to be where that is allowed too, as a PNG called JPEG among pictures.

    Args:
        allows: whether the caller and the bucket take a file of this media type.
    Raises:
        TypeMismatch: it begins like a page or a program in disguise, or like a type that is not allowed. An empty file
            never does, nor does what is said to be of no known type where that is allowed: browsers save that.
    """
    said = (content_type or OPAQUE).partition(";")[0].strip().lower()
    if not head or (said == OPAQUE and allows(OPAQUE)):
        return content_type
    shown = type_of(head)
    if shown == said or (said not in _DEMANDED and _may_be(said, shown)):
        return content_type
    if shown is None and allows(OPAQUE):
        return OPAQUE
    if shown is None or shown in _HARMFUL or not allows(shown):
        raise TypeMismatch("The file does not begin as one of its content type, or of another that is allowed, does.")
    return shown


def _may_be(said: str, shown: str | None) -> bool:
    """Whether a file of a type without a signature may begin as *shown*."""
    return shown is None or (shown in _CONTAINERS and said.startswith("application/") and said != OPAQUE)

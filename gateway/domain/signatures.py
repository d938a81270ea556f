"""What a file's first bytes say that it is: enough to see that a picture is a page, or a program.

Sources: the signatures of each format's own specification; for HTML the MIME Sniffing standard, section 7.1.
"""

import re
from collections.abc import Mapping
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
_WEBP: Final = re.compile(rb"RIFF....WEBP", re.DOTALL)
_SVG: Final = re.compile(rb"<svg[\s>:]", re.IGNORECASE)
_HTML: Final = re.compile(
    rb"<(?:!doctype html|html|head|body|script|iframe|title|style|table|div|form|font|meta|link|img|h1|br|p|a)[\s>/]",
    re.IGNORECASE,
)
_TEXT: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\s]*<")
_HARMFUL: Final = frozenset(
    {"text/html", "image/svg+xml", "application/x-msdownload", "application/x-executable", "text/x-shellscript"}
)
_SHOWN: Final = frozenset({*_STARTS, "image/webp", "image/svg+xml", "text/html"})


def type_of(head: bytes) -> str | None:
    """The media type that a file's first ``PEEK_BYTES`` show; None for what has no signature that is known here."""
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    if _WEBP.match(head):
        return "image/webp"
    if _TEXT.match(head):
        if _HTML.search(head):
            return "text/html"
        return "image/svg+xml" if _SVG.search(head) else None
    return None


def check_signature(content_type: str | None, head: bytes) -> None:
    """Refuse a file that begins like another type than it is said to be, or like a page or program in disguise.

    Raises:
        TypeMismatch: it does. An empty file never does.
    """
    said = (content_type or OPAQUE).partition(";")[0].strip().lower()
    if not head or said == OPAQUE:
        return
    shown = type_of(head)
    if shown != said and (said in _SHOWN or shown in _HARMFUL):
        raise TypeMismatch("The file does not begin as one of its content type does.")

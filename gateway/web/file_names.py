"""The name of a form's file, decoded from what clients make of it, and whether an object's key may be made of it."""

import binascii
import re
import unicodedata
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.domain.errors import InvalidKey, MalformedForm
from gateway.web.form_headers import codec_of

MAX_FILENAME_BYTES: Final = 255
_LOST: Final = "\ufffd"
_BLOB: Final = "blob"
"""What browsers call a Blob that was appended without a name: everybody's key would be the same."""
_EXTENDED: Final = re.compile(r"([A-Za-z0-9_-]+)'[^']*'([^']*)")
"""RFC 8187 3.2: charset, language, percent-encoded bytes."""
_WORD: Final = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*)\?=")
"""RFC 2047 2: an encoded word, as .NET and older Spring write names that are not ASCII."""
_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_UNSEEN: Final = dict.fromkeys(
    [
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,
        *range(0x200E, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
        0xFFFD,
        *range(0xD800, 0xE000),
    ]
)


@dataclass(frozen=True, slots=True)
class FileName:
    """A file's name.

    Args:
        shown: as a person may see it, in NFC; perhaps empty.
        is_whole: whether that is all of the name: no character was lost on the way here, and nothing was cut off.
        was_given: False for ``filename=""``: so browsers send an input that nobody filled.
    """

    shown: str
    is_whole: bool = True
    was_given: bool = True

    def for_key(self) -> str:
        """The name, to make a key of. Raises InvalidKey where other files would get the same key."""
        if not self.is_whole:
            raise InvalidKey("The file's name did not come whole, so no key can be made of it: send a key.")
        if self.shown in ("", _BLOB):
            raise InvalidKey("The file has no name to make a key of: send a key, or append it with a name.")
        return self.shown


def file_name(said: Mapping[str, str]) -> FileName:
    """The name in *said*, the parameters of a part's Content-Disposition; ``filename*`` goes before ``filename``."""
    extended, plain = said.get("filename*"), said.get("filename")
    if extended is not None and (decoded := _extended(extended)) is not None:
        return _shown(decoded)
    if plain is None:
        return FileName("", is_whole=extended is None)
    if not plain:
        return FileName("", was_given=False)
    return _shown(_without_words(plain))


def _shown(raw: str) -> FileName:
    """*raw* as a name to show: its last path segment in NFC without control or direction characters, 255 bytes at most.

    Empty when nothing is left. Browsers write a double quote as %22.
    """
    seen = unicodedata.normalize("NFC", raw.replace("%22", '"').translate(_UNSEEN))
    base = re.split(r"[/\\]", seen)[-1].strip()
    if base in (".", ".."):
        base = ""
    shown = _shortened(base)
    return FileName(shown, is_whole=_LOST not in raw and shown == base)


def _extended(text: str) -> str | None:
    found = _EXTENDED.fullmatch(text)
    return None if found is None else _decoded(unquote_to_bytes(found[2]), found[1])


def _without_words(text: str) -> str:
    """*text*, its encoded words decoded, and the percent-encoding of names that are not ASCII, as aiohttp writes it."""
    if "=?" in text:
        joined = re.sub(r"(?<=\?=)[ \t]+(?==\?)", "", text)
        return _WORD.sub(lambda word: _decoded(_word_bytes(word[2], word[3]), word[1]) or _LOST, joined)
    if "%" not in text or not text.isascii():
        return text
    return _PERCENT.sub(_unless_ascii, text)


def _unless_ascii(found: re.Match[str]) -> str:
    raw = unquote_to_bytes(found[0])
    try:
        return found[0] if raw.isascii() else raw.decode()
    except UnicodeDecodeError:
        return found[0]


def _word_bytes(encoding: str, text: str) -> bytes | None:
    if encoding in "qQ":
        return binascii.a2b_qp(text.encode(errors="replace"), header=True)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def _decoded(raw: bytes | None, charset: str) -> str | None:
    """*raw* in *charset*; None where it is not, or the gateway does not read that."""
    if raw is None:
        return None
    try:
        return raw.decode(codec_of(charset))
    except (UnicodeDecodeError, MalformedForm):
        return None


def _shortened(name: str) -> str:
    """*name* cut to 255 bytes of UTF-8, its extension kept where it is short."""
    if len(name.encode()) <= MAX_FILENAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = (dot + extension).encode()
    if not stem or len(suffix) > 32:
        stem, suffix = name, b""
    cut = stem.encode()[: MAX_FILENAME_BYTES - len(suffix)].decode(errors="ignore").rstrip()
    return cut + suffix.decode()

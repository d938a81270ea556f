"""The header values of form data: parameters, boundaries and charsets."""

import re
from typing import Final

from gateway.domain.errors import MalformedForm, UnsupportedMediaType

FORM_TYPE: Final = "multipart/form-data"

_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# The last alternative is a browser's own: a backslash before the closing quote, as in "C:\", escapes nothing.
_PARAMETER: Final = re.compile(
    rf"""[ \t]*;[ \t]*(?P<name>{_WORD})=(?:"(?P<quoted>(?:[^"\\]|\\.)*|[^"]*)"|(?P<plain>[^\s;"]*))(?=[ \t]*(?:;|$))"""
)
_VALUE: Final = re.compile(rf"[ \t]*(?P<value>{_WORD}(?:/{_WORD})?)")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_ESCAPE: Final = re.compile(r'\\(["\\])')
UTF_8: Final = "utf-8"
_CODECS: Final = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii"), UTF_8),
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin1"), "iso-8859-1"),
    **dict.fromkeys(("gb18030", "gbk", "gb2312"), "gb18030"),
    **{name: name for name in ("windows-1252", "big5", "shift_jis", "euc-jp", "euc-kr")},
}
"""What forms are written in, by the charset's name in lower case. Looked up here alone: Python remembers for ever every
name that it was once asked for and does not know."""


def parameters(text: str) -> tuple[str, dict[str, str]]:
    """A header's value (in lower case) and its parameters (``RFC 9110`` 5.6.6), each of which may come once.

    Raises:
        MalformedForm: anything else.
    """
    begin = _VALUE.match(text)
    if begin is None:
        raise MalformedForm("A header of the form cannot be read.")
    found: dict[str, str] = {}
    at = begin.end()
    while at < len(text) and (parameter := _PARAMETER.match(text, at)):
        name = parameter["name"].lower()
        if name in found:
            raise MalformedForm("A header of the form has a parameter twice.")
        quoted = parameter["quoted"]
        found[name] = parameter["plain"] if quoted is None else _ESCAPE.sub(r"\1", quoted)
        at = parameter.end()
    if text[at:].strip(" \t;"):
        raise MalformedForm("A header of the form cannot be read.")
    return begin["value"].lower(), found


def boundary_of(content_type: str | None) -> bytes:
    """The boundary that a request's Content-Type names.

    Raises:
        UnsupportedMediaType: the body is no form data.
        MalformedForm: there is no boundary of 1 to 70 of the characters that RFC 2046 allows.
    """
    if content_type is None or content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise UnsupportedMediaType("Expected multipart/form-data.")
    boundary = parameters(content_type)[1].get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedForm("The form's boundary is not 1 to 70 of the allowed characters.")
    return boundary.encode()


def codec_of(charset: str) -> str:
    """Python's codec for a *charset* that a form declares. Raises MalformedForm where the gateway does not read it."""
    codec = _CODECS.get(charset.strip().lower())
    if codec is None:
        raise MalformedForm("The form declares a charset that the gateway does not read, expected utf-8.")
    return codec


def declared_codec(content_type: str | None, default: str) -> str:
    """The codec for the charset in a *content_type*, *default* where it has none. Raises MalformedForm."""
    if content_type is None or "charset" not in content_type.lower():
        return default
    charset = parameters(content_type)[1].get("charset")
    return default if charset is None else codec_of(charset)

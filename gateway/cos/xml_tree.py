"""COS's XML as a small tree, from bytes that may be hostile: no DOCTYPE, bounded size, depth and count."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

MAX_BYTES: Final = 8 * 1024 * 1024
_MAX_DEPTH: Final = 16
_MAX_ELEMENTS: Final = 50_000  # a full page of List Parts or List Multipart Uploads has about 13,000

_TEXT_BYTES: Final = 64 * 1024  # texts arrive in pieces of this size: almost always in one


class Unreadable(Exception):
    """The bytes are no XML that COS would send."""


@dataclass(slots=True)
class XmlElement:
    """One element under its local name, with its own text and its child elements."""

    name: str
    text: str = ""
    children: Sequence["XmlElement"] = ()

    def all(self, name: str) -> Iterator["XmlElement"]:
        """The children called *name*."""
        return (child for child in self.children if child.name == name)

    def text_of(self, *names: str) -> str | None:
        """The text of the first child that bears one of *names*."""
        return next((child.text for child in self.children if child.name in names), None)


class _Builder:
    """Makes one object for an element without children: a full page has thousands, all work for the collector."""

    def __init__(self) -> None:
        self.root = XmlElement("")
        self._open = [self.root]
        self._count = 0

    def start(self, name: str, _attributes: object) -> None:
        self._count += 1
        if len(self._open) > _MAX_DEPTH or self._count > _MAX_ELEMENTS:
            raise Unreadable(f"more than {_MAX_DEPTH} levels or {_MAX_ELEMENTS} elements")
        element = XmlElement(name.rpartition(":")[2])
        parent = self._open[-1]
        if isinstance(parent.children, list):
            parent.children.append(element)
        else:
            parent.children = [element]
        self._open.append(element)

    def data(self, text: str) -> None:
        element = self._open[-1]
        element.text = element.text + text if element.text else text

    def end(self, _name: str) -> None:
        self._open.pop()

    def doctype(self, *_: object) -> None:
        raise Unreadable("a DOCTYPE")


def read_xml(content: bytes) -> XmlElement:
    """The root element of *content*; white space before the declaration, which COS sends as keep-alive, is skipped.

    Raises:
        Unreadable: not well-formed, too large, too deep, or with a DOCTYPE.
    """
    if len(content) > MAX_BYTES:
        raise Unreadable(f"{len(content)} bytes, expected at most {MAX_BYTES}")
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = _TEXT_BYTES
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(content.lstrip(b" \t\r\n"), True)
    except (expat.ExpatError, ValueError, LookupError) as exc:
        raise Unreadable("not well-formed") from exc
    return builder.root.children[0]

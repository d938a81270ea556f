"""COS's XML as a small tree, from bytes that may be hostile: no DOCTYPE, bounded size, depth and count.

expat calls the C tree builder directly: a page of 1,000 uploads has 11,000 elements, and a Python call for each start,
text and end costs 20 ms.
"""

from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_BYTES: Final = 8 * 1024 * 1024
_MAX_DEPTH: Final = 16
_MAX_ELEMENTS: Final = 50_000  # a full page of List Parts or List Multipart Uploads has about 13,000
_MAX_TAGS: Final = 2 * _MAX_ELEMENTS + 100  # an element has two at most; the rest are declarations and comments


class Unreadable(Exception):
    """The bytes are no XML that COS would send."""


class XmlElement:
    """One element: its local name, and what its child elements hold."""

    __slots__ = ("_element",)

    def __init__(self, element: Element) -> None:
        self._element = element

    @property
    def name(self) -> str:
        """The local name."""
        return _local(self._element)

    def all(self, name: str) -> Iterator["XmlElement"]:
        """The children called *name*."""
        return (XmlElement(child) for child in self._element if _local(child) == name)

    def first(self, name: str) -> "XmlElement | None":
        """The first child called *name*, without a look at the others where its name has no prefix."""
        found = self._element.find(name)
        return next(self.all(name), None) if found is None else XmlElement(found)

    def text_of(self, *names: str) -> str | None:
        """The text of the first child that bears one of *names*."""
        for name in names:
            if (found := self._element.find(name)) is not None:
                return found.text or ""
        return next((child.text or "" for child in self._element if _local(child) in names), None)


def read_xml(content: bytes) -> XmlElement:
    """The root element of *content*; white space before the declaration, which COS sends as keep-alive, is skipped.

    Raises:
        Unreadable: not well-formed, too large, too deep, or with a DOCTYPE.
    """
    reader = XmlReader(content)
    while reader.step(len(content)):
        pass
    return reader.root()


class XmlReader:
    """``read_xml`` a piece at a time, for who must do other things in between: ``step`` until that gives False, then
    ``root``. Both raise what ``read_xml`` does.
    """

    def __init__(self, content: bytes) -> None:
        if len(content) > MAX_BYTES or content.count(b"<") > _MAX_TAGS:
            raise Unreadable(f"{len(content)} bytes, expected at most {MAX_BYTES} and {_MAX_TAGS} tags")
        self._left = memoryview(content.lstrip(b" \t\r\n"))
        self._builder = TreeBuilder()
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._builder.start
        self._parser.EndElementHandler = self._builder.end
        self._parser.CharacterDataHandler = self._builder.data
        self._parser.StartDoctypeDeclHandler = _refuse_doctype

    def step(self, size: int) -> bool:
        """Read up to *size* bytes more; whether some are left."""
        piece, self._left = self._left[:size], self._left[size:]
        try:
            self._parser.Parse(piece, not self._left)
        except (expat.ExpatError, ValueError, LookupError) as exc:
            raise Unreadable("not well-formed") from exc
        return bool(self._left)

    def root(self) -> XmlElement:
        """The root element of what was read."""
        root = self._builder.close()
        _check_shape(root)
        return XmlElement(root)


def _refuse_doctype(*_: object) -> None:
    raise Unreadable("a DOCTYPE")


def _check_shape(root: Element) -> None:
    level, count = [root], 0
    for _ in range(_MAX_DEPTH):
        count += len(level)
        level = [child for element in level for child in element]
        if not level and count <= _MAX_ELEMENTS:
            return
    raise Unreadable(f"more than {_MAX_DEPTH} levels or {_MAX_ELEMENTS} elements")


def _local(element: Element) -> str:
    return element.tag.rpartition(":")[2]

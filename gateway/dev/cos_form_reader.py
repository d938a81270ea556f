"""Reads a form as it streams in: its fields first, then its one file."""

from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.dev.cos_answers import Refusal

MAX_FIELDS: Final = 100
MAX_FIELD_BYTES: Final = 64 << 10


class _Kind(Enum):
    PART = auto()
    DATA = auto()
    PART_END = auto()
    END = auto()


class FormReader:
    """A ``multipart/form-data`` body, read once: :meth:`read_fields`, then :meth:`file` to its end.

    Raises:
        Refusal: MalformedPOSTRequest: it is no such body.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise _malformed("the body is no form")
        self.fields: dict[str, str] = {}
        self._body = body
        self._events: list[tuple[_Kind, bytes]] = []
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._parser = self._make_parser(boundary)
        self._reading = self._read()

    async def read_fields(self) -> str:
        """Fill ``fields``, by lower-case name, up to the file, and return the file's own name.

        Raises:
            Refusal: MalformedPOSTRequest, or IncorrectNumberOfFilesInPostRequest when there is no file.
        """
        name = b""
        value = bytearray()
        length = 0
        async for kind, data in self._reading:
            if kind is _Kind.PART:
                name, filename = _names(data)
                if filename is not None:
                    return _decoded(filename)
                value.clear()
            elif kind is _Kind.DATA:
                value += data
                length += len(data)
                if length > MAX_FIELD_BYTES:
                    raise _malformed(f"the fields have more than {MAX_FIELD_BYTES} bytes")
            elif kind is _Kind.PART_END:
                self._keep(_decoded(name), _decoded(bytes(value)))
        raise Refusal("IncorrectNumberOfFilesInPostRequest", "The form has no file.")

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes. It ends without an error only where the form ends, whole and with the file last.

        Raises:
            Refusal: MalformedPOSTRequest, or IncorrectNumberOfFilesInPostRequest when another file follows.
        """
        async for kind, data in self._reading:
            if kind is _Kind.DATA:
                yield data
            elif kind is _Kind.PART:
                if _names(data)[1] is not None:
                    raise Refusal("IncorrectNumberOfFilesInPostRequest", "The form has more than one file.")
                raise _malformed("a field follows the file")

    def _keep(self, name: str, value: str) -> None:
        if len(self.fields) >= MAX_FIELDS:
            raise _malformed(f"it has more than {MAX_FIELDS} fields")
        self.fields[name.lower()] = value

    async def _read(self) -> AsyncIterator[tuple[_Kind, bytes]]:
        """What the parser finds, in order; the last is END, or the form was cut short."""
        ended = False
        async for chunk in self._body:
            try:
                self._parser.write(chunk)
            except FormParserError as exc:
                raise _malformed("the form cannot be parsed") from exc
            events, self._events = self._events, []
            for event in events:
                ended = ended or event[0] is _Kind.END
                yield event
        if not ended:
            raise _malformed("the form ends before its closing boundary")

    def _make_parser(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": lambda: self._events.append((_Kind.PART, self._disposition)),
                    "on_part_data": lambda data, start, end: self._events.append((_Kind.DATA, data[start:end])),
                    "on_part_end": lambda: self._events.append((_Kind.PART_END, b"")),
                    "on_end": lambda: self._events.append((_Kind.END, b"")),
                },
            )
        except FormParserError as exc:
            raise _malformed("the boundary is too long") from exc

    def _begin_part(self) -> None:
        self._disposition = b""

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())


def _names(disposition: bytes) -> tuple[bytes, bytes | None]:
    """A part's field name, and its file name if it is a file."""
    kind, options = parse_options_header(disposition)
    if kind != b"form-data" or b"name" not in options:
        raise _malformed("a part has no name")
    if options[b"name"] == b"file":
        return b"file", options.get(b"filename", b"")
    return options[b"name"], options.get(b"filename")


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise _malformed("a field is not UTF-8") from exc


def _malformed(problem: str) -> Refusal:
    return Refusal("MalformedPOSTRequest", f"The body of your POST request is not well formed: {problem}.")

"""``multipart/form-data``: fields first, one file last (RFC 7578). The parser, without I/O.

python-multipart's callbacks record what came, and refuse what is over a limit. It takes a form that was cut short for a
whole one: nothing here is at its end before the closing boundary was read.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from gateway.domain.errors import FieldOrder, FieldTooLarge, MalformedForm, TooManyFields
from gateway.web.file_names import FileName, file_name
from gateway.web.form_headers import UTF_8, codec_of, declared_codec, parameters

# It warns about every malformed byte, and quotes it.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

_MAX_EPILOGUE_BYTES: Final = 64 << 10
_LINE_END: Final = b"\r\n"
_HYPHEN: Final = ord("-")
_REPLACED: Final = "\ufffd"
_CHARSET_FIELD: Final = "_charset_"
"""Says what the fields behind it are written in (RFC 7578 section 4.6); it is no field itself."""
_FILE_FIELD: Final = "file"
"""COS's forms name the file's field so, and need not give a filename."""

_NAME_BYTES: Final = 128
_FIELD_HEAD_BYTES: Final = 512
"""A field's headers; the file's may hold its name twice, and percent-encoded."""
_FILE_HEAD_BYTES: Final = 4096
_FIELD_COSTS_BYTES: Final = 256
"""What a field takes besides its name's and its value's bytes."""

_IDENTITY_ENCODINGS: Final = frozenset({"binary", "8bit", "7bit"})


@dataclass(frozen=True, slots=True)
class FormLimits:
    """How much of a form may come before its file. ``bytes_by_field`` overrides ``field_bytes`` for single names, and
    ``total_bytes`` holds for the names and values of all fields together.
    """

    field_count: int = 64
    field_bytes: int = 4096
    total_bytes: int = 64 * (4096 + 128)
    bytes_by_field: Mapping[str, int] = field(default_factory=dict)


DEFAULT_LIMITS: Final = FormLimits()


@dataclass(frozen=True, slots=True)
class FormFile:
    """The file of a form: its field, its name and its declared content type."""

    field: str
    name: FileName
    content_type: str | None


class FormParser:
    """Turn the bytes of a form, however they are split, into fields and the pieces of one file.

    ``file`` is set once the file's own headers have been read, and then ``fields`` are complete. ``ended`` is True once
    the closing boundary was read. *codec* is for fields that declare no charset.
    """

    def __init__(self, boundary: bytes, limits: FormLimits, codec: str = UTF_8) -> None:
        self._fields: dict[str, tuple[bytes, str]] = {}
        self.file: FormFile | None = None
        self.ended = False
        self._limits = limits
        self._begun = False
        self._line_end_allowed = _LINE_END
        self._closing = b"\r\n--%b--" % boundary
        self._last_bytes = b""
        self._epilogue_bytes = 0
        self._codec = self._field_codec = codec
        self._part_count = 0
        self._headers: dict[str, str] = {}
        self._header_name = self._header_value = b""
        self._head_bytes = 0
        self._field_name = ""
        self._field_value = bytearray()
        self._field_limit = 0
        self._total_bytes = 0
        self._file_ended = False
        self._pieces: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    @property
    def kept_bytes(self) -> int:
        """The memory that the fields take so far: they stay bytes until somebody asks for them."""
        return self._total_bytes + len(self._fields) * _FIELD_COSTS_BYTES

    def fields(self) -> dict[str, str]:
        """Every field so far, by name. Raises MalformedForm for one that is no text."""
        try:
            return {name: value.decode(codec) for name, (value, codec) in self._fields.items()}
        except UnicodeDecodeError as error:
            raise MalformedForm("A form field is not in UTF-8, or not in the charset that it declares.") from error

    def feed(self, chunk: bytes) -> list[bytes]:
        """Read *chunk*; return the file's bytes in it, in order. After an error the parser is of no more use.

        Raises:
            MalformedForm, TooManyFields, FieldTooLarge, FieldOrder.
        """
        if self.ended:
            self._skip_epilogue(len(chunk))
            return []
        if not self._begun:
            chunk = self._without_leading_line_end(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedForm("The form cannot be read.") from error
        self._skip_epilogue(self._behind_closing(chunk))
        self._last_bytes = (self._last_bytes + chunk[-len(self._closing) :])[-len(self._closing) :]
        pieces, self._pieces = self._pieces, []
        return pieces

    def _behind_closing(self, chunk: bytes) -> int:
        """How many bytes of *chunk* follow the closing boundary, if it ends in it."""
        if not self.ended:
            return 0
        size, before = len(self._closing), len(self._last_bytes)
        at = (self._last_bytes + chunk[:size]).find(self._closing) - before
        if at < -before:
            at = chunk.find(self._closing)
        return len(chunk) - at - size

    def _without_leading_line_end(self, chunk: bytes) -> bytes:
        """Hand-written clients begin with a line end; the parser would skip more than that, as the chunks fall."""
        while chunk and self._line_end_allowed and chunk[0] == self._line_end_allowed[0]:
            chunk, self._line_end_allowed = chunk[1:], self._line_end_allowed[1:]
        if chunk:
            self._begun = True
            if len(self._line_end_allowed) == 1 or chunk[0] != _HYPHEN:
                raise MalformedForm("The form does not begin with its boundary.")
        return chunk

    def _skip_epilogue(self, size: int) -> None:
        self._epilogue_bytes += size
        if self._epilogue_bytes > _MAX_EPILOGUE_BYTES:
            raise MalformedForm("Bytes follow the form's closing boundary.")

    def _on_part_begin(self) -> None:
        if self._file_ended:
            raise FieldOrder("A field follows the file.")
        self._part_count += 1
        self._headers = {}
        self._head_bytes = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow_head(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow_head(end - start)
        self._header_value += data[start:end]

    def _grow_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _FILE_HEAD_BYTES:
            raise FieldTooLarge(f"The headers of the form's file have more than {_FILE_HEAD_BYTES} bytes.")

    def _on_header_end(self) -> None:
        name, value = self._header_name.decode("latin-1").lower(), self._text(self._header_value)
        self._header_name = self._header_value = b""
        if name in self._headers:
            raise MalformedForm("A form field's headers cannot be read.")
        self._headers[name] = value

    def _text(self, value: bytes) -> str:
        """A header's *value*: UTF-8, or else what the form declares. What is neither shows as U+FFFD."""
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode(self._codec, errors="replace")

    def _on_headers_finished(self) -> None:
        disposition, named = parameters(self._headers.get("content-disposition", ""))
        name, content_type = named.get("name", ""), self._headers.get("content-type")
        encoding = self._headers.get("content-transfer-encoding", "binary").strip().lower()
        if disposition != "form-data" or not name.isprintable() or not name or _REPLACED in name:
            raise MalformedForm("A form field has no readable name.")
        if encoding not in _IDENTITY_ENCODINGS:
            raise MalformedForm("A form field is not sent as it is: its transfer encoding is not supported.")
        if content_type is not None and not _is_plain_type(content_type):
            raise MalformedForm("A form field's content type cannot be read, or is itself a multipart type.")
        if named.keys() & {"filename", "filename*"} or name == _FILE_FIELD:
            self.file = FormFile(name, file_name(named), content_type)
        else:
            self._begin_field(name)

    def _begin_field(self, name: str) -> None:
        if name in self._fields:
            raise MalformedForm("A form field came twice.")
        if self._head_bytes > _FIELD_HEAD_BYTES or len(name.encode()) > _NAME_BYTES:
            detail = (
                f"A form field's name has more than {_NAME_BYTES} bytes, or its headers more than {_FIELD_HEAD_BYTES}."
            )
            raise FieldTooLarge(detail)
        if self._part_count > self._limits.field_count:
            raise TooManyFields(f"The form has more than {self._limits.field_count} fields.")
        self._field_name = name
        self._field_codec = declared_codec(self._headers.get("content-type"), self._codec)
        self._field_value = bytearray()
        self._field_limit = self._limits.bytes_by_field.get(name, self._limits.field_bytes)
        self._grow_fields(len(name.encode()))

    def _grow_fields(self, size: int) -> None:
        self._total_bytes += size
        if self._total_bytes > self._limits.total_bytes:
            raise FieldTooLarge(f"The form's fields have more than {self._limits.total_bytes} bytes.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.file is not None:
            self._pieces.append(data[start:end])  # the same object, where it is the whole chunk
            return
        if len(self._field_value) + end - start > self._field_limit:
            raise FieldTooLarge(f"A form field has more than {self._field_limit} bytes.", expected=self._field_limit)
        self._grow_fields(end - start)
        self._field_value += data[start:end]

    def _on_part_end(self) -> None:
        if self.file is not None:
            self._file_ended = True
            return
        value, self._field_value = bytes(self._field_value), bytearray()
        if self._field_name == _CHARSET_FIELD:
            self._codec = codec_of(value.decode("latin-1"))
        else:
            self._fields[self._field_name] = value, self._field_codec

    def _on_end(self) -> None:
        self.ended = True


def _is_plain_type(content_type: str) -> bool:
    return content_type.isascii() and content_type.isprintable() and not content_type.lower().startswith("multipart/")

"""A form as it streams in: its fields first, then its file, piece by piece."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from sys import getsizeof
from typing import Final

from gateway.domain.errors import FileMissing, FormTruncated, InvalidRange, MalformedForm
from gateway.transfer.memory_budget import Lease
from gateway.transfer.process_memory import WAIT_SECONDS
from gateway.web.form_headers import UTF_8, boundary_of, declared_codec
from gateway.web.formdata import DEFAULT_LIMITS, FormFile, FormLimits, FormParser

_ENTRY_BYTES: Final = 64


def holding(lease: Lease) -> Callable[[int], Awaitable[None]]:
    """For ``FormReader``: *lease* holds the fields."""
    return lambda size: lease.resize(size, WAIT_SECONDS)


def fields_bytes(fields: Mapping[str, str]) -> int:
    """The memory that *fields* take as texts."""
    return sum(getsizeof(name) + getsizeof(value) + _ENTRY_BYTES for name, value in fields.items())


async def _hold_nothing(size: int) -> None:
    """For who holds the fields some other way."""


class FormReader:
    """Read a form from a request's body: first ``fields``, then ``file`` and its ``file_chunks``.

    Args:
        content_type: the request's header.
        chunks: its body; what it raises comes out unchanged.
        limits: for the fields.
        hold: told, as they come, how many bytes of memory the fields take by now.
        size: the file's in bytes, where the request says it; else None.

    Raises:
        UnsupportedMediaType: the body is no form data.
        MalformedForm: it has no good boundary, or declares a charset that is none.
    """

    def __init__(
        self,
        content_type: str | None,
        chunks: AsyncIterator[bytes],
        limits: FormLimits = DEFAULT_LIMITS,
        hold: Callable[[int], Awaitable[None]] = _hold_nothing,
        size: int | None = None,
    ) -> None:
        self._size = size
        self._chunks = chunks
        self._hold = hold
        self._parser = FormParser(boundary_of(content_type), limits, declared_codec(content_type, UTF_8))
        self._pieces: list[bytes] = []

    async def fields(self) -> dict[str, str]:
        """Every field, read up to where the file's bytes begin.

        Raises:
            FormTruncated: the body ended before.
            FileMissing: the file has neither a name nor a byte: nobody chose one.
            MalformedForm: there is no file, or the form cannot be read.
            TooManyFields, FieldTooLarge, FieldOrder.
            GatewayError: what *hold* raises.
        """
        while self._parser.file is None:
            if self._parser.ended:
                raise MalformedForm("The form holds no file.")
            self._pieces += self._parser.feed(await self._next_chunk())
            await self._hold(self._parser.kept_bytes)
        if not self._parser.file.name.was_given:
            await self._require_bytes()
        return self._parser.fields()

    async def _require_bytes(self) -> None:
        while not self._pieces and not self._parser.ended:
            self._pieces = self._parser.feed(await self._next_chunk())
        if not any(self._pieces):
            raise FileMissing("No file was chosen: the form's file has neither a name nor a byte.")

    @property
    def file(self) -> FormFile:
        """The file, once ``fields`` has returned."""
        assert self._parser.file is not None, "fields() comes first"
        return self._parser.file

    async def file_chunks(self) -> AsyncIterator[bytes]:
        """The file's bytes, once. It ends only after the closing boundary and the body's own end.

        Raises:
            FormTruncated: the body ended before the closing boundary.
            FieldOrder: something follows the file.
            MalformedForm: the form cannot be read.
            InvalidRange: it has another size than the request says.
        """
        size = 0
        while True:
            while self._pieces:
                size += len(self._pieces[0])
                yield self._pieces.pop(0)
            if self._parser.ended:
                break
            self._pieces = self._parser.feed(await self._next_chunk())
        async for chunk in self._chunks:
            self._parser.feed(chunk)
        if self._size not in (None, size):
            raise InvalidRange(f"The file has {size} bytes, Content-Range says {self._size}.", expected=self._size)

    async def _next_chunk(self) -> bytes:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            raise FormTruncated("The form ended before its closing boundary.")
        return chunk

"""A chunked body (RFC 9112 section 7.1), read strictly and within bounds: what is not exactly one is refused."""

import re
from typing import Final

from gateway.domain.errors import BadFraming, BodyTooLarge, HeaderTooLarge

MAX_EXTENSION_BYTES: Final = 1024
MAX_TRAILER_BYTES: Final = 4096
_JOINED_BYTES: Final = 4096
"""Chunks that are smaller are joined where they are here: each piece costs whoever keeps it some 40 bytes more."""
_SIZE_DIGITS: Final = 13
"""2^52 bytes, and more than COS stores in one object."""
_LINE_BYTES: Final = MAX_EXTENSION_BYTES + 64
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]+)[ \t]*((?:;[\t -~\x80-\xff]*)?)")
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class ChunkedBody:
    """Give it what arrives, take pieces out. ``ended``: all of it has been read, trailers too, which are dropped.

    Neither method keeps more than one line and what was given but not taken.
    """

    __slots__ = ("_at", "_between", "_data", "_left", "_trailer_bytes", "ended")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._left = 0
        self._between = False
        self._trailer_bytes = -1
        self.ended = False

    @property
    def rest(self) -> bytes:
        """What was given and not read: after ``ended``, the next request."""
        return self._data[self._at :]

    @property
    def unread_bytes(self) -> int:
        """How much was given and not read."""
        return len(self._data) - self._at

    def receive(self, data: bytes) -> None:
        """*data* has arrived."""
        self._data = self.rest + data if self._at < len(self._data) else data
        self._at = 0

    def next_piece(self) -> bytes | None:
        """Some bytes of the body, None when more has to arrive or the body has ended.

        Raises:
            BadFraming: this is no chunked body.
            BodyTooLarge: a chunk says that it is larger than any object.
            HeaderTooLarge: too much comes behind the body.
        """
        pieces: list[bytes] = []
        size = 0
        while size < _JOINED_BYTES and (piece := self._next_chunk()) is not None:
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces) or None  # a single piece is not copied

    def _next_chunk(self) -> bytes | None:
        """Some bytes of one chunk, None when more has to arrive or the body has ended."""
        while not self._left:
            if self.ended or not self._read_line():
                return None
        if self._at == len(self._data):
            return None
        piece = self._data[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        self._between = not self._left
        return piece

    def _read_line(self) -> bool:
        """Read one line between two chunks; whether it was there."""
        end = self._data.find(b"\n", self._at, self._at + _LINE_BYTES)
        if end < 0:
            if len(self._data) - self._at >= _LINE_BYTES:
                raise BadFraming(f"A line between chunks is longer than {_LINE_BYTES} bytes.")
            return False
        line = self._data[self._at : end]
        if not line.endswith(b"\r"):
            raise BadFraming("A line between chunks does not end with CR LF.")
        self._at = end + 1
        self._take_line(line[:-1])
        return True

    def _take_line(self, line: bytes) -> None:
        if self._between:
            if line:
                raise BadFraming("A chunk is longer than it says.")
            self._between = False
        elif self._trailer_bytes < 0:
            self._take_size(line)
        else:
            self._take_trailer(line)

    def _take_size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None or len(found[2]) > MAX_EXTENSION_BYTES:
            raise BadFraming("A chunk does not begin with its size.")
        if len(found[1]) > _SIZE_DIGITS:
            raise BodyTooLarge(f"A chunk's size has {len(found[1])} digits.")
        self._left = int(found[1], 16)
        if not self._left:
            self._trailer_bytes = 0

    def _take_trailer(self, line: bytes) -> None:
        self.ended = not line
        self._trailer_bytes += len(line)
        if line and not _FIELD.fullmatch(line):
            raise BadFraming("A trailer is no header field.")
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise HeaderTooLarge(f"The trailers have more than {MAX_TRAILER_BYTES} bytes.")

"""A file of this machine: its parts, their digests and their bytes, read a MiB at a time and never whole."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from gateway.domain.parts import plan_part_size

_PIECE_BYTES: Final = 1 << 20


class FileChanged(Exception):
    """The file is not what it was when it was opened."""


class LocalFile:
    """The file at *path*, open until ``close``; ``size`` and ``part_size`` are bytes, parts count from 1.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        InvalidSize: it is larger than COS takes.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise IsADirectoryError(None, "is no file") if path.exists() else FileNotFoundError(None, "does not exist")
        self._file = path.open("rb", buffering=0)
        seen = os.fstat(self._file.fileno())
        self._stamp = (seen.st_size, seen.st_mtime_ns)
        self.size: Final = seen.st_size
        try:
            self.part_size: Final = plan_part_size(self.size, None)
        except BaseException:
            self.close()
            raise
        self.part_count: Final = max(1, -(-self.size // self.part_size))

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def length_of(self, number: int) -> int:
        """Bytes of part *number*."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)

    async def digests(self, on_read: Callable[[int], None]) -> list[bytes]:
        """The MD5 of each part; *on_read* is told how many bytes were read by then. Raises FileChanged."""
        found, read = [], 0
        for number in range(1, self.part_count + 1):
            digest = hashlib.md5(usedforsecurity=False)
            async for piece in self.chunks(number, lambda _: None):
                digest.update(piece)
                read += len(piece)
                on_read(read)
            found.append(digest.digest())
        return found

    async def chunks(self, number: int, on_read: Callable[[int], None]) -> AsyncIterator[bytes]:
        """The bytes of part *number*; *on_read* is told of each piece's length. Raises FileChanged."""
        at = (number - 1) * self.part_size
        end = at + self.length_of(number)
        while at < end:
            piece = await asyncio.to_thread(os.pread, self._file.fileno(), min(_PIECE_BYTES, end - at), at)
            if not piece:
                raise FileChanged
            at += len(piece)
            on_read(len(piece))
            yield piece

    def require_unchanged(self) -> None:
        """Raise FileChanged when it was written to since it was opened."""
        seen = os.fstat(self._file.fileno())
        if (seen.st_size, seen.st_mtime_ns) != self._stamp:
            raise FileChanged

"""Bytes as they came, without letting many tiny pieces cost many times what they hold."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

_JOINED_COUNT: Final = 64
_JOINED_BYTES: Final = 64 * 1024
"""A run of so many pieces that hold less than this becomes one: an object of its own costs 33 bytes and a reference."""


class Pieces:
    """Bytes in order, each piece the object that was added unless it was joined with its neighbours.

    ``size``: bytes in all. Reading by offset, one need not know what was joined meanwhile.
    """

    __slots__ = ("_ends", "_kept", "_loose_count", "size")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._ends: list[int] = []
        self._loose_count = 0
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, piece: bytes) -> None:
        """Put *piece*, which is not empty, behind the others."""
        self._kept.append(piece)
        self.size += len(piece)
        self._ends.append(self.size)
        self._loose_count += 1
        if self._loose_count == _JOINED_COUNT:
            self._join()

    def at(self, offset: int) -> bytes:
        """Some bytes from *offset* on, which is below ``size``."""
        index = bisect_right(self._ends, offset)
        piece = self._kept[index]
        begins = self._ends[index] - len(piece)
        return piece if offset == begins else piece[offset - begins :]

    def clear(self) -> None:
        """Let go of them all."""
        self._kept.clear()
        self._ends.clear()
        self._loose_count = self.size = 0

    def _join(self) -> None:
        loose = self._kept[-self._loose_count :]
        if sum(map(len, loose)) < _JOINED_BYTES:
            del self._kept[-self._loose_count :], self._ends[-self._loose_count :]
            self._kept.append(b"".join(loose))
            self._ends.append(self.size)
        self._loose_count = 0

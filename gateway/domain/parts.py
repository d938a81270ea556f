"""How bytes become parts: their sizes, their growth to stay within 10,000, and the cutter.

Limits: Upload Part and Specifications and Limits, COS documentation 436/7750 and 436/14518.
"""

from collections.abc import Sequence
from typing import Final

from gateway.domain.errors import InvalidPartNumber, InvalidSize, PartSizeMismatch, PartTooLarge
from gateway.domain.pieces import Pieces

MIB: Final = 1 << 20
MIN_PART_BYTES: Final = MIB
MAX_PART_BYTES: Final = 5 << 30
MAX_PART_COUNT: Final = 10_000
MAX_OBJECT_BYTES: Final = 50_000 << 30
MAX_PUT_BYTES: Final = 5 << 30
DEFAULT_PART_BYTES: Final = 4 * MIB
PARTS_PER_DOUBLING: Final = 1_000
"""A sequential body of unknown length doubles its part size after so many parts: 10,000 parts then hold 4 TiB."""


def plan_part_size(size: int | None, wanted: int | None) -> int:
    """Bytes per part for a file of *size* bytes: *wanted* (or 4 MiB), grown so that 10,000 parts hold the file.

    Raises:
        InvalidSize: the size, or the part size wanted, is outside COS's limits.
    """
    part_size = DEFAULT_PART_BYTES if wanted is None else wanted
    if not MIN_PART_BYTES <= part_size <= MAX_PART_BYTES:
        raise InvalidSize(f"part_size is {part_size} bytes, expected {MIN_PART_BYTES} to {MAX_PART_BYTES}.")
    if size is None:
        return part_size
    if not 0 <= size <= MAX_OBJECT_BYTES:
        raise InvalidSize(f"size is {size} bytes, expected 0 to {MAX_OBJECT_BYTES}.")
    least = -(-size // MAX_PART_COUNT)
    return part_size if least <= part_size else -(-least // MIB) * MIB


def check_part(number: int, length: int, part_size: int, size: int | None) -> None:
    """Refuse a part that does not cover exactly its bytes of the file.

    Raises:
        InvalidPartNumber: there is no such part.
        PartSizeMismatch: *length* is not the part's; ``expected`` tells it.
        PartTooLarge: *length* is beyond COS's limit.
    """
    last = MAX_PART_COUNT if size is None else max(1, -(-size // part_size))
    if not 1 <= number <= last:
        raise InvalidPartNumber(f"Part number {number} is not within 1 to {last}.")
    if size is None:
        if length > MAX_PART_BYTES:
            raise PartTooLarge(f"The part has {length} bytes, expected at most {MAX_PART_BYTES}.")
        if length == 0:
            raise PartSizeMismatch("The part is empty.")
        return
    expected = min(part_size, size - (number - 1) * part_size)
    if length != expected:
        raise PartSizeMismatch(f"Part {number} has {length} bytes, expected {expected}.", expected=expected)


def sequential_part_size(part_size: int, stored_count: int, offset: int, size: int | None) -> int:
    """Bytes of the next part of a sequential body that stands at *offset* with *stored_count* parts stored.

    Parts cut where a body broke off are smaller than planned; the rest grow so that 10,000 still hold the file.
    """
    if size is None:
        return min(part_size << (stored_count // PARTS_PER_DOUBLING), MAX_PART_BYTES)
    left = max(1, MAX_PART_COUNT - stored_count)
    return max(part_size, -(-(size - offset) // left))


def missing_ranges(present: Sequence[int], count: int) -> list[list[int]]:
    """The part numbers from 1 to *count* that ascending *present* lacks, as ``[first, last]`` pairs."""
    ranges: list[list[int]] = []
    expected = 1
    for number in [*(number for number in present if number <= count), count + 1]:
        if number > expected:
            ranges.append([expected, number - 1])
        expected = number + 1
    return ranges


class PartCutter:
    """Collect chunks of any length into one part of at most *target* bytes, without joining them.

    Args:
        target: bytes that fill the part.
    """

    __slots__ = ("chunks", "target")

    def __init__(self, target: int) -> None:
        self.target = target
        self.chunks = Pieces()

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return self.chunks.size

    @property
    def full(self) -> bool:
        """Whether the part holds *target* bytes."""
        return self.size >= self.target

    def feed(self, chunk: bytes) -> bytes:
        """Take what fits of *chunk* and return the rest (empty when all of it fitted)."""
        room = self.target - self.size
        taken, rest = (chunk, b"") if len(chunk) <= room else (chunk[:room], chunk[room:])
        if taken:
            self.chunks.add(taken)
        return rest

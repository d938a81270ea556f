"""What a completion asks of COS: which parts, and what the object must then be. Pure: it decides, others act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.domain.checksums import combine_all
from gateway.domain.errors import DigestMismatch, InvalidSize, PartsMissing
from gateway.domain.objects import ETag, StoredPart
from gateway.domain.parts import MIN_PART_BYTES, missing_ranges
from gateway.domain.task import BodyMode, Task


@dataclass(frozen=True, slots=True)
class ClaimedPart:
    """A part as the caller remembers it; None where the caller does not say."""

    number: int
    etag: ETag | None = None
    crc64: int | None = None


@dataclass(frozen=True, slots=True)
class CompleteWanted:
    """What the caller says of the file: size in bytes, parts, CRC-64 of the whole. Nothing means: what is stored.

    ``headers`` are the object's that came with Complete, as COS's headers.
    """

    size: int | None = None
    parts: Sequence[ClaimedPart] = field(default_factory=tuple)
    crc64: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompletionPlan:
    """The list for COS, and what the object must then be. ``crc64`` is None when it cannot be known."""

    parts: list[tuple[int, ETag]]
    size: int
    crc64: int | None

    def unlisted(self, stored: Sequence[StoredPart]) -> list[int]:
        """The numbers of *stored* parts that are not in the list: COS drops them."""
        listed = {number for number, _ in self.parts}
        return [part.number for part in stored if part.number not in listed]


def plan_completion(task: Task, stored: Sequence[StoredPart], wanted: CompleteWanted) -> CompletionPlan:
    """What to ask COS for, from ascending *stored* parts and what the caller says.

    Raises:
        PartsMissing: parts are absent, differ from the caller's, or are too small to stand before another.
        InvalidSize: the caller's size is not the task's.
        DigestMismatch: the caller's CRC-64 of the whole is not that of the parts.
    """
    size = task.size if task.size is not None else wanted.size
    if wanted.size is not None and wanted.size != size:
        raise InvalidSize(f"The file was said to have {size} bytes, now {wanted.size}.", expected=size)
    parts = _restored(stored, wanted.parts)
    numbers = [part.number for part in parts]
    by_plan = task.size is not None and task.mode is not BodyMode.CONTENT
    count = task.part_count if by_plan and task.size else (numbers[-1] if numbers else 0)
    missing = missing_ranges(numbers, count or 0)
    small = [[part.number, part.number] for part in parts[:-1] if part.size < MIN_PART_BYTES]
    if small and not missing:
        raise PartsMissing(
            f"{len(small)} parts before the last have less than {MIN_PART_BYTES} bytes.",
            missing=small,
            next_offset=task.next_offset,
            expected=MIN_PART_BYTES,
        )
    missing += small
    total = sum(part.size for part in parts)
    if missing or (size is not None and total != size):
        raise PartsMissing(f"{total} bytes are stored, expected {size}.", missing=missing, next_offset=task.next_offset)
    known = all(part.crc64 is not None for part in parts)
    crc = combine_all((part.crc64 or 0, part.size) for part in parts) if known else wanted.crc64
    if wanted.crc64 not in (None, crc):
        raise DigestMismatch("The CRC-64 of the stored parts is not the one that the caller gave.")
    return CompletionPlan([(part.number, part.etag) for part in parts], total, crc)


def _restored(stored: Sequence[StoredPart], claimed: Sequence[ClaimedPart]) -> list[StoredPart]:
    """The stored parts, with the CRCs that only the caller remembers."""
    if not claimed:
        return list(stored)
    by_number = {part.number: part for part in stored}
    parts, wrong = [], []
    for claim in claimed:
        part = by_number.get(claim.number)
        agrees = (
            part is not None
            and claim.etag in (None, part.etag)
            and (claim.crc64 is None or part.crc64 in (None, claim.crc64))
        )
        if part is None or not agrees:
            wrong.append(claim.number)
        else:
            crc = part.crc64 if part.crc64 is not None else claim.crc64
            parts.append(StoredPart(part.number, part.size, part.etag, crc))
    if wrong:
        ranges = as_ranges(sorted(wrong))
        raise PartsMissing(f"{len(wrong)} of the listed parts are not stored as listed.", missing=ranges)
    return sorted(parts, key=lambda part: part.number)


def as_ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Ascending *numbers* as ``[first, last]`` pairs."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges

"""Sizes of parts, the numbers that are missing, and the cutter."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidPartNumber, InvalidSize, PartSizeMismatch, PartTooLarge
from gateway.domain.parts import (
    DEFAULT_PART_BYTES,
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PART_COUNT,
    MIB,
    MIN_PART_BYTES,
    PartCutter,
    check_part,
    missing_ranges,
    plan_part_size,
    sequential_part_size,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        (None, None, DEFAULT_PART_BYTES),
        (None, MIB, MIB),
        (0, None, DEFAULT_PART_BYTES),
        (10_000 * 4 * MIB, None, 4 * MIB),
        (10_000 * 4 * MIB + 1, None, 5 * MIB),
        (10_000 * MIB, MIB, MIB),
        (10_000 * MIB + 1, MIB, 2 * MIB),
        (MAX_OBJECT_BYTES, None, MAX_PART_BYTES),
        (1, MAX_PART_BYTES, MAX_PART_BYTES),
    ],
)
def test_the_part_size_grows_only_when_10000_parts_would_not_do(
    size: int | None, wanted: int | None, expected: int
) -> None:
    assert plan_part_size(size, wanted) == expected


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (None, MIN_PART_BYTES - 1),
        (None, MAX_PART_BYTES + 1),
        (None, 0),
        (None, -1),
        (-1, None),
        (MAX_OBJECT_BYTES + 1, None),
        (2**64, None),
    ],
)
def test_sizes_that_cos_does_not_take_are_refused(size: int | None, wanted: int | None) -> None:
    with pytest.raises(InvalidSize):
        plan_part_size(size, wanted)


@given(st.integers(0, MAX_OBJECT_BYTES), st.integers(MIN_PART_BYTES, MAX_PART_BYTES))
def test_planned_parts_cover_every_file_exactly_once(size: int, wanted: int) -> None:
    part_size = plan_part_size(size, wanted)
    count = max(1, -(-size // part_size))
    last = size - (count - 1) * part_size

    assert wanted <= part_size <= MAX_PART_BYTES
    assert count <= MAX_PART_COUNT
    assert 0 <= last <= part_size
    for number, length in ((1, part_size if count > 1 else last), (count, last)):
        check_part(number, length, part_size, size)


@pytest.mark.parametrize("number", [0, -1, 4, 10_001])
def test_a_number_that_the_file_does_not_have_is_refused(number: int) -> None:
    with pytest.raises(InvalidPartNumber, match=f"Part number {number} is not within 1 to 3"):
        check_part(number, MIB, MIB, 3 * MIB)


@pytest.mark.parametrize(
    ("number", "length", "expected"),
    [(1, MIB - 1, MIB), (1, MIB + 1, MIB), (1, 0, MIB), (3, MIB, 5), (3, 4, 5), (3, 6, 5)],
)
def test_a_part_of_another_length_is_refused_with_the_right_one(number: int, length: int, expected: int) -> None:
    with pytest.raises(PartSizeMismatch) as caught:
        check_part(number, length, MIB, 2 * MIB + 5)

    assert caught.value.facts["expected"] == expected


def test_while_the_size_is_unknown_any_length_that_cos_takes_is_a_part() -> None:
    for length in (1, MIB, MAX_PART_BYTES):
        check_part(MAX_PART_COUNT, length, 4 * MIB, None)
    with pytest.raises(PartTooLarge):
        check_part(1, MAX_PART_BYTES + 1, 4 * MIB, None)
    with pytest.raises(PartSizeMismatch):
        check_part(1, 0, 4 * MIB, None)
    with pytest.raises(InvalidPartNumber):
        check_part(MAX_PART_COUNT + 1, MIB, 4 * MIB, None)


def test_parts_of_an_unknown_file_double_every_thousand() -> None:
    sizes = [sequential_part_size(4 * MIB, count, 0, None) for count in (0, 999, 1000, 1999, 2000, 9999)]

    assert sizes == [4 * MIB, 4 * MIB, 8 * MIB, 8 * MIB, 16 * MIB, 2048 * MIB]


def test_doubling_stops_at_what_cos_takes() -> None:
    assert sequential_part_size(GIB, 9999, 0, None) == MAX_PART_BYTES


@given(st.integers(1, 10**12), st.lists(st.integers(1, 4 * MIB), max_size=30))
def test_a_file_of_known_size_always_fits_10000_parts_however_often_it_breaks_off(size: int, short: list[int]) -> None:
    """Parts cut short where a body broke off are made good by the ones that follow."""
    part_size = plan_part_size(size, None)
    count = offset = 0
    for length in short:
        if offset + length >= size:
            break
        count, offset = count + 1, offset + length

    following = sequential_part_size(part_size, count, offset, size)

    assert following >= part_size
    assert count + -(-(size - offset) // following) <= MAX_PART_COUNT


def test_the_last_number_there_is_takes_all_that_is_left() -> None:
    assert sequential_part_size(MIB, MAX_PART_COUNT - 1, 10 * MIB, 30 * MIB) == 20 * MIB


@given(st.sets(st.integers(1, 60)), st.integers(0, 50))
@example({5, 7}, 3)
@example(set(), 0)
def test_missing_ranges_name_exactly_the_numbers_that_are_missing(present: set[int], count: int) -> None:
    ranges = missing_ranges(sorted(present), count)
    named = [number for first, last in ranges for number in range(first, last + 1)]

    assert named == [number for number in range(1, count + 1) if number not in present]
    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))


@given(st.lists(st.binary(min_size=1, max_size=90), max_size=20), st.integers(1, 64))
def test_parts_are_the_chunks_cut_elsewhere(chunks: list[bytes], target: int) -> None:
    """However the bytes arrive, the parts carry the same bytes, full but for the last."""
    parts, cutter = [], PartCutter(target)
    for whole in chunks:
        chunk = whole
        while chunk:
            chunk = cutter.feed(chunk)
            if cutter.full:
                parts.append(b"".join(cutter.chunks))
                cutter = PartCutter(target)
    last = b"".join(cutter.chunks)

    assert b"".join(parts) + last == b"".join(chunks)
    assert all(len(part) == target for part in parts)
    assert len(last) == cutter.size < target


def test_a_full_cutter_takes_nothing_more() -> None:
    cutter = PartCutter(4)

    assert cutter.feed(b"12345") == b"5"
    assert cutter.full
    assert cutter.feed(b"6") == b"6"
    assert list(cutter.chunks) == [b"1234"]


def test_a_chunk_that_fits_is_kept_without_a_copy() -> None:
    chunk = bytes(1000)
    cutter = PartCutter(4096)

    cutter.feed(chunk)

    assert next(iter(cutter.chunks)) is chunk

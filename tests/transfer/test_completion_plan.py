"""What a completion asks for: which parts, which size, which CRC-64. Pure."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.checksums import crc64
from gateway.domain.errors import DigestMismatch, InvalidSize, PartsMissing
from gateway.domain.objects import Bucket, ETag, ObjectAddress, StoredPart
from gateway.domain.parts import MIB
from gateway.domain.task import BodyMode, Task, TaskId
from gateway.transfer.completion_plan import ClaimedPart, CompleteWanted, as_ranges, plan_completion

NOTHING_SAID = CompleteWanted()


def task(size: int | None, mode: BodyMode = BodyMode.PARTS, part_size: int = MIB) -> Task:
    return Task(
        id=TaskId("t"),
        owner="alice",
        at=ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), "k"),
        size=size,
        mode=mode,
        part_size=part_size,
        slice_size=MIB,
        async_limit=3,
        created_at=0,
        updated_at=0,
        expires_at=0,
    )


def part(number: int, size: int = MIB, crc: int | None = 7) -> StoredPart:
    return StoredPart(number, size, ETag(f'"e{number}"'), crc)


def test_the_plan_lists_every_part_with_the_size_and_crc_of_the_whole() -> None:
    bodies = [bytes([number]) * MIB for number in (1, 2)] + [b"end"]
    stored = [StoredPart(n, len(body), ETag(f'"{n}"'), crc64(body)) for n, body in enumerate(bodies, 1)]

    plan = plan_completion(task(2 * MIB + 3), stored, NOTHING_SAID)

    assert plan.parts == [(1, '"1"'), (2, '"2"'), (3, '"3"')]
    assert (plan.size, plan.crc64) == (2 * MIB + 3, crc64(b"".join(bodies)))


def test_the_caller_may_list_the_parts_in_any_order() -> None:
    numbers = range(1, 13)
    bodies = {number: bytes([number]) * MIB for number in numbers}
    stored = [StoredPart(number, MIB, ETag(f'"{number}"'), crc64(bodies[number])) for number in numbers]
    listed = CompleteWanted(parts=[ClaimedPart(number) for number in sorted(numbers, key=str)])

    plan = plan_completion(task(12 * MIB), stored, listed)

    assert [number for number, _ in plan.parts] == list(numbers)
    assert plan.crc64 == crc64(b"".join(bodies.values()))


@pytest.mark.parametrize("size", [0, None])
def test_nothing_stored_of_nothing_is_an_empty_file(size: int | None) -> None:
    plan = plan_completion(task(size), [], NOTHING_SAID)

    assert (plan.parts, plan.size, plan.crc64) == ([], 0, 0)


@pytest.mark.parametrize(
    ("size", "numbers", "missing"),
    [
        (3 * MIB, [], [[1, 3]]),
        (3 * MIB, [2], [[1, 1], [3, 3]]),
        (3 * MIB, [1, 2], [[3, 3]]),
        (None, [1, 3], [[2, 2]]),
        (None, [2], [[1, 1]]),
    ],
)
def test_parts_that_are_missing_are_named(size: int | None, numbers: list[int], missing: list[list[int]]) -> None:
    with pytest.raises(PartsMissing) as caught:
        plan_completion(task(size), [part(number) for number in numbers], NOTHING_SAID)

    assert caught.value.facts["missing"] == missing


def test_a_part_too_small_to_stand_before_another_is_asked_for_again() -> None:
    with pytest.raises(PartsMissing) as caught:
        plan_completion(task(None), [part(1, 10), part(2)], NOTHING_SAID)

    assert caught.value.facts["missing"] == [[1, 1]]


def test_only_the_last_part_may_be_small() -> None:
    assert plan_completion(task(None), [part(1), part(2, 10)], NOTHING_SAID).size == MIB + 10


def test_content_is_judged_by_its_bytes_not_by_a_plan_of_parts() -> None:
    """Its parts have any size of a mebibyte or more."""
    content = task(3 * MIB, BodyMode.CONTENT)

    assert plan_completion(content, [part(1, 2 * MIB), part(2)], NOTHING_SAID).size == 3 * MIB
    with pytest.raises(PartsMissing):
        plan_completion(content, [part(1, 2 * MIB)], NOTHING_SAID)


def test_the_callers_size_must_be_the_tasks() -> None:
    with pytest.raises(InvalidSize):
        plan_completion(task(MIB), [part(1)], CompleteWanted(size=MIB + 1))


def test_the_callers_size_stands_in_for_one_that_is_unknown() -> None:
    assert plan_completion(task(None), [part(1)], CompleteWanted(size=MIB)).size == MIB
    with pytest.raises(PartsMissing):
        plan_completion(task(None), [part(1)], CompleteWanted(size=2 * MIB))


@pytest.mark.parametrize(
    "claim", [ClaimedPart(2, ETag('"other"')), ClaimedPart(2, None, 8), ClaimedPart(3), ClaimedPart(2, ETag('"e1"'))]
)
def test_a_listed_part_that_is_not_stored_as_listed_is_named(claim: ClaimedPart) -> None:
    with pytest.raises(PartsMissing) as caught:
        plan_completion(task(2 * MIB), [part(1), part(2)], CompleteWanted(parts=[ClaimedPart(1), claim]))

    assert caught.value.facts["missing"] == [[claim.number, claim.number]]


def test_a_list_that_leaves_parts_out_asks_for_fewer_where_the_size_is_unknown() -> None:
    wanted = CompleteWanted(parts=[ClaimedPart(2), ClaimedPart(1)])

    plan = plan_completion(task(None), [part(1), part(2), part(3)], wanted)

    assert [number for number, _ in plan.parts] == [1, 2]


def test_a_list_that_leaves_parts_out_of_a_known_file_is_incomplete() -> None:
    with pytest.raises(PartsMissing) as caught:
        plan_completion(task(2 * MIB), [part(1), part(2)], CompleteWanted(parts=[ClaimedPart(1)]))

    assert caught.value.facts["missing"] == [[2, 2]]


def test_crcs_that_redis_lost_are_restored_by_the_callers_list() -> None:
    stored = [part(1, crc=None), part(2, crc=None)]
    claims = [ClaimedPart(1, crc64=7), ClaimedPart(2, crc64=7)]

    with_list = plan_completion(task(2 * MIB), stored, CompleteWanted(parts=claims))

    assert with_list.crc64 == plan_completion(task(2 * MIB), [part(1), part(2)], NOTHING_SAID).crc64


def test_crcs_that_redis_lost_are_replaced_by_the_callers_crc_of_the_whole() -> None:
    stored = [part(1, crc=None), part(2)]

    assert plan_completion(task(2 * MIB), stored, CompleteWanted(crc64=5)).crc64 == 5
    assert plan_completion(task(2 * MIB), stored, NOTHING_SAID).crc64 is None


def test_a_crc_of_the_whole_that_the_parts_do_not_have_is_refused() -> None:
    with pytest.raises(DigestMismatch):
        plan_completion(task(MIB), [part(1)], CompleteWanted(crc64=8))
    assert plan_completion(task(MIB), [part(1)], CompleteWanted(crc64=7)).crc64 == 7


@given(st.sets(st.integers(1, 60)))
def test_ranges_name_exactly_their_numbers(numbers: set[int]) -> None:
    ranges = as_ranges(sorted(numbers))

    assert [n for first, last in ranges for n in range(first, last + 1)] == sorted(numbers)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))

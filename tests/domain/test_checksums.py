"""CRC-64/XZ against COS's own documents, and its combination against the plain computation."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.checksums import combine, combine_all, crc64

_VECTORS = json.loads((Path(__file__).parents[1] / "cos" / "signature_vectors.json").read_text())["crc64"]


def _bitwise(data: bytes) -> int:
    """CRC-64/XZ by its definition, a bit at a time: an oracle that shares nothing with the code."""
    register = (1 << 64) - 1
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xC96C5795D7870F42 if register & 1 else 0)
    return register ^ ((1 << 64) - 1)


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["text"])
def test_the_crc_is_the_one_in_coss_documents(vector: dict[str, str]) -> None:
    assert crc64(vector["text"].encode()) == int(vector["decimal"])


@given(st.binary(max_size=300))
def test_the_crc_is_crc_64_xz_by_its_definition(data: bytes) -> None:
    assert crc64(data) == _bitwise(data)


@given(st.binary(max_size=500), st.integers(0, 500))
def test_a_crc_goes_on_from_the_bytes_before(data: bytes, at: int) -> None:
    assert crc64(data[at:], crc64(data[:at])) == crc64(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_has_the_same_crc(kind: type) -> None:
    assert crc64(kind(b"123456789")) == 11051210869376104954


@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_two_crcs_combine_to_that_of_both(data: bytes, at: int) -> None:
    first, second = data[:at], data[at:]

    assert combine(crc64(first), crc64(second), len(second)) == crc64(data)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_number_of_pieces_combine_to_the_whole(pieces: list[bytes]) -> None:
    assert combine_all((crc64(piece), len(piece)) for piece in pieces) == crc64(b"".join(pieces))


def test_ten_thousand_equal_parts_combine_to_the_whole() -> None:
    part = bytes(range(256))

    assert combine_all([(crc64(part), len(part))] * 10_000) == crc64(part * 10_000)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 5 << 30), st.integers(1, 5 << 30))
def test_lengths_beyond_memory_combine_in_any_grouping(first: int, second: int, length: int, more: int) -> None:
    """(a+b)+c equals a+(b+c): the only check there can be for pieces of gibibytes."""
    third = first ^ second

    left = combine(combine(first, second, length), third, more)
    right = combine(first, combine(second, third, more), length + more)

    assert left == right


def test_the_order_of_pieces_matters() -> None:
    one, two = b"first", b"other"

    assert combine(crc64(one), crc64(two), 5) != combine(crc64(two), crc64(one), 5)


def test_nothing_has_crc_0() -> None:
    assert combine_all([]) == crc64(b"") == 0


def test_parts_of_ever_other_lengths_combine_without_holding_up_the_loop() -> None:
    """One product a part, whatever its length: 10,000 distinct lengths stay well under a second of CPU."""
    before = time.process_time()

    combine_all((number, 4 * 1024 * 1024 + 7919 * number) for number in range(1000))

    assert time.process_time() - before < 0.5

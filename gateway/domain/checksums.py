"""CRC-64/XZ, which COS returns for every part and object, and the combination of two of them.

Source: COS documentation 436/7745 and 436/7750 (``x-cos-hash-crc64ecma``); poly 0x42F0E1EBA9EA3693 reflected,
init and xorout all ones.
"""

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Final

import fastcrc

_POLY: Final = 0xC96C5795D7870F42
_ONE: Final = 1 << 63
"""A CRC is a polynomial over GF(2) whose highest bit is the coefficient of x**0."""


def crc64(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC-64/XZ of *data* that follows bytes whose CRC is *before* (0: nothing came before)."""
    return fastcrc.crc64.xz(bytes(data) if isinstance(data, memoryview) else data, before)


def _times(first: int, second: int) -> int:
    """The product of two polynomials modulo that of CRC-64."""
    product, bit = 0, _ONE
    while first:
        if first & bit:
            product ^= second
            first ^= bit
        bit >>= 1
        second = second >> 1 ^ _POLY if second & 1 else second >> 1
    return product


@cache
def _power(position: int, digit: int) -> int:
    """x ** (8 * digit * 256**position): what as many zero bytes do to a CRC."""
    if digit == 0:
        return _ONE
    if digit == 1:
        return _times(_power(position - 1, 128), _power(position - 1, 128)) if position else _ONE >> 8
    half = _power(position, digit // 2)
    return _times(_times(half, half), _power(position, digit % 2))


@lru_cache(maxsize=64)
def _shift(length: int) -> tuple[tuple[int, ...], ...]:
    """What *length* zero bytes make of each half-byte of a CRC, lowest first: parts mostly share one length."""
    row = _ONE
    for position, digit in enumerate(length.to_bytes(8, "little")):
        if digit:
            row = _times(_power(position, digit), row)
    rows = [row]
    for _ in range(63):
        rows.append(rows[-1] >> 1 ^ _POLY if rows[-1] & 1 else rows[-1] >> 1)
    tables = []
    while rows:
        one, two, four, eight = (rows.pop() for _ in range(4))
        table = [0, one, two, two ^ one]
        table += [four ^ entry for entry in table]
        tables.append((*table, *(eight ^ entry for entry in table)))
    return tuple(tables)


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-64 of two runs of bytes end to end, from theirs and the second's length in bytes."""
    for table in _shift(second_length):
        second ^= table[first & 15]
        first >>= 4
    return second


def combine_all(pieces: Iterable[tuple[int, int]]) -> int:
    """The CRC-64 of many runs end to end; each piece is ``(crc64, length in bytes)``. Nothing gives 0."""
    total = 0
    for crc, length in pieces:
        total = combine(total, crc, length)
    return total

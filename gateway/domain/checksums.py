"""CRC-64/XZ, which COS returns for every part and object, and the combination of two of them.

Source: COS documentation 436/7745 and 436/7750 (``x-cos-hash-crc64ecma``); poly 0x42F0E1EBA9EA3693 reflected,
init and xorout all ones.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import fastcrc

_POLY: Final = 0xC96C5795D7870F42
_Matrix = tuple[int, ...]


def crc64(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC-64/XZ of *data* that follows bytes whose CRC is *before* (0: nothing came before)."""
    return fastcrc.crc64.xz(bytes(data) if isinstance(data, memoryview) else data, before)


def _times(matrix: _Matrix, vector: int) -> int:
    total = 0
    for row in matrix:
        if not vector:
            break
        if vector & 1:
            total ^= row
        vector >>= 1
    return total


def _squared(matrix: _Matrix) -> _Matrix:
    return tuple(_times(matrix, row) for row in matrix)


@lru_cache(maxsize=64)
def _zero_bytes(power: int) -> _Matrix:
    """The operator that feeds 2**power zero bytes to a CRC register."""
    if power == 0:
        one_bit: _Matrix = (_POLY, *(1 << n for n in range(63)))
        return _squared(_squared(_squared(one_bit)))
    return _squared(_zero_bytes(power - 1))


@lru_cache(maxsize=256)
def _shift(length: int) -> _Matrix:
    """The operator that feeds *length* zero bytes: parts mostly share one length, so one product serves them all."""
    columns: _Matrix = tuple(1 << n for n in range(64))
    power = 0
    while length:
        if length & 1:
            columns = tuple(_times(_zero_bytes(power), column) for column in columns)
        length >>= 1
        power += 1
    return columns


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-64 of two runs of bytes end to end, from theirs and the second's length in bytes."""
    return _times(_shift(second_length), first) ^ second if second_length else first


def combine_all(pieces: Iterable[tuple[int, int]]) -> int:
    """The CRC-64 of many runs end to end; each piece is ``(crc64, length in bytes)``. Nothing gives 0."""
    total = 0
    for crc, length in pieces:
        total = combine(total, crc, length)
    return total

import hashlib
import os
import random
from pathlib import Path

import pytest

from gateway.commands.local_file import FileChanged, LocalFile

MIB = 1 << 20


def _written(path: Path, size: int) -> bytes:
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 9 * MIB + 1])
async def test_the_parts_are_the_file_and_so_are_their_digests(tmp_path: Path, size: int) -> None:
    data = _written(tmp_path / "a", size)
    file = LocalFile(tmp_path / "a")
    read: list[int] = []

    digests = await file.digests(read.append)
    parts = [
        b"".join([piece async for piece in file.chunks(number, lambda _: None)])
        for number in range(1, file.part_count + 1)
    ]
    file.close()

    assert b"".join(parts) == data
    assert digests == [hashlib.md5(part, usedforsecurity=False).digest() for part in parts]
    assert [len(part) for part in parts] == [file.length_of(number) for number in range(1, file.part_count + 1)]
    assert (read or [0])[-1] == size


async def test_a_file_that_shrinks_or_is_written_to_is_noticed(tmp_path: Path) -> None:
    _written(tmp_path / "a", 3 * MIB)
    file = LocalFile(tmp_path / "a")
    file.require_unchanged()

    os.truncate(tmp_path / "a", MIB)

    with pytest.raises(FileChanged):
        file.require_unchanged()
    with pytest.raises(FileChanged):
        [piece async for piece in file.chunks(1, lambda _: None)]
    file.close()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is no file"):
        LocalFile(tmp_path)
    with pytest.raises(OSError, match="does not exist"):
        LocalFile(tmp_path / "nope")

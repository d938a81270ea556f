"""Files under the local COS's data folder: bodies on their way in, and where each key's bytes go.

Nothing is seen by readers before it is whole: bodies go to a file of their own, which is then renamed.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gateway.domain.checksums import crc64

_COPY_BYTES: Final = 1 << 20
_MAX_NAME_BYTES: Final = 200
_numbers = itertools.count()


class IncomingFile:
    """One body on its way in; leaving the ``with`` block drops it unless it was moved away.

    ``size``, ``crc64`` and ``md5`` describe the bytes written so far.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{os.getpid()}-{next(_numbers)}"
        self.size = 0
        self.crc64 = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._file = self.path.open("xb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        written = 0
        while written < len(chunk):
            written += self._file.write(memoryview(chunk)[written:])
        self._md5.update(chunk)
        self.crc64 = crc64(chunk, self.crc64)
        self.size += len(chunk)

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    def move_to(self, target: Path) -> None:
        """Put the body at *target*, over what was there."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file.close()
        self.path.replace(target)


def fresh_folder(folder: Path) -> Path:
    """*folder*, empty: what a stopped server left half done is of no use."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def append_files(target: Path, position: int, sources: Sequence[Path]) -> None:
    """Write *sources* end to end into *target* from byte *position* on; what stood there is overwritten."""
    with target.open("r+b" if target.exists() else "xb") as out:
        out.truncate(position)
        out.seek(position)
        for source in sources:
            with source.open("rb") as piece:
                shutil.copyfileobj(piece, out, _COPY_BYTES)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the JSON document at *path* in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{next(_numbers)}")
    fresh.write_text(json.dumps(document))
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def hashed(key: str) -> str:
    """A file name for any key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def file_for(folder: Path, key: str) -> str:
    """The path, below *folder*, of a file that does not exist yet and will hold *key*.

    It is the key itself where the file system can hold it and nothing of another key is in the way (``a`` and ``a/b``,
    or ``A`` and ``a`` where case does not count); else a hash in ``.keys``.
    """
    if _is_plain(key):
        target = folder / key
        parents = itertools.takewhile(lambda parent: parent != folder, target.parents)
        if not target.exists() and all(parent.is_dir() or not parent.exists() for parent in parents):
            return key
    return f".keys/{hashed(key)}"


def remove_file(folder: Path, name: str) -> None:
    """Remove the file *name* below *folder*, and the folders that are empty without it."""
    target = folder / name
    target.unlink(missing_ok=True)
    for parent in itertools.takewhile(lambda parent: parent != folder, target.parents):
        try:
            parent.rmdir()
        except OSError:
            return


def _is_plain(key: str) -> bool:
    segments = key.split("/")
    return segments[0] != ".keys" and key.isprintable() and all(_is_plain_name(segment) for segment in segments)


def _is_plain_name(segment: str) -> bool:
    if segment in {"", ".", ".."} or "\\" in segment:
        return False
    return len(segment.encode("utf-8", "surrogateescape")) <= _MAX_NAME_BYTES

"""The objects of the local COS: a file each, and beside the tree of files a small document that says what it is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from gateway.dev.cos_files import (
    IncomingFile,
    append_files,
    file_for,
    fresh_folder,
    hashed,
    read_json,
    remove_file,
    write_json,
)
from gateway.domain.checksums import combine


@dataclass(frozen=True, slots=True)
class LocalObject:
    """One object. ``file`` is its path below the bucket's folder; ``etag`` is without quotes; times in Unix seconds.

    ``headers`` are what it was stored with, under lower-case names: content headers, ``x-cos-meta-*``, ACL, class.
    """

    key: str
    file: str
    size: int
    etag: str
    crc64: int
    last_modified: float
    headers: Mapping[str, str] = field(default_factory=dict)
    appendable: bool = False


class ObjectDisk:
    """Every object below ``<root>/<bucket>/<key>``; ``<root>/.meta`` holds what else there is to know.

    All of it is read at start and kept in memory but for the bytes. Calls are quick and run in the event loop; one
    process works on a folder.
    """

    def __init__(self, root: Path, buckets: Iterable[str]) -> None:
        self._root: Final = root
        self.incoming_folder: Final = fresh_folder(root / ".incoming")
        self._objects: dict[str, dict[str, LocalObject]] = {bucket: self._load(bucket) for bucket in buckets}

    def find(self, bucket: str, key: str) -> LocalObject | None:
        return self._objects[bucket].get(key)

    def all(self, bucket: str) -> list[LocalObject]:
        """Every object of *bucket*, sorted by key."""
        objects = self._objects[bucket]
        return [objects[key] for key in sorted(objects)]

    def path(self, bucket: str, found: LocalObject) -> Path:
        return self._root / bucket / found.file

    def receive(self) -> IncomingFile:
        """A place for a body on its way in."""
        return IncomingFile(self.incoming_folder)

    def put(self, bucket: str, body: IncomingFile, described: LocalObject) -> LocalObject:
        """Store *body* as *described*, over the object that stood at its key."""
        before = self.find(bucket, described.key)
        folder = self._root / bucket
        stored = replace(described, file=before.file if before else file_for(folder, described.key))
        body.move_to(folder / stored.file)
        return self._record(bucket, stored)

    def append(self, bucket: str, found: LocalObject, body: IncomingFile, now: float) -> LocalObject:
        """Lengthen *found* by *body*. Its ETag is opaque, as COS's is."""
        append_files(self.path(bucket, found), found.size, [body.path])
        grown = replace(
            found,
            size=found.size + body.size,
            crc64=combine(found.crc64, body.crc64, body.size),
            etag=hashed(found.etag + body.md5.hex())[:32],
            last_modified=now,
        )
        return self._record(bucket, grown)

    def delete(self, bucket: str, key: str) -> None:
        found = self._objects[bucket].pop(key, None)
        if found is not None:
            self._document(bucket, key).unlink(missing_ok=True)
            remove_file(self._root / bucket, found.file)

    def _record(self, bucket: str, stored: LocalObject) -> LocalObject:
        write_json(self._document(bucket, stored.key), asdict(stored))
        self._objects[bucket][stored.key] = stored
        return stored

    def _document(self, bucket: str, key: str) -> Path:
        return self._root / ".meta" / bucket / f"{hashed(key)}.json"

    def _load(self, bucket: str) -> dict[str, LocalObject]:
        (self._root / bucket).mkdir(parents=True, exist_ok=True)
        return {found.key: found for found in self._documents(bucket) if self._is_whole(bucket, found)}

    def _documents(self, bucket: str) -> Iterator[LocalObject]:
        for path in (self._root / ".meta" / bucket).glob("[!.]*.json"):
            yield LocalObject(**read_json(path))

    def _is_whole(self, bucket: str, found: LocalObject) -> bool:
        """Whether the file is there: someone may have removed it by hand. An append cut short left too many bytes."""
        path = self.path(bucket, found)
        if not path.is_file():
            return False
        size = path.stat().st_size
        return size >= found.size if found.appendable else size == found.size

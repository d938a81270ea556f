"""The open multipart uploads of the local COS and their parts, as files that survive a restart."""

import asyncio
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.dev.cos_answers import Refusal
from gateway.dev.cos_files import IncomingFile, append_files, read_json, write_json
from gateway.domain.checksums import crc64

_READ_BYTES: Final = 1024 * 1024
_UPLOAD_FILE: Final = "upload.json"
"""A folder without it is no upload."""


@dataclass(frozen=True, slots=True)
class LocalPart:
    """One stored part; ``etag`` is the MD5 in hex, without quotes; times in Unix seconds."""

    number: int
    size: int
    etag: str
    crc64: int
    last_modified: float
    path: Path


@dataclass(slots=True)
class LocalUpload:
    """An open upload. ``open`` turns false when it is completed or aborted: parts in flight then fail."""

    bucket: str
    key: str
    upload_id: str
    initiated: float
    headers: Mapping[str, str]
    folder: Path
    parts: dict[int, LocalPart] = field(default_factory=dict)
    open: bool = True
    finishing: asyncio.Lock = field(default_factory=asyncio.Lock)


class UploadDisk:
    """Every open upload, a folder each: ``upload.json``, and parts whose file names say all about them."""

    def __init__(self, root: Path, buckets: Iterable[str]) -> None:
        self._root: Final = root / ".uploads"
        self._uploads = {bucket: self._load(bucket) for bucket in buckets}

    def initiate(self, bucket: str, key: str, headers: Mapping[str, str], now: float) -> LocalUpload:
        upload_id = f"{now:010.0f}{secrets.token_hex(32)}"
        upload = LocalUpload(bucket, key, upload_id, now, headers, self._root / bucket / upload_id)
        write_json(upload.folder / _UPLOAD_FILE, {"key": key, "initiated": now, "headers": dict(headers)})
        self._uploads[bucket][upload_id] = upload
        return upload

    def find(self, bucket: str, key: str, upload_id: str) -> LocalUpload:
        """The open upload of *key* with this id.

        Raises:
            Refusal: NoSuchUpload.
        """
        upload = self._uploads[bucket].get(upload_id)
        if upload is None or upload.key != key:
            raise no_such_upload()
        return upload

    def all(self, bucket: str) -> list[LocalUpload]:
        """Every open upload of *bucket*, sorted by key, then by upload id."""
        return sorted(self._uploads[bucket].values(), key=lambda upload: (upload.key, upload.upload_id))

    def put_part(self, upload: LocalUpload, number: int, body: IncomingFile, now: float) -> LocalPart:
        """Store *body* as part *number*; the one that finishes last replaces the others whole.

        Raises:
            Refusal: NoSuchUpload: the upload ended while the body came; UploadConflict: it is being merged.
        """
        if not upload.open:
            raise no_such_upload()
        if upload.finishing.locked():
            raise Refusal("UploadConflict", "The upload is being completed.")
        etag = body.md5.hex()
        path = upload.folder / f"{number:05d}-{etag}-{body.crc64:016x}"
        part = LocalPart(number, body.size, etag, body.crc64, now, path)
        before = upload.parts.get(number)
        body.move_to(path)
        upload.parts[number] = part
        if before is not None and before.path != path:
            before.path.unlink(missing_ok=True)
        return part

    def close(self, upload: LocalUpload) -> None:
        """Forget *upload* and drop its parts; a server killed meanwhile has forgotten it, or not, but no part alone."""
        upload.open = False
        self._uploads[upload.bucket].pop(upload.upload_id, None)
        (upload.folder / _UPLOAD_FILE).unlink(missing_ok=True)
        shutil.rmtree(upload.folder, ignore_errors=True)

    def _load(self, bucket: str) -> dict[str, LocalUpload]:
        found = {}
        for folder in (self._root / bucket).glob("*"):
            if (folder / _UPLOAD_FILE).exists():
                found[folder.name] = _read_upload(bucket, folder)
            else:  # what is left of one that had ended
                shutil.rmtree(folder)
        return found


def crc64_of(parts: Sequence[LocalPart]) -> int:
    """The CRC-64 of *parts* end to end, as they are now: a bit that flipped on the disk is not covered up. Blocks."""
    crc = 0
    for part in parts:
        with part.path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                crc = crc64(piece, crc)
    return crc


def merge(parts: Sequence[LocalPart], target: Path) -> None:
    """Write *parts* end to end into *target*. Blocks: run it in a thread."""
    append_files(target, 0, [part.path for part in parts])


def no_such_upload() -> Refusal:
    return Refusal("NoSuchUpload", "The specified multipart upload does not exist.")


def _read_upload(bucket: str, folder: Path) -> LocalUpload:
    document = read_json(folder / _UPLOAD_FILE)
    upload = LocalUpload(
        bucket, document["key"], folder.name, document["initiated"], document["headers"], folder=folder
    )
    # A server killed between the rename and the unlink leaves two files of one number: the younger is the part.
    for path in sorted(folder.glob("[0-9]*-*-*"), key=lambda path: path.stat().st_mtime_ns):
        number, etag, crc = path.name.split("-")
        stat = path.stat()
        upload.parts[int(number)] = LocalPart(int(number), stat.st_size, etag, int(crc, 16), stat.st_mtime, path)
    return upload

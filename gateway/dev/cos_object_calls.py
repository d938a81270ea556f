"""Operations on whole objects: put, append, head, get, delete, and the bucket listing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from gateway.dev.cos_answers import Answer, Refusal, iso_time, tag, text, xml_answer
from gateway.dev.cos_calls import Call
from gateway.dev.cos_files import IncomingFile
from gateway.dev.cos_metadata import (
    MAX_PUT_BYTES,
    check_traffic_limit,
    checksum_headers,
    content_md5,
    describe,
    forbids_overwrite,
    quoted,
    read_metadata,
    storage_class,
)
from gateway.dev.cos_objects import LocalObject, ObjectDisk
from gateway.dev.cos_pages import EncodedText, Entry, owner, page_limit, take_page
from gateway.dev.cos_pictures import process, read_rules

_READ_BYTES: Final = 1 << 20
_OVERRIDES: Final = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}


class ObjectCalls:
    """Answers what is asked about objects from the files of *disk*."""

    def __init__(self, disk: ObjectDisk) -> None:
        self._disk = disk

    async def put(self, call: Call) -> Answer:
        """PUT Object, doc 7749."""
        headers = read_metadata(call.headers)
        check_traffic_limit({**call.query, **call.headers})
        rules = read_rules(call.headers)
        require_length(call, chunked=True)
        self._check_overwrite(call)
        with self._disk.receive() as body:
            await receive_body(call, body)
            self._check_overwrite(call)
            etag = body.md5.hex()
            stored = LocalObject(call.key, "", body.size, etag, body.crc64, call.now, headers)
            self._disk.put(call.bucket.name, body, stored)
        checksums = checksum_headers(etag, body.crc64)
        if not rules:
            return Answer(200, checksums)
        info, results = process(self._disk, call, rules, self._find(call))
        original = tag(
            "OriginalInfo", text("Key", call.key), text("Location", call.location), text("ETag", quoted(etag)), info
        )
        return xml_answer(tag("UploadResult", original, results), headers=checksums)

    async def append(self, call: Call) -> Answer:
        """APPEND Object, doc 7741: as the sample there, the ETag comes without quotes and no CRC is told."""
        headers = read_metadata(call.headers)
        check_traffic_limit({**call.query, **call.headers})
        position = call.query.get("position", "")
        if not position.isdecimal():
            raise Refusal("InvalidArgument", "The position is not a number.")
        require_length(call, chunked=False)
        self._appendable(call, int(position))
        with self._disk.receive() as body:
            await receive_body(call, body)
            found = self._appendable(call, int(position))
            if found is None:
                etag = body.md5.hex()
                fresh = LocalObject(call.key, "", body.size, etag, body.crc64, call.now, headers, appendable=True)
                stored = self._disk.put(call.bucket.name, body, fresh)
            else:
                stored = self._disk.append(call.bucket.name, found, body, call.now)
        return Answer(200, (("ETag", stored.etag), ("x-cos-next-append-position", str(stored.size))))

    async def head(self, call: Call) -> Answer:
        """HEAD Object, doc 7745."""
        found = self._find(call)
        return Answer(200, (*describe(found), ("Content-Length", str(found.size))))

    async def get(self, call: Call) -> Answer:
        """GET Object, doc 7753, whole or one Range."""
        found = self._find(call)
        overrides = {name: call.query[param] for param, name in _OVERRIDES.items() if param in call.query}
        headers = tuple({**dict(describe(found)), **overrides}.items())
        wanted = _range(call.headers.get("range", ""), found.size)
        first, last = wanted or (0, found.size - 1)
        ranged = (("Content-Range", f"bytes {first}-{last}/{found.size}"),) if wanted else ()
        length = last - first + 1
        body = _read_file(self._disk.path(call.bucket.name, found), first, length)
        return Answer(206 if wanted else 200, (*headers, *ranged, ("Content-Length", str(length))), body)

    async def delete(self, call: Call) -> Answer:
        """DELETE Object, doc 7743: also of what is not there."""
        self._disk.delete(call.bucket.name, call.key)
        return Answer(204)

    async def head_bucket(self, call: Call) -> Answer:
        return Answer(200, (("x-cos-bucket-region", call.bucket.region),))

    async def list_objects(self, call: Call) -> Answer:
        """GET Bucket (List Objects), doc 7734."""
        query = call.query
        shown = EncodedText(query)
        limit = page_limit(query, "max-keys")
        prefix, delimiter, marker = (query.get(name, "") for name in ("prefix", "delimiter", "marker"))
        entries = [Entry(found.key, "", found) for found in self._disk.all(call.bucket.name)]
        page = take_page(entries, prefix=prefix, delimiter=delimiter, after=(marker, None), limit=limit)
        rows = [
            text("Name", call.bucket.name),
            shown.kind(),
            shown.text("Prefix", prefix),
            shown.text("Marker", marker),
            text("MaxKeys", limit),
            shown.text("Delimiter", delimiter) if delimiter else "",
            text("IsTruncated", page.truncated),
            shown.text("NextMarker", page.last_key) if page.truncated else "",
            *(_contents(found, shown) for found in page.items),
            *(tag("CommonPrefixes", shown.text("Prefix", common)) for common in page.common_prefixes),
        ]
        return xml_answer(tag("ListBucketResult", *rows))

    def _find(self, call: Call) -> LocalObject:
        found = self._disk.find(call.bucket.name, call.key)
        if found is None:
            raise Refusal("NoSuchKey", "The specified key does not exist.")
        return found

    def _check_overwrite(self, call: Call) -> None:
        if forbids_overwrite(call.headers):
            refuse_overwrite(self._disk, call)

    def _appendable(self, call: Call, position: int) -> LocalObject | None:
        found = self._disk.find(call.bucket.name, call.key)
        if found is not None and not found.appendable:
            raise Refusal("ObjectNotAppendable", "The object is not appendable.")
        length = found.size if found else 0
        if position != length:
            raise Refusal("AppendPositionErr", f"The append position is {length}, not {position}.")
        if length + (call.content_length or 0) > MAX_PUT_BYTES:
            raise Refusal("EntityTooLarge", f"An appendable object has at most {MAX_PUT_BYTES} bytes.")
        return found


def refuse_overwrite(disk: ObjectDisk, call: Call) -> None:
    """Refuse *call* when an object stands at its key, as ``x-cos-forbid-overwrite: true`` asks.

    Raises:
        Refusal: FileAlreadyExists, 409.
    """
    if disk.find(call.bucket.name, call.key) is not None:
        raise Refusal("FileAlreadyExists", "The object exists and x-cos-forbid-overwrite is true.")


def require_length(call: Call, *, chunked: bool) -> None:
    """Refuse a body of no declared length, unless it is *chunked* and may be, and one longer than 5 GB.

    Raises:
        Refusal: MissingContentLength or EntityTooLarge.
    """
    if call.content_length is None and not (chunked and "transfer-encoding" in call.headers):
        raise Refusal("MissingContentLength", "You must provide the Content-Length HTTP header.")
    if (call.content_length or 0) > MAX_PUT_BYTES:
        raise Refusal("EntityTooLarge", f"Your proposed upload exceeds {MAX_PUT_BYTES} bytes.")


async def receive_body(call: Call, body: IncomingFile, still_wanted: Callable[[], None] = lambda: None) -> None:
    """Write the body of *call* into *body* and check it against Content-MD5.

    Args:
        still_wanted: raises once there is no use in receiving more.
    Raises:
        Refusal: InvalidDigest, BadDigest or EntityTooLarge.
    """
    expected = content_md5(call.headers)
    async for chunk in call.body:
        still_wanted()
        body.write(chunk)
        if body.size > MAX_PUT_BYTES:
            raise Refusal("EntityTooLarge", f"Your upload exceeds {MAX_PUT_BYTES} bytes.")
    if expected not in (None, body.md5):
        raise Refusal("BadDigest", "The Content-MD5 you specified did not match what was received.")


def _contents(found: LocalObject, shown: EncodedText) -> str:
    return tag(
        "Contents",
        shown.text("Key", found.key),
        text("LastModified", iso_time(found.last_modified)),
        text("ETag", quoted(found.etag)),
        text("Size", found.size),
        owner("Owner"),
        text("StorageClass", storage_class(found)),
    )


def _range(value: str, size: int) -> tuple[int, int] | None:
    """The first and last byte that a Range header asks for; None for the whole object, as for what is no byte range.

    Raises:
        Refusal: InvalidRange.
    """
    unit, _, wanted = value.partition("=")
    first, dash, last = wanted.strip().partition("-")
    if unit != "bytes" or not dash or not (first + last).isdecimal():
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise Refusal("InvalidRange", "The requested range cannot be satisfied.")
    return start, end


async def _read_file(path: Path, first: int, length: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(first)
        while length and (chunk := await asyncio.to_thread(file.read, min(length, _READ_BYTES))):
            length -= len(chunk)
            yield chunk

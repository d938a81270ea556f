"""Operations on multipart uploads: initiate, part, list, complete and abort."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree

from gateway.dev.cos_answers import DECLARATION, Answer, Refusal, iso_time, tag, text, utf8, xml_answer
from gateway.dev.cos_calls import Call
from gateway.dev.cos_metadata import (
    check_traffic_limit,
    checksum_headers,
    content_md5,
    forbids_overwrite,
    quoted,
    read_metadata,
    storage_class,
)
from gateway.dev.cos_object_calls import receive_body, refuse_overwrite, require_length
from gateway.dev.cos_objects import LocalObject, ObjectDisk
from gateway.dev.cos_pages import EncodedText, Entry, owner, page_limit, take_page
from gateway.dev.cos_pictures import process, read_rules
from gateway.dev.cos_uploads import LocalPart, LocalUpload, UploadDisk, crc64_of, merge, no_such_upload

MIN_PART_BYTES: Final = 1 << 20
MAX_PART_NUMBER: Final = 10_000
_MAX_LIST_BYTES: Final = 4 << 20
_NAMESPACE: Final = "http://www.qcloud.com/document/product/436/7751"
_SPACE_SECONDS: Final = 1.0


class UploadCalls:
    """Answers what is asked about multipart uploads; a completed one becomes an object of *objects*."""

    def __init__(self, uploads: UploadDisk, objects: ObjectDisk) -> None:
        self._uploads = uploads
        self._objects = objects

    async def initiate(self, call: Call) -> Answer:
        """Initiate Multipart Upload, doc 7746."""
        headers = read_metadata(call.headers)
        upload = self._uploads.initiate(call.bucket.name, call.key, headers, call.now)
        names = (text("Bucket", call.bucket.name), text("Key", call.key), text("UploadId", upload.upload_id))
        return xml_answer(tag("InitiateMultipartUploadResult", *names))

    async def put_part(self, call: Call) -> Answer:
        """Upload Part, doc 7750. The body needs a Content-Length here, as the page's samples have."""
        number = call.part_number
        if number is None or not 1 <= number <= MAX_PART_NUMBER or not call.upload_id:
            raise Refusal("InvalidArgument", f"partNumber is 1 to {MAX_PART_NUMBER}, with an uploadId.")
        check_traffic_limit({**call.query, **call.headers})
        require_length(call, chunked=False)
        upload = self._find(call)
        with self._objects.receive() as body:
            await receive_body(call, body, lambda: _require_open(upload))
            part = self._uploads.put_part(upload, number, body, call.now)
        return Answer(200, checksum_headers(part.etag, part.crc64))

    async def list_parts(self, call: Call) -> Answer:
        """List Parts, doc 7747."""
        if not call.upload_id:
            raise Refusal("ListPartUploadIdIsEmpty", "The uploadId is empty.")
        upload = self._find(call)
        shown = EncodedText(call.query)
        limit = page_limit(call.query, "max-parts")
        marker = call.query.get("part-number-marker") or "0"
        if not marker.isdecimal():
            raise Refusal("InvalidArgument", "part-number-marker is not a number.")
        later = sorted(number for number in upload.parts if number > int(marker))
        rows = [
            text("Bucket", call.bucket.name),
            shown.kind("Encoding-type"),
            shown.text("Key", upload.key),
            text("UploadId", upload.upload_id),
            owner("Initiator"),
            owner("Owner"),
            text("PartNumberMarker", marker),
            text("NextPartNumberMarker", later[limit - 1]) if len(later) > limit else "",
            text("MaxParts", limit),
            text("IsTruncated", len(later) > limit),
            text("StorageClass", storage_class(upload)),
            *(_part(upload.parts[number]) for number in later[:limit]),
        ]
        return xml_answer(tag("ListPartsResult", *rows))

    async def list_uploads(self, call: Call) -> Answer:
        """List Multipart Uploads, doc 7736: ``upload-id-marker`` counts only together with ``key-marker``."""
        query = call.query
        shown = EncodedText(query)
        limit = page_limit(query, "max-uploads")
        prefix, delimiter, key_marker = (query.get(name, "") for name in ("prefix", "delimiter", "key-marker"))
        id_marker = query.get("upload-id-marker", "") if key_marker else ""
        entries = [Entry(upload.key, upload.upload_id, upload) for upload in self._uploads.all(call.bucket.name)]
        page = take_page(
            entries, prefix=prefix, delimiter=delimiter, after=(key_marker, id_marker or None), limit=limit
        )
        rows = [
            text("Bucket", call.bucket.name),
            shown.kind("Encoding-Type"),
            shown.text("KeyMarker", key_marker),
            text("UploadIdMarker", id_marker),
            shown.text("NextKeyMarker", page.last_key) if page.truncated else "",
            text("NextUploadIdMarker", page.last_id) if page.truncated else "",
            text("MaxUploads", limit),
            text("IsTruncated", page.truncated),
            shown.text("Prefix", prefix),
            shown.text("Delimiter", delimiter) if delimiter else "",
            *(_upload(upload, shown) for upload in page.items),
            *(tag("CommonPrefixes", shown.text("Prefix", common)) for common in page.common_prefixes),
        ]
        return xml_answer(tag("ListMultipartUploadsResult", *rows))

    async def complete(self, call: Call) -> Answer:
        """Complete Multipart Upload, doc 7742.

        What is wrong with the list is said with a status of its own. Then 200 goes out at once and the merge begins;
        its result, or an error found by then, is the body, with spaces before it while the client waits.
        """
        upload = self._find(call)
        read_rules(call.headers)
        parts = _listed_parts(upload, await _read_list(call))
        self._check_overwrite(call, upload)
        try:
            crc64 = await asyncio.to_thread(crc64_of, parts)
        except FileNotFoundError:
            _require_open(upload)
            raise Refusal("InvalidPart", "A part was replaced meanwhile.") from None
        headers = (("Content-Type", "application/xml"), ("x-cos-hash-crc64ecma", str(crc64)))
        return Answer(200, headers, self._merged(call, upload, parts, crc64))

    async def abort(self, call: Call) -> Answer:
        """Abort Multipart Upload, doc 7740."""
        upload = self._find(call)
        upload.open = False
        async with upload.finishing:
            self._uploads.close(upload)
        return Answer(204)

    async def _merged(
        self, call: Call, upload: LocalUpload, parts: Sequence[LocalPart], crc64: int
    ) -> AsyncIterator[bytes]:
        """The XML declaration, first because the Python SDK fails on spaces before it; spaces; the result."""
        yield DECLARATION
        merging = asyncio.create_task(self._merge(call, upload, parts, crc64))
        while not (await asyncio.wait({merging}, timeout=_SPACE_SECONDS))[0]:
            yield b" "
        try:
            yield utf8(merging.result())
        except Refusal as refusal:
            yield utf8(tag("Error", text("Code", refusal.code), text("Message", refusal.message)))

    async def _merge(self, call: Call, upload: LocalUpload, parts: Sequence[LocalPart], crc64: int) -> str:
        async with upload.finishing:
            _require_open(upload)
            with self._objects.receive() as whole:
                try:
                    await asyncio.to_thread(merge, parts, whole.path)
                except FileNotFoundError:
                    raise Refusal("InvalidPart", "A part was replaced meanwhile.") from None
                _require_open(upload)
                self._check_overwrite(call, upload)
                etag = _opaque_etag(upload, parts)
                size = sum(part.size for part in parts)
                stored = LocalObject(upload.key, "", size, etag, crc64, call.now, upload.headers)
                stored = self._objects.put(upload.bucket, whole, stored)
            self._uploads.close(upload)
        made = await asyncio.to_thread(process, self._objects, call, read_rules(call.headers), stored)
        return tag(
            "CompleteMultipartUploadResult",
            text("Location", call.location),
            text("Bucket", call.bucket.name),
            text("Key", call.key),
            text("ETag", quoted(etag)),
            *made,
            namespace=_NAMESPACE,
        )

    def _find(self, call: Call) -> LocalUpload:
        return self._uploads.find(call.bucket.name, call.key, call.upload_id)

    def _check_overwrite(self, call: Call, upload: LocalUpload) -> None:
        if forbids_overwrite(call.headers) or forbids_overwrite(upload.headers):
            refuse_overwrite(self._objects, call)


def _require_open(upload: LocalUpload) -> None:
    if not upload.open:
        raise no_such_upload()


async def _read_list(call: Call) -> list[tuple[int, str]]:
    """The numbers and unquoted ETags that Complete's body lists, in its order."""
    expected = content_md5(call.headers)
    body = bytearray()
    async for chunk in call.body:
        body += chunk
        if len(body) > _MAX_LIST_BYTES:
            raise Refusal("XMLSizeLimit", f"The list of parts has more than {_MAX_LIST_BYTES} bytes.")
    if expected not in (None, hashlib.md5(body, usedforsecurity=False).digest()):
        raise Refusal("BadDigest", "The Content-MD5 you specified did not match what was received.")
    try:
        if b"<!DOCTYPE" in body:
            raise ValueError("a document type")
        rows = ElementTree.fromstring(bytes(body)).findall("{*}Part")  # noqa: S314 -- no DTD, so no entities
        listed = [(int(row.findtext("{*}PartNumber", "")), row.findtext("{*}ETag", "").strip('"')) for row in rows]
    except (ElementTree.ParseError, ValueError) as exc:
        raise Refusal("MalformedXML", "The list of parts is not the XML that it must be.") from exc
    if not listed:
        raise Refusal("MalformedXML", "The list of parts is empty.")
    return listed


def _listed_parts(upload: LocalUpload, listed: Sequence[tuple[int, str]]) -> list[LocalPart]:
    """The stored parts that *listed* names, by COS's rules for them."""
    numbers = [number for number, _ in listed]
    if any(after <= before for before, after in pairwise(numbers)):
        raise Refusal("InvalidPartOrder", "The list of parts was not in ascending order.")
    parts: list[LocalPart] = []
    for expected, (number, etag) in enumerate(listed, start=1):
        part = upload.parts.get(number)
        if number != expected or part is None or part.etag != etag:
            message = f"Part {number} is not part {expected}, was not uploaded, or has another ETag."
            raise Refusal("InvalidPart", message, details=[("PartNumber", str(number))])
        parts.append(part)
    for part in parts[:-1]:
        if part.size < MIN_PART_BYTES:
            raise Refusal("EntityTooSmall", f"Part {part.number} has {part.size} of at least {MIN_PART_BYTES} bytes.")
    return parts


def _opaque_etag(upload: LocalUpload, parts: Sequence[LocalPart]) -> str:
    """COS's has the same look as S3's and is another: it cannot be computed from the parts."""
    digest = hashlib.md5(upload.upload_id.encode(), usedforsecurity=False).hexdigest()
    return f"{digest}-{len(parts)}"


def _part(part: LocalPart) -> str:
    return tag(
        "Part",
        text("PartNumber", part.number),
        text("LastModified", iso_time(part.last_modified)),
        text("ETag", quoted(part.etag)),
        text("Size", part.size),
    )


def _upload(upload: LocalUpload, shown: EncodedText) -> str:
    return tag(
        "Upload",
        shown.text("Key", upload.key),
        text("UploadId", upload.upload_id),
        owner("Initiator"),
        owner("Owner"),
        text("StorageClass", storage_class(upload)),
        text("Initiated", iso_time(upload.initiated)),
    )

"""What COS's successes say, as values of the domain. Pure; whatever cannot be read is a StorageBadAnswer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from urllib.parse import unquote

from gateway.cos.wire_errors import CosRefusal, read_refusal, showable
from gateway.cos.wire_pictures import read_upload_result, upload_result_in
from gateway.cos.xml_tree import Unreadable, XmlElement, read_xml
from gateway.domain.errors import CosAnswer, StorageBadAnswer, StorageIntegrity
from gateway.domain.objects import (
    Appended,
    ETag,
    OpenUpload,
    PartsPage,
    Person,
    StoredObject,
    StoredPart,
    UploadId,
    UploadsPage,
)
from gateway.domain.parts import MAX_PART_BYTES, MAX_PART_COUNT

_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,128}"')
_MADE_OF_PARTS: Final = re.compile(r'.*-[0-9]{1,5}"')
_DECIMAL: Final = re.compile(r"\d{1,20}", re.ASCII)
_UPLOAD_ID: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_OBJECT_HEADERS: Final = re.compile(
    r"x-cos-.*|etag|expires|last-modified|cache-control|content-(disposition|encoding|language|length|type)"
)


@dataclass(frozen=True, slots=True)
class CosResponse:
    """An answer of COS, whole; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def request_id(self) -> str:
        """COS's id of the request, empty when it gave none."""
        return showable(self.headers.get("x-cos-request-id", ""))

    def refusal(self) -> CosRefusal | None:
        """COS's no, or None for a success."""
        if 200 <= self.status < 300:
            return None
        return read_refusal(self.status, self.headers, self.body)


def read_stored_object(response: CosResponse) -> StoredObject:
    """PUT Object's answer. The CRC-64 is always there."""
    return StoredObject(
        _acknowledged_etag(response),
        _crc64(response),
        response.headers.get("x-cos-version-id"),
        headers=_object_headers(response),
        processed=read_upload_result(response.body),
    )


def read_head(response: CosResponse) -> StoredObject:
    """HEAD Object's answer; an appendable object may have no CRC-64."""
    return StoredObject(
        ETag(response.headers.get("etag", "")),
        _crc64(response) if "x-cos-hash-crc64ecma" in response.headers else None,
        response.headers.get("x-cos-version-id"),
        size=_number(response, response.headers.get("content-length")),
        headers=_object_headers(response),
    )


def read_appended(response: CosResponse) -> Appended:
    """APPEND Object's answer; its ETag may lack quotes and its CRC-64 is not documented."""
    etag = response.headers.get("etag")
    return Appended(
        _number(response, response.headers.get("x-cos-next-append-position")),
        ETag(etag) if etag else None,
        _crc64(response) if "x-cos-hash-crc64ecma" in response.headers else None,
        headers=_object_headers(response),
    )


def read_stored_part(response: CosResponse, number: int, size: int) -> StoredPart:
    """Upload Part's answer. The CRC-64 is always there."""
    return StoredPart(number, size, _acknowledged_etag(response), _crc64(response))


def read_upload_id(response: CosResponse) -> UploadId:
    """Initiate's answer."""
    upload_id = _tree(response, "InitiateMultipartUploadResult").text_of("UploadId") or ""
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise _bad(response, "no upload id")
    return UploadId(upload_id)


def read_parts_page(response: CosResponse, *, after: int, limit: int) -> PartsPage:
    """List Parts' answer to a request for up to *limit* parts after number *after*.

    Numbers rise from page to page and end at 10,000, so whoever follows the markers comes to an end.
    """
    tree = _tree(response, "ListPartsResult")
    rows = list(tree.all("Part"))
    parts = tuple(
        StoredPart(
            _number(response, row.text_of("PartNumber")),
            _number(response, row.text_of("Size")),
            _etag(response, row.text_of("ETag")),
            None,
        )
        for row in rows
    )
    numbers = [after, *(part.number for part in parts)]
    if len(parts) > limit or not _rises(numbers) or numbers[-1] > max(after, MAX_PART_COUNT):
        raise _bad(response, "its parts are not those that were asked for")
    if any(part.size > MAX_PART_BYTES for part in parts):
        raise _bad(response, "a part is larger than parts can be")
    following = _number(response, tree.text_of("NextPartNumberMarker")) if _truncated(tree) else None
    if following is not None and (following != numbers[-1] or not parts):
        raise _bad(response, "the next page does not follow this one")
    return PartsPage(
        parts,
        following,
        tree.text_of("StorageClass") or "",
        _person(tree, "Initiator"),
        _person(tree, "Owner"),
        tuple(row.text_of("LastModified") or "" for row in rows),
    )


def read_uploads_page(response: CosResponse, *, after: tuple[str, str], limit: int, prefix: str = "") -> UploadsPage:
    """List Multipart Uploads' answer to a request for what follows *after* (key marker, upload id marker).

    It was to hold up to *limit* rows, all with *prefix*. Keys rise, as code points do and UTF-8's bytes; in which order
    COS has the uploads of one key is not relied upon.
    """
    tree = _tree(response, "ListMultipartUploadsResult")
    encoded = tree.text_of("EncodingType", "Encoding-Type", "Encoding-type") == "url"
    uploads = tuple(
        OpenUpload(
            _decoded(response, row.text_of("Key"), encoded),
            UploadId(row.text_of("UploadId", "UploadID") or ""),
            row.text_of("StorageClass") or "",
            _person(row, "Initiator"),
            _person(row, "Owner"),
            row.text_of("Initiated") or "",
        )
        for row in tree.all("Upload")
    )
    prefixes = tuple(_decoded(response, row.text_of("Prefix"), encoded) for row in tree.all("CommonPrefixes"))
    keys = [after[0], *(upload.key for upload in uploads)]
    rows = [after, *((upload.key, upload.upload_id) for upload in uploads)]
    if len(uploads) + len(prefixes) > limit or keys != sorted(keys) or len(set(rows)) < len(rows):
        raise _bad(response, "its uploads are not those that were asked for")
    if not all(upload.key.startswith(prefix) for upload in uploads):
        raise _bad(response, "an upload lies outside of the prefix that was asked for")
    if not _truncated(tree):
        return UploadsPage(uploads, prefixes, None, None)
    key_marker = _decoded(response, tree.text_of("NextKeyMarker"), encoded)
    upload_id_marker = tree.text_of("NextUploadIdMarker", "NextUploadIDMarker") or ""
    if not (uploads or prefixes) or key_marker < keys[-1] or (key_marker, upload_id_marker) <= after:
        raise _bad(response, "the next page does not follow this one")
    return UploadsPage(uploads, prefixes, key_marker, upload_id_marker)


def read_completed(response: CosResponse) -> StoredObject:
    """Complete's answer: COS says 200 before it merges, so only the ETag in the body is a yes (doc 7742).

    Raises:
        GatewayError: what the ``<Error>`` in the body stands for.
        StorageBadAnswer: neither.
    """
    tree = _tree(response, "CompleteMultipartUploadResult", "Error")
    if tree.name == "Error":
        raise read_refusal(response.status, response.headers, response.body).error()
    return StoredObject(
        _etag(response, tree.text_of("ETag")),
        _crc64(response) if "x-cos-hash-crc64ecma" in response.headers else None,
        response.headers.get("x-cos-version-id"),
        headers=_object_headers(response),
        processed=upload_result_in(tree),
    )


def _tree(response: CosResponse, *names: str) -> XmlElement:
    try:
        tree = read_xml(response.body)
    except Unreadable as exc:
        raise _bad(response, str(exc)) from exc
    if tree.name not in names:
        raise _bad(response, f"no {names[0]}")
    return tree


def _bad(response: CosResponse, what: str) -> StorageBadAnswer:
    return StorageBadAnswer(f"COS's answer: {what}", cos=_cos(response))


def _cos(response: CosResponse) -> CosAnswer:
    return CosAnswer(response.status, "", response.request_id)


def _etag(response: CosResponse, text: str | None) -> ETag:
    if text is None or not _ETAG.fullmatch(text):
        raise _bad(response, "no ETag in quotes")
    return ETag(text)


def _acknowledged_etag(response: CosResponse) -> ETag:
    """The ETag of bytes just sent; without one, or with that of an object of several parts, COS has not said that it
    keeps them."""
    etag = response.headers.get("etag", "")
    if not _ETAG.fullmatch(etag) or _MADE_OF_PARTS.fullmatch(etag):
        raise StorageIntegrity("COS acknowledged the bytes without an ETag of theirs", cos=_cos(response))
    return ETag(etag)


def _crc64(response: CosResponse) -> int:
    crc64 = _number(response, response.headers.get("x-cos-hash-crc64ecma"))
    if crc64 >= 2**64:
        raise _bad(response, "a CRC-64 beyond 64 bits")
    return crc64


def _number(response: CosResponse, text: str | None) -> int:
    if text is None or not _DECIMAL.fullmatch(text):
        raise _bad(response, "a number is missing")
    return int(text)


def _rises(numbers: Sequence[int]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


def _truncated(tree: XmlElement) -> bool:
    return tree.text_of("IsTruncated") == "true"


def _person(tree: XmlElement, name: str) -> Person:
    found = tree.first(name)
    if found is None:
        return Person("", "")
    return Person(found.text_of("ID") or "", found.text_of("DisplayName") or "")


def _decoded(response: CosResponse, text: str | None, encoded: bool) -> str:
    """*text* as it was before ``encoding-type=url``."""
    if text is None:
        raise _bad(response, "a key or prefix is missing")
    try:
        return unquote(text, errors="strict") if encoded else text
    except UnicodeDecodeError as exc:
        raise _bad(response, "a key is not UTF-8") from exc


def _object_headers(response: CosResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if _OBJECT_HEADERS.fullmatch(name)}

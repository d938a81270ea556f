"""The listings of the COS door: open uploads, and the parts of one."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from gateway.cos.signing import encode
from gateway.domain.objects import OpenUpload, Person, UploadId
from gateway.transfer.uploads import MAX_LIST, Uploads, UploadsQuery
from gateway.web.cos_answers import CosAnswer, tag, text, xml_answer
from gateway.web.cos_call import Admitted, Handler, Operation
from gateway.web.cos_problems import CosRefusal
from gateway.web.request_reading import NO_XML

_DIGITS_MOST: Final = 6


class ListCalls:
    """List Multipart Uploads and List Parts, of the caller's own."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    def handlers(self) -> Mapping[Operation, Handler]:
        """Who answers which operation."""
        return {Operation.LIST_UPLOADS: self.list_uploads, Operation.LIST_PARTS: self.list_parts}

    async def list_uploads(self, asked: Admitted) -> CosAnswer:
        """List Multipart Uploads, doc 7736: ``upload-id-marker`` counts only together with ``key-marker``."""
        query = asked.call.query
        shown = _Shown(query)
        key_marker = query.get("key-marker", "")
        wanted = UploadsQuery(
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            key_marker=key_marker,
            upload_id_marker=query.get("upload-id-marker", "") if key_marker else "",
            limit=_number(query, "max-uploads", MAX_LIST, least=1, most=MAX_LIST),
        )
        if any(map(NO_XML.search, (wanted.prefix, wanted.delimiter, wanted.key_marker, wanted.upload_id_marker))):
            raise CosRefusal("InvalidArgument", "A prefix, delimiter or marker has characters that no answer can tell.")
        page = await self._uploads.list(asked.caller, asked.place, wanted)
        truncated = page.next_key_marker is not None
        rows = [
            text("Bucket", asked.place.bucket.name),
            shown.kind("Encoding-Type"),
            shown.text("KeyMarker", wanted.key_marker),
            text("UploadIdMarker", wanted.upload_id_marker),
            shown.text("NextKeyMarker", page.next_key_marker or "") if truncated else "",
            text("NextUploadIdMarker", page.next_upload_id_marker or "") if truncated else "",
            text("MaxUploads", wanted.limit),
            text("IsTruncated", "true" if truncated else "false"),
            shown.text("Prefix", wanted.prefix),
            shown.text("Delimiter", wanted.delimiter) if wanted.delimiter else "",
            *(_upload(upload, shown) for upload in page.uploads),
            *(tag("CommonPrefixes", shown.text("Prefix", common)) for common in page.common_prefixes),
        ]
        return xml_answer(tag("ListMultipartUploadsResult", *rows))

    async def list_parts(self, asked: Admitted) -> CosAnswer:
        """List Parts, doc 7747."""
        query = asked.call.query
        upload_id = UploadId(query.get("uploadId", ""))
        if not upload_id:
            raise CosRefusal("ListPartUploadIdIsEmpty", "The uploadId is empty.")
        shown = _Shown(query)
        limit = _number(query, "max-parts", MAX_LIST, least=1, most=MAX_LIST)
        marker = _number(query, "part-number-marker", 0, least=0, most=10**_DIGITS_MOST)
        page = await self._uploads.parts(asked.caller, asked.place, asked.key, upload_id, marker=marker, limit=limit)
        parts = zip(page.parts, page.last_modified, strict=True)
        rows = [
            text("Bucket", asked.place.bucket.name),
            shown.kind("Encoding-type"),
            shown.text("Key", asked.key),
            text("UploadId", upload_id),
            _person("Initiator", page.initiator),
            _person("Owner", page.owner),
            text("PartNumberMarker", marker),
            text("NextPartNumberMarker", page.next_marker) if page.next_marker is not None else "",
            text("MaxParts", limit),
            text("IsTruncated", "true" if page.next_marker is not None else "false"),
            text("StorageClass", page.storage_class),
            *(
                tag(
                    "Part",
                    text("PartNumber", part.number),
                    text("LastModified", last_modified),
                    text("ETag", part.etag),
                    text("Size", part.size),
                )
                for part, last_modified in parts
            ),
        ]
        return xml_answer(tag("ListPartsResult", *rows))


class _Shown:
    """Writes keys into XML, percent-encoded when the query says ``encoding-type=url``."""

    def __init__(self, query: Mapping[str, str]) -> None:
        wanted = query.get("encoding-type", "")
        if wanted not in ("", "url"):
            raise CosRefusal("InvalidArgument", "encoding-type can only be url.")
        self._encoded = wanted == "url"

    def text(self, name: str, value: str) -> str:
        return text(name, encode(value) if self._encoded else value)

    def kind(self, name: str) -> str:
        return text(name, "url") if self._encoded else ""


def _number(query: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    value = query.get(name) or str(default)
    if not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS_MOST) or not least <= int(value) <= most:
        raise CosRefusal("InvalidArgument", f"{name} is {least} to {most}.")
    return int(value)


def _upload(upload: OpenUpload, shown: _Shown) -> str:
    return tag(
        "Upload",
        shown.text("Key", upload.key),
        text("UploadId", upload.upload_id),
        _person("Initiator", upload.initiator),
        _person("Owner", upload.owner),
        text("StorageClass", upload.storage_class),
        text("Initiated", upload.initiated),
    )


@lru_cache(maxsize=64)
def _person(name: str, person: Person) -> str:
    return tag(name, text("ID", person.id), text("DisplayName", person.display_name))

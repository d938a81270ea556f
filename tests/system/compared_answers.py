"""What two programs were told, without what differs from one run to the next."""

import re
from typing import Any

READ_HEADERS = {
    *("cache-control", "content-disposition", "content-encoding", "content-language", "content-length", "content-type"),
    *("etag", "expires", "location", "x-cos-hash-crc64ecma", "x-cos-next-append-position", "x-cos-object-type"),
    *("x-cos-storage-class", "x-cos-version-id"),
}
VOLATILE = {
    *("UploadId", "Initiated", "LastModified", "RequestId", "TraceId", "Resource", "Message", "ServerTime", "UploadID"),
    *("StringToSign", "FormatString", "NextUploadIdMarker"),
}
MERGED = re.compile(r'"[0-9a-f]{32}-(\d+)"')


def plain(value: Any) -> Any:
    """*value* without what differs from one run to the next."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in VOLATILE}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return MERGED.sub(r"merged-\1", value) if isinstance(value, str) else value


def shown_headers(headers: Any) -> dict[str, str]:
    """The headers that programs read, in order of their names; how long a document is depends on the ids in it."""
    found = {name.lower(): plain(headers[name]) for name in sorted(headers) if name.lower() in READ_HEADERS}
    if found.get("content-type") == "application/xml":
        found.pop("content-length", None)
    return dict(sorted(found.items()))


def without_place(value: Any, folder: str) -> Any:
    """*value* without where the program ran: its *folder* of keys, the address, and what is of each single answer."""
    if isinstance(value, dict):
        return {
            name: without_place(inner, folder)
            for name, inner in value.items()
            if name.lower() not in ("x-cos-request-id", "last-modified", "transfer-encoding", "accept-ranges")
            and not (name == "Content-Length" and "Bucket" in value)
        }
    if isinstance(value, list):
        return [without_place(inner, folder) for inner in value]
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", value.replace(folder, "FOLDER")) if isinstance(value, str) else value

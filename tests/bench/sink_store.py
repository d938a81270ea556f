"""What the sink remembers and answers: open uploads, sizes and CRCs of parts and objects, and small ``.info`` bodies.

One dialect serves COS and S3: their requests for an upload differ only in how the bucket is named, and here a key is
whatever path the request names.
"""

import json
import re
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from itertools import count
from typing import Self
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from gateway.domain.checksums import combine_all

Answer = bytes
_XML = "<?xml version='1.0' encoding='utf-8' ?>"
_OWNER = "<{0}><ID>bench</ID><DisplayName>bench</DisplayName></{0}>"
_PART_NUMBER = re.compile(rb"<PartNumber>(\d+)</PartNumber>")


@dataclass(slots=True)
class Received:
    """One request: its head, its body's size in bytes and CRC-64 so far, and the body itself where that is needed."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    kept: bytearray | None
    size: int = 0
    crc64: int = 0

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """Read a request head that ends before its blank line. Header names come out in lower case."""
        request_line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ")
        path, _, query_text = target.partition("?")
        query = dict(parse_qsl(query_text, keep_blank_values=True)) if query_text else {}
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        key = unquote(path)
        keeps = method == "POST" or key.endswith(".info")
        return cls(method, key, query, headers, bytearray() if keeps else None)

    @property
    def is_part(self) -> bool:
        """Whether this is an Upload Part."""
        return "partNumber" in self.query

    @property
    def stored_size(self) -> int:
        """Bytes of content: S3's signed chunks wrap it in framing of their own."""
        return int(self.headers.get("x-amz-decoded-content-length", self.size))


@dataclass(frozen=True, slots=True)
class Stored:
    """A part or an object: size in bytes, CRC-64, and for ``.info`` objects the body and its metadata headers.

    ``part_count`` is how many parts an object was made of, 0 when it came whole.
    """

    size: int
    crc64: int
    body: bytes | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    part_count: int = 0

    @property
    def etag(self) -> str:
        """A quoted tag that follows the content."""
        if self.part_count:
            return f'"{self.crc64:016x}-{self.part_count}"'
        return f'"{self.crc64:016x}{self.size:016x}"'

    @property
    def headers(self) -> dict[str, str]:
        """What COS sends with a part or an object."""
        return {"ETag": self.etag, "x-cos-hash-crc64ecma": str(self.crc64)}


@dataclass(slots=True)
class OpenUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    parts: dict[int, Stored] = field(default_factory=dict)


class SinkStore:
    """Answers whole requests; knows nothing of sockets."""

    def __init__(self) -> None:
        self.body_bytes = 0
        self._requests = 0
        self._objects: dict[str, Stored] = {}
        self._uploads: dict[str, OpenUpload] = {}
        self._upload_numbers = count(1)
        self._date = (0, "")

    def answer(self, received: Received) -> Answer:
        """Do what a complete request asks and return the bytes of its answer."""
        self._requests += 1
        match received.method:
            case "PUT":
                return self._upload_part(received) if received.is_part else self._put_object(received)
            case "POST":
                return self._post(received)
            case "GET" | "HEAD":
                return self._get(received)
            case "DELETE":
                self._uploads.pop(received.query.get("uploadId", ""), None)
                return self._reply(204)
        return self._error(501, "NotImplemented")

    def _post(self, received: Received) -> Answer:
        if "uploads" in received.query:
            return self._initiate(received)
        if "uploadId" in received.query:
            return self._complete(received)
        return self._error(501, "NotImplemented")

    def _get(self, received: Received) -> Answer:
        if received.key == "/-/stats":
            return self._stats()
        if "uploadId" in received.query:
            return self._list_parts(received)
        if "uploads" in received.query:
            return self._list_uploads()
        return self._read_object(received)

    def _put_object(self, received: Received) -> Answer:
        metadata = {name: value for name, value in received.headers.items() if name.startswith("x-amz-meta-")}
        body = None if received.kept is None else bytes(received.kept)
        stored = Stored(received.stored_size, received.crc64, body, metadata)
        self._objects[received.key] = stored
        return self._reply(200, headers=stored.headers)

    def _upload_part(self, received: Received) -> Answer:
        upload = self._uploads.get(received.query["uploadId"])
        if upload is None:
            return self._error(404, "NoSuchUpload")
        stored = Stored(received.stored_size, received.crc64)
        upload.parts[int(received.query["partNumber"])] = stored
        return self._reply(200, headers=stored.headers)

    def _initiate(self, received: Received) -> Answer:
        upload_id = f"{int(time.time())}{next(self._upload_numbers):064x}"
        self._uploads[upload_id] = OpenUpload(received.key)
        return self._xml(
            "InitiateMultipartUploadResult",
            f"<Bucket>bench</Bucket><Key>{escape(received.key[1:])}</Key><UploadId>{upload_id}</UploadId>",
        )

    def _complete(self, received: Received) -> Answer:
        upload = self._uploads.get(received.query["uploadId"])
        if upload is None:
            return self._error(404, "NoSuchUpload")
        numbers = [int(number) for number in _PART_NUMBER.findall(received.kept or b"")]
        if not numbers or not all(number in upload.parts for number in numbers):
            return self._error(400, "InvalidPart")
        parts = [upload.parts[number] for number in numbers]
        crc64 = combine_all((part.crc64, part.size) for part in parts)
        stored = Stored(sum(part.size for part in parts), crc64, part_count=len(parts))
        self._objects[upload.key] = stored
        del self._uploads[received.query["uploadId"]]
        return self._xml(
            "CompleteMultipartUploadResult",
            f"<Location>http://bench{escape(upload.key)}</Location><Bucket>bench</Bucket>"
            f"<Key>{escape(upload.key[1:])}</Key><ETag>{escape(stored.etag)}</ETag>",
            headers={"x-cos-hash-crc64ecma": str(stored.crc64)},
        )

    def _read_object(self, received: Received) -> Answer:
        stored = self._objects.get(received.key)
        if stored is None:
            return self._error(404, "NoSuchKey", head=received.method == "HEAD")
        headers = {**stored.headers, **stored.metadata}
        if received.method == "HEAD":
            return self._reply(200, headers=headers, length=stored.size)
        if stored.body is None:
            return self._error(501, "NotImplemented")
        return self._reply(200, stored.body, headers)

    def _list_parts(self, received: Received) -> Answer:
        upload_id = received.query["uploadId"]
        upload = self._uploads.get(upload_id)
        if upload is None:
            return self._error(404, "NoSuchUpload")
        marker = int(received.query.get("part-number-marker", "0") or 0)
        page_size = min(int(received.query.get("max-parts", "1000")), 1000)
        numbers = sorted(number for number in upload.parts if number > marker)
        page = numbers[:page_size]
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(upload.parts[number].etag)}</ETag><Size>{upload.parts[number].size}</Size></Part>"
            for number in page
        )
        truncated = len(numbers) > len(page)
        following = f"<NextPartNumberMarker>{page[-1]}</NextPartNumberMarker>" if truncated else ""
        return self._xml(
            "ListPartsResult",
            f"<Bucket>bench</Bucket><Key>{escape(upload.key[1:])}</Key><UploadId>{upload_id}</UploadId>"
            f"{_OWNER.format('Initiator')}{_OWNER.format('Owner')}<StorageClass>STANDARD</StorageClass>"
            f"<PartNumberMarker>{marker}</PartNumberMarker>{following}<MaxParts>{page_size}</MaxParts>"
            f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{rows}",
        )

    def _list_uploads(self) -> Answer:
        rows = "".join(
            f"<Upload><Key>{escape(upload.key[1:])}</Key><UploadId>{upload_id}</UploadId>"
            f"{_OWNER.format('Initiator')}{_OWNER.format('Owner')}<StorageClass>STANDARD</StorageClass>"
            "<Initiated>2024-01-01T00:00:00.000Z</Initiated></Upload>"
            for upload_id, upload in self._uploads.items()
        )
        return self._xml(
            "ListMultipartUploadsResult",
            f"<Bucket>bench</Bucket><MaxUploads>1000</MaxUploads><IsTruncated>false</IsTruncated>{rows}",
        )

    def _stats(self) -> Answer:
        stats = {"requests": self._requests, "body_bytes": self.body_bytes, "open_uploads": len(self._uploads)}
        return self._reply(200, json.dumps(stats).encode())

    def _error(self, status: int, code: str, *, head: bool = False) -> Answer:
        body = "" if head else f"{_XML}<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        return self._reply(status, body.encode(), {"Content-Type": "application/xml"})

    def _xml(self, root: str, body: str, *, headers: dict[str, str] | None = None) -> Answer:
        document = f"{_XML}<{root}>{body}</{root}>"
        return self._reply(200, document.encode(), {"Content-Type": "application/xml", **(headers or {})})

    def _reply(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, length: int | None = None
    ) -> Answer:
        """The bytes of an answer; *length* stands in for the body's where HEAD sends none."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {self._now()}", "Server: tencent-cos"]
        lines.append(f"x-cos-request-id: {self._requests}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    def _now(self) -> str:
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

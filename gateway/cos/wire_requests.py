"""Each request that the gateway sends to COS, as data. Pure: signing and sending come after.

Header names are lower case. ``host``, ``content-length`` and the signature are the sender's.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from gateway.cos.signing import Credentials, authorization, encode_query
from gateway.domain.errors import InvalidMetadata
from gateway.domain.objects import Bucket, ETag, ObjectAddress, UploadId

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")
# They frame, route or authenticate the request: the sender's business alone.
_RESERVED_HEADERS: Final = re.compile(
    r"host|authorization|x-cos-security-token|cookie|expect|te|trailer|transfer-encoding|content-length"
    r"|connection|keep-alive|upgrade|proxy-.*"
)

# The names that Tencent's SDKs sign; a proxy may touch the others.
_SIGNED_HEADERS: Final = re.compile(
    r"x-c(os|i)-.*|host|range|expires|pic-operations|cache-control|content-(disposition|encoding|length|md5|type)"
)
# Windows begin on a full minute in the past: clocks differ a little, and one SignKey serves a minute's requests.
_SIGNED_SINCE_SECONDS: Final = 60
_SIGNED_FOR_SECONDS: Final = 1800


@dataclass(frozen=True, slots=True)
class CosRequest:
    """One request to COS: ``path`` is decoded, ``query`` too, ``content`` is its XML (empty for bodies of bytes).

    ``repeatable``: sent twice, it does what sent once it does, so the sender may retry it.
    """

    operation: str
    method: str
    bucket: Bucket
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    repeatable: bool = True

    @property
    def has_body(self) -> bool:
        """Whether the request says how long its body is, be it empty."""
        return self.method not in ("GET", "HEAD")

    @property
    def target(self) -> str:
        """The path and query of the request line: each byte as it must leave, since COS signs what it decodes to."""
        path = quote(self.path, safe="/-_.~")
        return f"{path}?{encode_query(self.query)}" if self.query else path


def put_object(at: ObjectAddress, headers: Mapping[str, str]) -> CosRequest:
    """PUT Object (doc 7749)."""
    return CosRequest("put_object", "PUT", at.bucket, _path(at), headers=_passed_on(headers))


def append_object(at: ObjectAddress, position: int, headers: Mapping[str, str]) -> CosRequest:
    """APPEND Object (doc 7741). Sent again after it succeeded unseen, it would fail: its position has moved."""
    query = {"append": "", "position": str(position)}
    return CosRequest(
        "append_object", "POST", at.bucket, _path(at), query, headers=_passed_on(headers), repeatable=False
    )


def head_object(at: ObjectAddress) -> CosRequest:
    """HEAD Object (doc 7745)."""
    return CosRequest("head_object", "HEAD", at.bucket, _path(at))


def initiate(at: ObjectAddress, headers: Mapping[str, str]) -> CosRequest:
    """Initiate Multipart Upload (doc 7746). Sent twice it opens two uploads, of which the sweeper ends one."""
    return CosRequest("initiate", "POST", at.bucket, _path(at), {"uploads": ""}, _passed_on(headers))


def upload_part(at: ObjectAddress, upload_id: UploadId, number: int, headers: Mapping[str, str]) -> CosRequest:
    """Upload Part (doc 7750); the same number again replaces the part."""
    query = {"partNumber": str(number), "uploadId": upload_id}
    return CosRequest("upload_part", "PUT", at.bucket, _path(at), query, _passed_on(headers))


def list_parts(at: ObjectAddress, upload_id: UploadId, marker: int, limit: int) -> CosRequest:
    """List Parts (doc 7747): up to *limit* parts after number *marker*."""
    query = {"uploadId": upload_id, "max-parts": str(limit), "encoding-type": "url"}
    if marker:
        query["part-number-marker"] = str(marker)
    return CosRequest("list_parts", "GET", at.bucket, _path(at), query)


def list_uploads(
    bucket: Bucket, *, prefix: str, delimiter: str, key_marker: str, upload_id_marker: str, limit: int
) -> CosRequest:
    """List Multipart Uploads (doc 7736); *upload_id_marker* says nothing without *key_marker*."""
    optional = {
        "prefix": prefix,
        "delimiter": delimiter,
        "key-marker": key_marker,
        "upload-id-marker": upload_id_marker if key_marker else "",
    }
    query = {"uploads": "", "max-uploads": str(limit), "encoding-type": "url"}
    query.update((name, value) for name, value in optional.items() if value)
    return CosRequest("list_uploads", "GET", bucket, "/", query)


def complete(
    at: ObjectAddress, upload_id: UploadId, parts: Sequence[tuple[int, ETag]], headers: Mapping[str, str]
) -> CosRequest:
    """Complete Multipart Upload (doc 7742), the parts as given. Once it succeeded, COS no longer knows the upload."""
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>" for number, etag in parts
    )
    content = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    digest = b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode("ascii")
    return CosRequest(
        "complete",
        "POST",
        at.bucket,
        _path(at),
        {"uploadId": upload_id},
        {**_passed_on(headers), "content-type": "application/xml", "content-md5": digest},
        content,
        repeatable=False,
    )


def abort(at: ObjectAddress, upload_id: UploadId) -> CosRequest:
    """Abort Multipart Upload (doc 7740)."""
    return CosRequest("abort", "DELETE", at.bucket, _path(at), {"uploadId": upload_id})


def signed_headers(request: CosRequest, credentials: Credentials, length: int | None, now: float) -> dict[str, str]:
    """Every header of *request* as it leaves, signed at *now* by COS's clock.

    *length* is the body's, None where there is none.
    """
    headers = {"host": request.bucket.host, **request.headers}
    if length is not None:
        headers["content-length"] = str(length)
    if credentials.session_token:
        headers["x-cos-security-token"] = credentials.session_token
    start = int(now) // _SIGNED_SINCE_SECONDS * _SIGNED_SINCE_SECONDS - _SIGNED_SINCE_SECONDS
    headers["authorization"] = authorization(
        credentials,
        request.method,
        request.path,
        request.query,
        {name: value for name, value in headers.items() if _SIGNED_HEADERS.fullmatch(name)},
        start=start,
        end=start + _SIGNED_FOR_SECONDS,
    )
    return headers


def _path(at: ObjectAddress) -> str:
    return "/" + at.key


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's object headers, checked. An empty one is left out: COS and its SDKs take it for absent.

    Raises:
        InvalidMetadata: a name or value that would change the request itself.
    """
    for name, value in headers.items():
        if _RESERVED_HEADERS.fullmatch(name) or not _HEADER_NAME.fullmatch(name):
            raise InvalidMetadata("a header of this name cannot be passed on to COS")
        if _CONTROL_CHARACTER.search(value):
            raise InvalidMetadata("a header value holds a control character")
    return {name: value for name, value in headers.items() if value}

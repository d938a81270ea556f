"""What travels with an object besides its bytes: headers that are checked, kept and echoed as COS does."""

import base64
import binascii
import re
from collections.abc import Mapping
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import Final

from gateway.dev.cos_answers import Header, Refusal, utf8
from gateway.dev.cos_objects import LocalObject
from gateway.dev.cos_uploads import LocalUpload

MAX_PUT_BYTES: Final = 5 << 30
MAX_METADATA_BYTES: Final = 2048
MIN_TRAFFIC_LIMIT: Final = 819_200
MAX_TRAFFIC_LIMIT: Final = 838_860_800

_META: Final = "x-cos-meta-"
_ECHOED: Final = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "content-type": "Content-Type",
    "expires": "Expires",
    "x-cos-server-side-encryption": "x-cos-server-side-encryption",
    "x-cos-server-side-encryption-cos-kms-key-id": "x-cos-server-side-encryption-cos-kms-key-id",
    "x-cos-storage-class": "x-cos-storage-class",
}
_GRANTS: Final = frozenset(
    {
        "x-cos-grant-read",
        "x-cos-grant-write",
        "x-cos-grant-read-acp",
        "x-cos-grant-write-acp",
        "x-cos-grant-full-control",
    }
)
_KMS: Final = frozenset({"x-cos-server-side-encryption-cos-kms-key-id", "x-cos-server-side-encryption-context"})
_MIME_LIMIT: Final = "x-cos-mime-limit"
_KEPT: Final = {*_ECHOED, *_GRANTS, *_KMS, "x-cos-acl", "x-cos-tagging", "x-cos-forbid-overwrite"}
_ACLS: Final = frozenset(
    {"default", "private", "public-read", "authenticated-read", "bucket-owner-read", "bucket-owner-full-control"}
)
_STORAGE_CLASS: Final = re.compile(r"(MAZ_)?(STANDARD|STANDARD_IA|INTELLIGENT_TIERING)|COLD|ARCHIVE|DEEP_ARCHIVE")
_GRANT: Final = re.compile(r'\s*\w+="[^"]+"\s*(,\s*\w+="[^"]+"\s*)*')
_META_NAME: Final = re.compile(r"x-cos-meta-[a-z0-9-]+")


def read_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """What of a request's (or form's) lower-case *headers* stays with the object.

    Raises:
        Refusal: one of them is not what COS takes.
    """
    kept = {name: value for name, value in headers.items() if name in _KEPT or name.startswith(_META)}
    _check_user_metadata(kept)
    if kept.get("x-cos-acl", "default") not in _ACLS:
        raise Refusal("InvalidArgument", "x-cos-acl is not one of COS's.")
    if not _STORAGE_CLASS.fullmatch(kept.get("x-cos-storage-class", "STANDARD")):
        raise Refusal("NotSupportedStorageClass", "x-cos-storage-class is not one of COS's.")
    if not all(_GRANT.fullmatch(kept[name]) for name in _GRANTS & kept.keys()):
        raise Refusal("InvalidArgument", 'A grant is id="…", several with a comma between.')
    if kept.get("x-cos-server-side-encryption", "AES256") not in ("AES256", "cos/kms"):
        raise Refusal("InvalidArgument", "x-cos-server-side-encryption is AES256 or cos/kms.")
    if _KMS & kept.keys() and kept.get("x-cos-server-side-encryption") != "cos/kms":
        raise Refusal("InvalidArgument", "A KMS key or context goes with cos/kms only.")
    _check_mime_limit(headers)
    return kept


def check_traffic_limit(call_values: Mapping[str, str]) -> None:
    """Refuse a traffic limit that COS would; the local COS sends at full speed under any other."""
    limit = call_values.get("x-cos-traffic-limit")
    if limit is None:
        return
    if not limit.isdecimal() or not MIN_TRAFFIC_LIMIT <= int(limit) <= MAX_TRAFFIC_LIMIT:
        raise Refusal("InvalidArgument", f"x-cos-traffic-limit is {MIN_TRAFFIC_LIMIT} to {MAX_TRAFFIC_LIMIT} bit/s.")


def content_md5(headers: Mapping[str, str]) -> bytes | None:
    """The MD5 that the body must have, if Content-MD5 says.

    Raises:
        Refusal: InvalidDigest.
    """
    value = headers.get("content-md5")
    if value is None:
        return None
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise Refusal("InvalidDigest", "The Content-MD5 you specified is not the base64 of 16 bytes.")
    return digest


def forbids_overwrite(headers: Mapping[str, str]) -> bool:
    return headers.get("x-cos-forbid-overwrite", "").lower() == "true"


def storage_class(stored: LocalObject | LocalUpload) -> str:
    return stored.headers.get("x-cos-storage-class", "STANDARD")


def quoted(etag: str) -> str:
    return f'"{etag}"'


def checksum_headers(etag: str, crc64: int) -> tuple[Header, ...]:
    """How COS says what it stored."""
    return (("ETag", quoted(etag)), ("x-cos-hash-crc64ecma", str(crc64)))


def describe(found: LocalObject) -> tuple[Header, ...]:
    """The headers of HEAD and GET but for the length. ACL and grants are kept, not shown; nor is STANDARD."""
    headers = {
        "Content-Type": "application/octet-stream",
        **{_ECHOED.get(name, name): value for name, value in found.headers.items() if _is_echoed(name, value)},
    }
    return (
        *headers.items(),
        *checksum_headers(found.etag, found.crc64),
        ("Last-Modified", formatdate(found.last_modified, usegmt=True)),
        ("x-cos-object-type", "appendable" if found.appendable else "normal"),
        ("Accept-Ranges", "bytes"),
    )


def _is_echoed(name: str, value: str) -> bool:
    return name.startswith(_META) or (name in _ECHOED and (name, value) != ("x-cos-storage-class", "STANDARD"))


def _check_mime_limit(headers: Mapping[str, str]) -> None:
    """``image/png;image/*`` allows these types, ``!text/html`` forbids them (doc 436/71190)."""
    limit = headers.get(_MIME_LIMIT)
    if limit is None:
        return
    said = headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    listed = any(fnmatchcase(said, pattern.strip().lower()) for pattern in limit.removeprefix("!").split(";"))
    if listed == limit.startswith("!"):
        raise Refusal("AccessDenied", "The type is not one that x-cos-mime-limit allows.")


def _check_user_metadata(kept: Mapping[str, str]) -> None:
    user = {name: value for name, value in kept.items() if name.startswith(_META)}
    if not all(_META_NAME.fullmatch(name) for name in user):
        raise Refusal("InvalidArgument", "x-cos-meta- is followed by letters, digits and hyphens.")
    length = sum(len(name) + len(utf8(value)) for name, value in user.items())
    if length > MAX_METADATA_BYTES:
        raise Refusal("InvalidArgument", f"Metadata of {length} bytes, at most {MAX_METADATA_BYTES} are allowed.")

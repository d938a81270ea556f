"""What a request asks of the local COS: its bucket, key, operation, headers and body."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Scope

from gateway.dev.cos_answers import Refusal, Signoff, utf8
from gateway.dev.cos_server import Connection
from gateway.domain.objects import Bucket

MAX_KEY_BYTES: Final = 850
_VIRTUAL_HOST: Final = re.compile(r"([a-z0-9-]+)\.cos\.([a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)")
# Doc 13324: CAN, EM, SUB and ESC may not stand in a key.
_FORBIDDEN_IN_KEY: Final = re.compile("[\x00\x18-\x1b]")
_SUB_RESOURCES: Final = frozenset(
    {"acl", "cors", "delete", "lifecycle", "object-lock", "policy", "restore", "retention", "select", "tagging"}
    | {"torrent", "versioning", "versions"}
)


class Operation(StrEnum):
    """COS's own names of what the local COS can do."""

    PUT_OBJECT = "PutObject"
    APPEND_OBJECT = "AppendObject"
    POST_OBJECT = "PostObject"
    HEAD_OBJECT = "HeadObject"
    GET_OBJECT = "GetObject"
    DELETE_OBJECT = "DeleteObject"
    OPTIONS_OBJECT = "OptionsObject"
    HEAD_BUCKET = "HeadBucket"
    LIST_OBJECTS = "ListObjects"
    LIST_UPLOADS = "ListMultipartUploads"
    INITIATE_UPLOAD = "InitiateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    LIST_PARTS = "ListParts"
    COMPLETE_UPLOAD = "CompleteMultipartUpload"
    ABORT_UPLOAD = "AbortMultipartUpload"


@dataclass(slots=True)
class Call:
    """One request to a bucket. Header names are lower case, and headers without a value are left out: COS ignores them.

    A fault may put another ``body`` in place of the one that came.
    """

    operation: Operation
    method: str
    bucket: Bucket
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    signoff: Signoff
    connection: Connection

    @property
    def now(self) -> float:
        """The server's time for this request, Unix seconds."""
        return self.signoff.now

    @property
    def path(self) -> str:
        """The decoded path, as clients sign it."""
        return f"/{self.key}"

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def location(self) -> str:
        """Where the object stands, as COS names it in its answers."""
        return f"http://{self.host}/{quote(self.key, safe='/-_.~')}"

    @property
    def upload_id(self) -> str:
        return self.query.get("uploadId", "")

    @property
    def part_number(self) -> int | None:
        """The number asked for, in range or not; None where there is none or it is no number."""
        number = self.query.get("partNumber", "")
        return int(number) if number.isdecimal() and len(number) < 10 else None

    @property
    def content_length(self) -> int | None:
        """The declared length of the body in bytes; None when the body is chunked or there is none."""
        length = self.headers.get("content-length")
        return int(length) if length is not None else None


class Addressing:
    """Finds the bucket that a Host header names; a plain host means *default*, if there is one."""

    def __init__(self, buckets: Iterable[Bucket], default: Bucket | None) -> None:
        self._buckets = frozenset(buckets)
        self._default = default

    def bucket(self, host: str) -> Bucket:
        """The bucket at *host*, given with its port or without.

        Raises:
            Refusal: NoSuchBucket.
        """
        name = re.sub(r":\d+$", "", host).lower()
        if self._default is not None and is_plain_host(name):
            return self._default
        if found := _VIRTUAL_HOST.fullmatch(name):
            wanted = Bucket(found[1], found[2])
            if wanted in self._buckets:
                return wanted
        raise Refusal("NoSuchBucket", "The specified bucket does not exist.")


def is_plain_host(name: str) -> bool:
    """Whether *name*, without a port, is an address or localhost, and so names no bucket."""
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True


def read_call(scope: Scope, body: AsyncIterator[bytes], addressing: Addressing, signoff: Signoff) -> Call:
    """Read an ASGI request; its path is decoded exactly once, from the bytes that came.

    Raises:
        Refusal: there is no such bucket or operation, or the path or the key cannot be used.
    """
    headers = read_headers(scope)
    bucket = addressing.bucket(headers.get("host", ""))
    key = _read_key(scope["raw_path"])
    query = _read_query(scope["query_string"])
    operation = _operation(scope["method"], key, query)
    if key and operation is not Operation.OPTIONS_OBJECT:
        check_key(key)
    return Call(operation, scope["method"], bucket, key, query, headers, body, signoff, Connection(scope))


def read_headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name, repeated ones joined, empty ones left out."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("utf-8", "surrogateescape")
        if value:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def check_key(key: str) -> None:
    """Refuse keys that COS does not take (doc 13324).

    Raises:
        Refusal: InvalidObjectName or KeyTooLong.
    """
    if len(utf8(key)) > MAX_KEY_BYTES:
        raise Refusal("KeyTooLong", f"Your key has {len(utf8(key))} bytes, at most {MAX_KEY_BYTES} are allowed.")
    if not key or key[0] in "/\\" or _FORBIDDEN_IN_KEY.search(key):
        raise Refusal("InvalidObjectName", "The key is empty, begins with a slash, or holds a control character.")


def _read_key(raw_path: bytes) -> str:
    try:
        return unquote_to_bytes(raw_path).decode().removeprefix("/")
    except UnicodeDecodeError as exc:
        raise Refusal("InvalidURI", "The path is not UTF-8.") from exc


def _read_query(raw: bytes) -> dict[str, str]:
    """The query by name; the first of a repeated name counts. ``+`` is a space: the Python SDK writes it so."""
    query: dict[str, str] = {}
    for pair in raw.split(b"&"):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        if name:
            decoded = unquote_to_bytes(value).decode("utf-8", "surrogateescape")
            query.setdefault(unquote_to_bytes(name).decode("utf-8", "surrogateescape"), decoded)
    return query


def _operation(method: str, key: str, query: Mapping[str, str]) -> Operation:
    if method == "OPTIONS":
        return Operation.OPTIONS_OBJECT
    if unsupported := _SUB_RESOURCES & query.keys():
        raise Refusal("NotImplemented", f"The local COS has no {min(unsupported)}.")
    found = _object_operation(method, query) if key else _bucket_operation(method, query)
    if found is None:
        raise Refusal("MethodNotAllowed", "The specified method is not allowed against this resource.")
    return found


def _bucket_operation(method: str, query: Mapping[str, str]) -> Operation | None:
    match method:
        case "GET":
            return Operation.LIST_UPLOADS if "uploads" in query else Operation.LIST_OBJECTS
        case "HEAD":
            return Operation.HEAD_BUCKET
        case "POST":
            return Operation.POST_OBJECT
    return None


def _object_operation(method: str, query: Mapping[str, str]) -> Operation | None:
    in_upload = "uploadId" in query
    match method:
        case "PUT":
            return Operation.UPLOAD_PART if in_upload or "partNumber" in query else Operation.PUT_OBJECT
        case "POST":
            return _post_operation(query)
        case "GET":
            return Operation.LIST_PARTS if in_upload else Operation.GET_OBJECT
        case "HEAD":
            return Operation.HEAD_OBJECT
        case "DELETE":
            return Operation.ABORT_UPLOAD if in_upload else Operation.DELETE_OBJECT
    return None


def _post_operation(query: Mapping[str, str]) -> Operation | None:
    if "uploads" in query:
        return Operation.INITIATE_UPLOAD
    if "uploadId" in query:
        return Operation.COMPLETE_UPLOAD
    return Operation.APPEND_OBJECT if "append" in query else None

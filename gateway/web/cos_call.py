"""What a request asks of the COS door: operation, bucket, key, query and headers, by COS's rules for reading them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from gateway.domain.objects import ObjectAddress
from gateway.domain.policy import MAX_KEY_BYTES, Action, Caller, Destination
from gateway.web.cos_answers import CosAnswer
from gateway.web.cos_problems import CosRefusal

_SUB_RESOURCES: Final = frozenset(
    {
        *(
            "accelerate",
            "acl",
            "cors",
            "delete",
            "domain",
            "encryption",
            "intelligenttiering",
            "inventory",
            "lifecycle",
        ),
        *("location", "logging", "object-lock", "origin", "policy", "referer", "replication", "restore", "retention"),
        *("select", "tagging", "torrent", "versioning", "versions", "website"),
    }
)
_NOT_DONE_HERE: Final = frozenset({"x-cos-copy-source", "x-cos-server-side-encryption-customer-algorithm"})


class Operation(StrEnum):
    """COS's own names of what the door can do."""

    PUT_OBJECT = "PutObject"
    APPEND_OBJECT = "AppendObject"
    POST_OBJECT = "PostObject"
    HEAD_OBJECT = "HeadObject"
    LIST_UPLOADS = "ListMultipartUploads"
    INITIATE_UPLOAD = "InitiateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    LIST_PARTS = "ListParts"
    COMPLETE_UPLOAD = "CompleteMultipartUpload"
    ABORT_UPLOAD = "AbortMultipartUpload"


ACTIONS: Final[Mapping[Operation, tuple[Action, ...]]] = {
    Operation.PUT_OBJECT: (Action.CREATE, Action.UPLOAD),
    Operation.APPEND_OBJECT: (Action.APPEND,),
    Operation.POST_OBJECT: (Action.CREATE, Action.UPLOAD),
    Operation.HEAD_OBJECT: (Action.HEAD,),
    Operation.LIST_UPLOADS: (Action.LIST,),
    Operation.INITIATE_UPLOAD: (Action.CREATE,),
    Operation.UPLOAD_PART: (Action.UPLOAD,),
    Operation.LIST_PARTS: (Action.READ,),
    Operation.COMPLETE_UPLOAD: (Action.COMPLETE,),
    Operation.ABORT_UPLOAD: (Action.CONTROL,),
}
"""What a key must allow for each operation."""


@dataclass(frozen=True, slots=True)
class CosCall:
    """One request. ``headers`` are by lower-case name, without empty ones, which COS takes for absent.

    ``path`` is decoded once and begins with a slash; ``key`` follows it.
    """

    request: Request
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def method(self) -> str:
        """The method, in upper case."""
        return self.request.method

    @property
    def key(self) -> str:
        """The object's key; empty for what is asked of the bucket."""
        return self.path[1:]

    @property
    def is_form(self) -> bool:
        """Whether it is a POST Object, whose signature comes in its fields."""
        return self.method == "POST" and self.path == "/" and not _SUB_RESOURCES & self.query.keys()

    @property
    def content_length(self) -> int | None:
        """The declared length of the body in bytes; None for a chunked one."""
        length = self.headers.get("content-length")
        return None if length is None else int(length)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose signature holds: who asks, for which destination, for which key."""

    call: CosCall
    caller: Caller
    place: Destination
    key: str

    @property
    def at(self) -> ObjectAddress:
        """Where the object stands, or is to stand."""
        return ObjectAddress(self.place.bucket, self.key)

    def require(self, operation: Operation) -> None:
        """Refuse *operation* unless the key, the token it was issued for and the destination allow it at this key.

        Asked here for every operation, before any handler: an UploadId says nothing about who may use it.

        Raises:
            Forbidden, InvalidKey, KeyNotAllowed.
        """
        for action in ACTIONS[operation]:
            self.caller.require(action)
        if operation is not Operation.LIST_UPLOADS:  # it is about the bucket, and shows what lies inside alone
            self.caller.check_key(self.place, self.key)


Handler = Callable[[Admitted], Awaitable[CosAnswer]]


def read_call(request: Request) -> CosCall:
    """Read a request's head.

    Raises:
        CosRefusal: the path or the query cannot be read.
    """
    scope = request.scope
    headers = _read_headers(scope["headers"])
    try:
        query = _read_query(scope["query_string"])
        path = unquote_to_bytes(scope["raw_path"]).decode()
    except UnicodeDecodeError:
        raise CosRefusal("InvalidURI", "The path or the query is not UTF-8.") from None
    return CosCall(request, headers.get("host", ""), path, query, headers)


def operation_of(call: CosCall) -> Operation:
    """What *call* asks for.

    Raises:
        CosRefusal: NotImplemented, AccessDenied or MethodNotAllowed: the gateway does not do it.
    """
    method, query = call.method, call.query
    if _SUB_RESOURCES & query.keys() or _NOT_DONE_HERE & call.headers.keys() or "versionId" in query:
        raise CosRefusal("NotImplemented", "The gateway takes uploads; this is for COS itself.")
    found = _on_object(method, query) if call.key else _on_bucket(method, query)
    if found is not None:
        return found
    if method in ("GET", "HEAD", "DELETE"):
        raise CosRefusal("AccessDenied", "The gateway takes uploads; reading and deleting are for COS itself.")
    raise CosRefusal("MethodNotAllowed", "The method is not allowed against this resource.")


def with_path(call: CosCall, path: str) -> CosCall:
    """*call* without the mount that its path had."""
    return replace(call, path=path)


def require_key_length(key: str) -> None:
    """Refuse a key that COS calls too long; what else is wrong with one the policy finds."""
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise CosRefusal("KeyTooLong", f"The key has {size} bytes, expected at most {MAX_KEY_BYTES}.")


def _read_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as signatures see them: repeated ones joined."""
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        if value_bytes:
            name, value = name_bytes.decode("latin-1"), value_bytes.decode("utf-8", "surrogateescape")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _read_query(raw: bytes) -> dict[str, str]:
    """The query by name; of a repeated one the first. ``+`` is a space: the Python SDK writes it so."""
    query: dict[str, str] = {}
    for pair in raw.split(b"&"):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        if name:
            query.setdefault(unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode())
    return query


def _on_bucket(method: str, query: Mapping[str, str]) -> Operation | None:
    return Operation.LIST_UPLOADS if method == "GET" and "uploads" in query else None


def _on_object(method: str, query: Mapping[str, str]) -> Operation | None:
    in_upload = "uploadId" in query
    match method:
        case "PUT":
            return Operation.UPLOAD_PART if in_upload or "partNumber" in query else Operation.PUT_OBJECT
        case "POST" if "uploads" in query:
            return Operation.INITIATE_UPLOAD
        case "POST" if in_upload:
            return Operation.COMPLETE_UPLOAD
        case "POST" if "append" in query:
            return Operation.APPEND_OBJECT
        case "GET" if in_upload:
            return Operation.LIST_PARTS
        case "DELETE" if in_upload:
            return Operation.ABORT_UPLOAD
        case "HEAD":
            return Operation.HEAD_OBJECT
    return None

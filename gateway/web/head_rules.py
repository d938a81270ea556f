"""What a request's head may look like, judged before anything else reads it: pure, and cheap."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from gateway.domain.errors import (
    BadFraming,
    BadHost,
    BadInput,
    BadRequestTarget,
    ExpectationFailed,
    HeaderTooLarge,
    InvalidRange,
    MethodNotAllowed,
    UpgradeNotSupported,
    UriTooLong,
)

MAX_PATH_BYTES: Final = 8192
MAX_QUERY_BYTES: Final = 8192
MAX_HEADER_COUNT: Final = 64
MAX_HEADERS_BYTES: Final = 16 * 1024
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
PROBES: Final = frozenset({b"/livez", b"/readyz"})
"""Asked by load balancers under any Host; they tell nothing."""

_KNOWN_METHODS: Final = frozenset(METHODS)
_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-digest",
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"content-type",
        b"expect",
        b"idempotency-key",
        b"if-match",
        b"origin",
        b"upload-ticket",
    }
)
_READ_HERE: Final = _ONCE | {b"host", b"x-cos-hash-crc64ecma", b"x-cos-security-token"}
"""Headers that the gateway acts on; what is in any other it passes on or ignores."""
_PLAIN_PATH: Final = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?|/")
_UNREADABLE: Final = re.compile(rb"[^!-~]|%(?![0-9A-Fa-f]{2})|%00|#")
_BODIES: Final = frozenset({"POST", "PUT", "PATCH"})
_TAKES_PIECES: Final = re.compile(rb"/v1/tasks/[^/]+/content")
_WHOLE: Final = re.compile(rb"bytes 0-([0-9]{1,16})/([0-9]{1,16})")
_FORM: Final = b"multipart/form-data"
_HOST: Final = re.compile(rb"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Head:
    """A request's headers by lower-case name.

    ``hosts``: how many Host headers came. ``repeated``: one came twice that may come once. ``unreadable``: one that we
    act on holds bytes beyond ASCII.
    """

    values: Mapping[bytes, bytes]
    count: int
    size: int
    hosts: int
    repeated: bool
    unreadable: bool

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> "Head":
        """The head that ASGI's *headers* make. The first of a repeated name stays."""
        values: dict[bytes, bytes] = {}
        count = size = hosts = 0
        repeated = unreadable = False
        for name, value in headers:
            count += 1
            size += len(name) + len(value)
            if name == b"host":
                hosts += 1
            if not value.isascii() and name in _READ_HERE:
                unreadable = True
            if name not in values:
                values[name] = value
            elif name in _ONCE or name.startswith(b"x-cos-"):
                repeated = True
        return cls(values, count, size, hosts, repeated, unreadable)


class HeadRules:
    """Judges heads.

    Args:
        allowed_hosts: the host names that we answer to, without ports.
        key_routes: path prefixes after which an object's key follows: ``//`` and ``%2F`` belong to it.
    """

    def __init__(self, allowed_hosts: Collection[str], key_routes: Collection[str]) -> None:
        self._hosts = frozenset(host.lower().strip("[]").encode() for host in allowed_hosts)
        self._key_routes = tuple(prefix.encode() for prefix in key_routes)

    def check(self, scope: Scope, head: Head) -> None:
        """Raise the BadInput that *head* deserves, if any."""
        _check_headers(head)
        if scope["type"] == "http":
            _check_http(scope["method"], head.values)
        path: bytes = scope["raw_path"]
        if scope.get("http_version") == "1.0" and path not in PROBES:
            raise BadFraming("HTTP/1.0 is for probes; anything else takes HTTP/1.1.")
        self._check_path(path)
        if (said := head.values.get(b"content-range")) is not None:
            self._check_range(scope, said, head.values)
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            raise UriTooLong(f"The query has {len(scope['query_string'])} bytes, expected at most {MAX_QUERY_BYTES}.")
        if path not in PROBES:
            self._check_host(head)

    def _check_path(self, path: bytes) -> None:
        if len(path) > MAX_PATH_BYTES:
            raise UriTooLong(f"The path has {len(path)} bytes, expected at most {MAX_PATH_BYTES}.")
        if _PLAIN_PATH.fullmatch(path):
            return
        if not path.startswith(b"/") or _UNREADABLE.search(path):
            raise BadRequestTarget("The path is not an absolute path of printable ASCII.")
        decoded = path.lower().replace(b"%2e", b".").replace(b"%2f", b"/")
        if any(segment in (b".", b"..") for segment in decoded.split(b"/")):
            raise BadRequestTarget("The path holds a dot segment.")
        if path.startswith(self._key_routes):
            return
        if b"//" in path or decoded.count(b"/") != path.count(b"/"):
            raise BadRequestTarget("The path holds an empty segment or an encoded slash.")
        if decoded.endswith(b"%0a"):
            raise BadRequestTarget("The path ends with a line break, which routes do not see.")

    def _check_range(self, scope: Scope, said: bytes, values: Mapping[bytes, bytes]) -> None:
        """Refuse a body that is a piece of a file, where it would be stored as the file.

        A form's length tells nothing of its file's: that is counted as it comes, see ``FormReader``.
        """
        path: bytes = scope["raw_path"]
        takes_pieces = not path.startswith(self._key_routes) and _TAKES_PIECES.fullmatch(path)
        if takes_pieces or scope.get("method") not in _BODIES:
            return
        whole = _WHOLE.fullmatch(said)
        if whole is None or int(whole[1]) + 1 != int(whole[2]):
            raise InvalidRange("The body is a piece of a file: only PUT /v1/tasks/{id}/content puts pieces together.")
        is_form = values.get(b"content-type", b"").lower().startswith(_FORM)
        if not is_form and values.get(b"content-length") != whole[2]:
            raise InvalidRange("Content-Range and Content-Length do not say the same of the whole file.")

    def _check_host(self, head: Head) -> None:
        host = _HOST.fullmatch(head.values.get(b"host", b"").lower())
        if head.hosts != 1 or host is None or host[1].strip(b"[]") not in self._hosts:
            raise BadHost("The Host is missing, given twice or not ours.")


def _check_headers(head: Head) -> None:
    if head.count > MAX_HEADER_COUNT:
        raise HeaderTooLarge(f"The request has {head.count} headers, expected at most {MAX_HEADER_COUNT}.")
    if head.size > MAX_HEADERS_BYTES:
        raise HeaderTooLarge(f"The headers have {head.size} bytes, expected at most {MAX_HEADERS_BYTES}.")
    if head.repeated:
        raise BadInput("A header that may come once came twice.")
    if head.unreadable:
        raise BadInput("A header that the gateway reads holds bytes beyond ASCII.")


def _check_http(method: str, values: Mapping[bytes, bytes]) -> None:
    if method not in _KNOWN_METHODS:
        raise MethodNotAllowed("The method is not one that this server knows.")
    if b"upgrade" in values:
        raise UpgradeNotSupported("Only the progress routes upgrade, and only to a websocket.")
    if values.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise ExpectationFailed("Expect may only be 100-continue.")

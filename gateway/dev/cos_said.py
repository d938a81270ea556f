"""What each operation of the local COS acts on. It refuses the rest, so that nothing is sent to COS unseen by tests."""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.dev.cos_answers import Refusal
from gateway.dev.cos_calls import Call, Operation

_TRANSPORT: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "expect", "te"),
        *("user-agent", "accept", "accept-encoding", "accept-language", "date", "cache-control", "pragma"),
        "content-type",  # of the message, where no object gets it: SDKs in browsers send it with an abort, too
        *("origin", "referer", "dnt", "priority", "traceparent", "tracestate"),
    }
)
"""What HTTP, its clients and those between say of the message, not of the object; a plain Cache-Control too."""
_SENT_BY_BROWSERS: Final = "sec-"
_SIGNED: Final = frozenset({"authorization", "x-cos-security-token", "x-cos-sdk-retry"})
_SIGNATURE: Final = frozenset(
    {
        *("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "q-signature"),
        "x-cos-security-token",
    }
)
_LIMIT: Final = "x-cos-traffic-limit"
_META: Final = "x-cos-meta-"
_DESCRIBED: Final = frozenset(
    {
        *("cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"),
        *("x-cos-acl", "x-cos-grant-read", "x-cos-grant-write", "x-cos-grant-read-acp", "x-cos-grant-write-acp"),
        *("x-cos-grant-full-control", "x-cos-storage-class", "x-cos-tagging", "x-cos-mime-limit"),
        *("x-cos-server-side-encryption", "x-cos-server-side-encryption-context"),
        *("x-cos-server-side-encryption-cos-kms-key-id", _LIMIT, "x-cos-forbid-overwrite"),
    }
)
_BYTES: Final = frozenset({"content-md5", "content-type"})
_PICTURES: Final = frozenset({"pic-operations"})
_LISTED: Final = frozenset({"encoding-type", "delimiter", "prefix"})
_CONDITIONS: Final = frozenset({"range"})
_HEADERS: Final[Mapping[Operation, frozenset[str]]] = {
    Operation.PUT_OBJECT: _DESCRIBED | _BYTES | _PICTURES,
    Operation.APPEND_OBJECT: (_DESCRIBED | _BYTES) - {"x-cos-forbid-overwrite"},
    Operation.POST_OBJECT: _DESCRIBED | _BYTES,
    Operation.INITIATE_UPLOAD: _DESCRIBED,
    Operation.UPLOAD_PART: _BYTES | {_LIMIT},
    Operation.COMPLETE_UPLOAD: _BYTES | _PICTURES | {"x-cos-forbid-overwrite"},
    Operation.GET_OBJECT: _CONDITIONS,
}
_PARAMETERS: Final[Mapping[Operation, frozenset[str]]] = {
    Operation.PUT_OBJECT: frozenset({_LIMIT}),
    Operation.APPEND_OBJECT: frozenset({"append", "position", _LIMIT}),
    Operation.GET_OBJECT: frozenset(
        f"response-{name}"
        for name in (
            *("cache-control", "content-disposition", "content-encoding", "content-language"),
            *("content-type", "expires"),
        )
    ),
    Operation.LIST_OBJECTS: _LISTED | {"max-keys", "marker"},
    Operation.LIST_UPLOADS: _LISTED | {"uploads", "max-uploads", "key-marker", "upload-id-marker"},
    Operation.INITIATE_UPLOAD: frozenset({"uploads"}),
    Operation.UPLOAD_PART: frozenset({"partNumber", "uploadId", _LIMIT}),
    Operation.LIST_PARTS: frozenset({"uploadId", "max-parts", "part-number-marker", "encoding-type"}),
    Operation.COMPLETE_UPLOAD: frozenset({"uploadId"}),
    Operation.ABORT_UPLOAD: frozenset({"uploadId"}),
}
_WITH_METADATA: Final = frozenset(
    {Operation.PUT_OBJECT, Operation.APPEND_OBJECT, Operation.POST_OBJECT, Operation.INITIATE_UPLOAD}
)
_FORM_FIELDS: Final = frozenset(
    {
        *("key", "acl", "policy", "signature", "success_action_status", "success_action_redirect"),
        *("q-sign-algorithm", "q-ak", "q-key-time", "q-sign-time", "q-signature"),
    }
)


def check_said(call: Call) -> None:
    """Refuse a header or parameter of *call* that its operation does not act on.

    Raises:
        Refusal: NotImplemented.
    """
    acted_on = _HEADERS.get(call.operation, frozenset()) | _TRANSPORT | _SIGNED
    for name in call.headers:
        is_meta = name.startswith(_META) and call.operation in _WITH_METADATA
        if name not in acted_on and not is_meta and not name.startswith(_SENT_BY_BROWSERS):
            raise _ignored("header", name)
    for name in call.query.keys() - _PARAMETERS.get(call.operation, frozenset()) - _SIGNATURE:
        raise _ignored("parameter", name)


def check_fields(names: Iterable[str]) -> None:
    """Refuse a form's field, by lower-case name, that POST Object does not act on. Raises Refusal NotImplemented."""
    for name in names:
        if name not in _FORM_FIELDS | _HEADERS[Operation.POST_OBJECT] | _SIGNED and not name.startswith(_META):
            raise _ignored("field", name)


def _ignored(kind: str, name: str) -> Refusal:
    return Refusal("NotImplemented", f"The local COS does not act on the {kind} {name}.")

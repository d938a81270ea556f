"""What each operation of the COS door takes of headers and parameters. What else would act on COS is refused by name.

Source: the operations' own pages (436/7734 to 436/7750), and what Tencent's four SDKs send.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.domain.object_headers import FORBID_OVERWRITE, KNOWN_HEADERS, TRAFFIC_LIMIT, require_taken
from gateway.domain.picture_operations import PIC_OPERATIONS
from gateway.web.cos_call import CosCall, Operation
from gateway.web.cos_problems import CosRefusal
from gateway.web.cos_signed import ADDED_LATER, SIGNATURE_PARAMETERS

_OF_AN_OBJECT: Final = KNOWN_HEADERS
_WITH_METADATA: Final = frozenset(
    {
        *(Operation.PUT_OBJECT, Operation.APPEND_OBJECT, Operation.POST_OBJECT, Operation.INITIATE_UPLOAD),
        Operation.COMPLETE_UPLOAD,
    }
)
HEADERS: Final[Mapping[Operation, frozenset[str]]] = {
    Operation.PUT_OBJECT: _OF_AN_OBJECT,
    Operation.APPEND_OBJECT: _OF_AN_OBJECT - {FORBID_OVERWRITE, PIC_OPERATIONS},
    Operation.POST_OBJECT: _OF_AN_OBJECT,
    Operation.HEAD_OBJECT: frozenset(),
    Operation.LIST_UPLOADS: frozenset(),
    Operation.INITIATE_UPLOAD: _OF_AN_OBJECT,
    Operation.UPLOAD_PART: frozenset({TRAFFIC_LIMIT}),
    Operation.LIST_PARTS: frozenset(),
    Operation.COMPLETE_UPLOAD: frozenset({FORBID_OVERWRITE, PIC_OPERATIONS}),
    Operation.ABORT_UPLOAD: frozenset(),
}
"""Which headers that act on COS an operation takes, besides ``x-cos-meta-*`` where an object is described."""
PARAMETERS: Final[Mapping[Operation, frozenset[str]]] = {
    Operation.PUT_OBJECT: frozenset({TRAFFIC_LIMIT}),
    Operation.APPEND_OBJECT: frozenset({"append", "position", TRAFFIC_LIMIT}),
    Operation.POST_OBJECT: frozenset(),
    Operation.HEAD_OBJECT: frozenset(),
    Operation.LIST_UPLOADS: frozenset(
        {"uploads", "delimiter", "encoding-type", "prefix", "max-uploads", "key-marker", "upload-id-marker"}
    ),
    Operation.INITIATE_UPLOAD: frozenset({"uploads"}),
    Operation.UPLOAD_PART: frozenset({"partNumber", "uploadId", TRAFFIC_LIMIT}),
    Operation.LIST_PARTS: frozenset({"uploadId", "max-parts", "part-number-marker", "encoding-type"}),
    Operation.COMPLETE_UPLOAD: frozenset({"uploadId"}),
    Operation.ABORT_UPLOAD: frozenset({"uploadId"}),
}


def check_said(operation: Operation, call: CosCall) -> None:
    """Refuse a header or parameter of *call* that *operation* does not take.

    Raises:
        InvalidField, CosRefusal InvalidArgument.
    """
    check_headers(operation, call.headers)
    if not call.query.keys() <= PARAMETERS[operation] | SIGNATURE_PARAMETERS:
        expected = ", ".join(sorted(PARAMETERS[operation])) or "none"
        raise CosRefusal("InvalidArgument", f"The query has a parameter that is not taken here, expected: {expected}.")


def check_headers(operation: Operation, names: Iterable[str]) -> None:
    """Refuse those of the lower-case header or field *names* that act on COS and are not taken. Raises InvalidField."""
    require_taken(names, HEADERS[operation] | ADDED_LATER, meta=operation in _WITH_METADATA)

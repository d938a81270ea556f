"""COS's UploadResult: what Pic-Operations made of a picture while it was stored (doc 460/18147). Pure."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.cos.xml_tree import Unreadable, XmlElement, read_xml

_MAX_RESULTS: Final = 5
_MAX_TEXT: Final = 1024
_MAX_DIGITS: Final = 15
ORIGINAL_MEMBERS: Final[Mapping[str, str]] = {"Key": "key", "Location": "location", "ETag": "etag"}
INFO_MEMBERS: Final[Mapping[str, str]] = {
    "Format": "format",
    "Width": "width",
    "Height": "height",
    "Quality": "quality",
    "Ave": "ave",
    "Orientation": "orientation",
}
RESULT_MEMBERS: Final[Mapping[str, str]] = {
    "Key": "key",
    "Location": "location",
    "Format": "format",
    "Width": "width",
    "Height": "height",
    "Size": "size",
    "Quality": "quality",
    "ETag": "etag",
}
_NUMBERS: Final = frozenset({"width", "height", "quality", "orientation", "size"})


def read_upload_result(body: bytes) -> dict[str, Any] | None:
    """What the answer to a PUT tells of results. None where it tells nothing: the object is stored all the same."""
    if not body.strip():
        return None
    try:
        tree = read_xml(body)
    except Unreadable:
        return None
    return upload_result_in(tree)


def upload_result_in(tree: XmlElement) -> dict[str, Any] | None:
    """The same of an UploadResult, or of a CompleteMultipartUploadResult, which holds its members directly."""
    results = tree.first("ProcessResults")
    if results is None:
        return None
    original = tree.first("OriginalInfo") or tree
    info = original.first("ImageInfo")
    told = _members(original, ORIGINAL_MEMBERS) | ({} if info is None else _members(info, INFO_MEMBERS))
    return {
        "original": told,
        "results": [
            _members(row, RESULT_MEMBERS) for _, row in zip(range(_MAX_RESULTS), results.all("Object"), strict=False)
        ],
    }


def _members(element: XmlElement, names: Mapping[str, str]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for theirs, ours in names.items():
        text = (element.text_of(theirs) or "").strip()
        if not text or len(text) > _MAX_TEXT or not text.isprintable():
            continue
        if ours not in _NUMBERS:
            members[ours] = text
        elif text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
            members[ours] = int(text)
    return members

"""What COS made of a picture, as COS says it (doc 460/18147)."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.web.cos_answers import tag, text

_NAMES: Final[Mapping[str, str]] = {
    "key": "Key",
    "location": "Location",
    "etag": "ETag",
    "format": "Format",
    "width": "Width",
    "height": "Height",
    "size": "Size",
    "quality": "Quality",
    "ave": "Ave",
    "orientation": "Orientation",
}
_OF_THE_OBJECT: Final = frozenset({"key", "location", "etag"})


def upload_result(processed: Mapping[str, Any]) -> str:
    """The UploadResult that is the answer to a PUT."""
    original: Mapping[str, Any] = processed["original"]
    of_the_object = {name: value for name, value in original.items() if name in _OF_THE_OBJECT}
    return tag(
        "UploadResult",
        tag("OriginalInfo", *_rows(of_the_object), _image_info(original)),
        _process_results(processed),
    )


def complete_rows(processed: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What a CompleteMultipartUploadResult holds besides; nothing where nothing was made."""
    if processed is None:
        return ()
    return _image_info(processed["original"]), _process_results(processed)


def _image_info(original: Mapping[str, Any]) -> str:
    info = {name: value for name, value in original.items() if name not in _OF_THE_OBJECT}
    return tag("ImageInfo", *_rows(info)) if info else ""


def _process_results(processed: Mapping[str, Any]) -> str:
    return tag("ProcessResults", *(tag("Object", *_rows(row)) for row in processed["results"]))


def _rows(members: Mapping[str, Any]) -> list[str]:
    return [text(_NAMES[name], value) for name, value in members.items() if name in _NAMES]

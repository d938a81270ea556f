"""What COS made of a picture, as COS says it (doc 460/18147)."""

from collections.abc import Mapping
from typing import Any

from gateway.cos.wire_pictures import INFO_MEMBERS, ORIGINAL_MEMBERS, RESULT_MEMBERS
from gateway.web.cos_answers import tag, text


def upload_result(processed: Mapping[str, Any]) -> str:
    """The UploadResult that is the answer to a PUT."""
    return tag(
        "UploadResult",
        tag("OriginalInfo", *_rows(ORIGINAL_MEMBERS, processed["original"]), _image_info(processed)),
        _process_results(processed),
    )


def complete_rows(processed: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What a CompleteMultipartUploadResult holds besides; nothing where nothing was made."""
    if processed is None:
        return ()
    return _image_info(processed), _process_results(processed)


def _image_info(processed: Mapping[str, Any]) -> str:
    rows = _rows(INFO_MEMBERS, processed["original"])
    return tag("ImageInfo", *rows) if rows else ""


def _process_results(processed: Mapping[str, Any]) -> str:
    return tag("ProcessResults", *(tag("Object", *_rows(RESULT_MEMBERS, row)) for row in processed["results"]))


def _rows(names: Mapping[str, str], members: Mapping[str, Any]) -> list[str]:
    return [text(theirs, members[ours]) for theirs, ours in names.items() if ours in members]

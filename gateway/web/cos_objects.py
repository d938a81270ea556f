"""What every upload at the COS door says of its object, and how COS says what it stored."""

from collections.abc import Mapping
from urllib.parse import quote

from gateway.domain.object_headers import STORAGE_CLASSES, headers_as_sent, part_headers
from gateway.domain.task import Task
from gateway.transfer.drafts import NewTask
from gateway.web.cos_answers import Header
from gateway.web.cos_call import Admitted
from gateway.web.cos_problems import CosRefusal

_TRAFFIC_LIMIT = "x-cos-traffic-limit"


def new_object(asked: Admitted, headers: Mapping[str, str]) -> NewTask:
    """The task that *asked* begins; *headers* are the object's, by lower-case name.

    Raises:
        CosRefusal: NotSupportedStorageClass.
        InvalidField, InvalidMetadata.
    """
    if not STORAGE_CLASSES.fullmatch(headers.get("x-cos-storage-class", "STANDARD")):
        raise CosRefusal("NotSupportedStorageClass", "x-cos-storage-class is not one of COS's.")
    return NewTask(
        key=asked.key,
        bucket=asked.place.alias,
        content_type=headers.get("content-type"),
        object_headers=headers_as_sent(headers),
        part_headers=traffic_headers(asked, headers),
    )


def traffic_headers(asked: Admitted, headers: Mapping[str, str]) -> dict[str, str]:
    """The traffic limit in *headers* or the query, for COS. Raises CosRefusal InvalidArgument, InvalidField."""
    limit = headers.get(_TRAFFIC_LIMIT) or asked.call.query.get(_TRAFFIC_LIMIT)
    if not limit:
        return {}
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 16):
        raise CosRefusal("InvalidArgument", "x-cos-traffic-limit is not a number.")
    return part_headers(int(limit))


def checksum_headers(etag: str, crc64: int | None, version_id: str | None = None) -> tuple[Header, ...]:
    """How COS says what it stored."""
    return (
        ("ETag", etag),
        *((("x-cos-hash-crc64ecma", str(crc64)),) if crc64 is not None else ()),
        *((("x-cos-version-id", version_id),) if version_id is not None else ()),
    )


def stored_headers(task: Task) -> tuple[Header, ...]:
    """``checksum_headers`` of a task in ``success``."""
    assert task.result is not None
    return checksum_headers(task.result.etag, task.result.crc64, task.result.version_id)


def location_of(asked: Admitted) -> str:
    """Where the object stands, as COS writes it in its answers: below the Host that was asked."""
    return f"http://{asked.call.host}/{quote(asked.key, safe='/-_.~')}"

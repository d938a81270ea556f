"""What COS keeps, in our words: addresses, stored parts and objects, and the bodies that become them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NewType, Protocol

UploadId = NewType("UploadId", str)
ETag = NewType("ETag", str)
"""COS's ETag with its quotes, verbatim. Opaque for a multipart object."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A COS bucket: ``name`` is ``<name>-<appid>``."""

    name: str
    region: str

    @property
    def host(self) -> str:
        """The bucket's virtual host, which every request to it names and signs."""
        return f"{self.name}.cos.{self.region}.myqcloud.com"


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """Where an object stands: its bucket and its key (decoded, without a leading slash)."""

    bucket: Bucket
    key: str


class PartBody(Protocol):
    """The bytes of one part or object on their way to COS.

    ``crc64`` is meaningful once ``chunks`` has been read to its end. A body with ``replayable`` may be read again from
    its first byte; any other is read once. Reading may raise: the sender lets that through unchanged, after it has
    broken off the request.
    """

    @property
    def size(self) -> int:
        """Exact length in bytes."""

    @property
    def replayable(self) -> bool:
        """Whether ``chunks`` may be called again after a failure."""

    @property
    def crc64(self) -> int:
        """CRC-64/XZ of the bytes read so far."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, from the first."""


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that COS has acknowledged. ``crc64`` is None when only List Parts told of it, which has none."""

    number: int
    size: int
    etag: ETag
    crc64: int | None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A whole object as COS reports it after PUT, Complete or HEAD.

    ``size`` is None where COS's answer does not say it (PUT, Complete). ``headers`` holds the answer's object
    headers under lower-case names. ``processed`` is COS's UploadResult where Pic-Operations asked for one:
    ``{"original": {…}, "results": [{…}, …]}`` with COS's names in snake_case.
    """

    etag: ETag
    crc64: int | None
    version_id: str | None
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    processed: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """COS's answer to an append: where the next one goes, in bytes."""

    next_position: int
    etag: ETag | None
    crc64: int | None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Person:
    """An Owner or Initiator in COS's listings."""

    id: str
    display_name: str


@dataclass(frozen=True, slots=True)
class PartsPage:
    """One page of List Parts (doc 7747)."""

    parts: tuple[StoredPart, ...]
    next_marker: int | None
    storage_class: str
    initiator: Person
    owner: Person
    last_modified: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """One row of List Multipart Uploads: ``initiated`` is ISO 8601 as COS wrote it.

    ``task_id`` is the task that opened it, where that is known.
    """

    key: str
    upload_id: UploadId
    storage_class: str
    initiator: Person
    owner: Person
    initiated: str
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """One page of List Multipart Uploads (doc 7736)."""

    uploads: tuple[OpenUpload, ...]
    common_prefixes: tuple[str, ...]
    next_key_marker: str | None
    next_upload_id_marker: str | None

"""What callers may write when they create or complete a task, as JSON or as form fields."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from gateway.domain.errors import InvalidField, InvalidSize
from gateway.domain.fingerprint import Fingerprint
from gateway.domain.object_headers import OPTION_NAMES, TRAFFIC_LIMIT, object_headers, part_headers, with_md5
from gateway.domain.objects import ETag
from gateway.domain.parts import MAX_PART_COUNT, MIB
from gateway.transfer.completion_plan import ClaimedPart, CompleteWanted
from gateway.transfer.drafts import DEFAULT_ASYNC_LIMIT, NewTask
from gateway.web.json_bodies import parse, parse_rows
from gateway.web.request_reading import crc64_of
from gateway.web.slices import SLICE_ROWS, in_slices

MAX_ASYNC_LIMIT: Final = 256
_Text = Annotated[str, Field(max_length=1024)]
_Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Crc64 = Annotated[str, Field(max_length=20)]
_STRICT: Final = ConfigDict(strict=True, extra="forbid", frozen=True)


class FingerprintBody(BaseModel):
    """What the caller knows of the file's content: digests of its parts, or one of the whole."""

    model_config = _STRICT

    size: int = Field(ge=0)
    part_size: int | None = None
    parts_md5: list[_Md5] | None = Field(default=None, max_length=MAX_PART_COUNT, fail_fast=True)
    parts_crc64: list[_Crc64] | None = Field(default=None, max_length=MAX_PART_COUNT, fail_fast=True)
    md5: _Md5 | None = None
    crc64: _Crc64 | None = None

    def fingerprint(self) -> Fingerprint:
        """The same, checked. Raises InvalidField, InvalidSize, BadDigest."""
        fingerprint = Fingerprint(
            size=self.size,
            part_size=self.part_size,
            parts_md5=self.parts_md5,
            parts_crc64=None if self.parts_crc64 is None else [crc64_of(text) for text in self.parts_crc64],
            md5=self.md5,
            crc64=None if self.crc64 is None else crc64_of(self.crc64),
        )
        fingerprint.check()
        return fingerprint


class CreateTask(BaseModel):
    """The body of ``POST /v1/tasks``; every option has the seed SDK's name in snake_case."""

    model_config = _STRICT

    key: str
    bucket: _Text | None = None
    region: _Text | None = None
    size: int | None = None
    part_size: int | None = None
    slice_size: int | None = None
    async_limit: int | None = Field(default=None, ge=1, le=MAX_ASYNC_LIMIT)
    client_ref: Annotated[str, Field(max_length=128, pattern=r"^[ -~]*$")] | None = None
    forbid_overwrite: bool = False
    upload_add_meta_md5: bool = False
    md5: _Md5 | None = None
    traffic_limit: int | None = None
    content_type: _Text | None = None
    cache_control: _Text | None = None
    content_disposition: _Text | None = None
    content_encoding: _Text | None = None
    content_language: _Text | None = None
    expires: _Text | None = None
    storage_class: _Text | None = None
    acl: _Text | None = None
    grant_read: _Text | None = None
    grant_read_acp: _Text | None = None
    grant_write_acp: _Text | None = None
    grant_full_control: _Text | None = None
    meta: dict[str, str] = Field(default_factory=dict, max_length=20)
    headers: dict[str, str] = Field(default_factory=dict, max_length=20)
    query: dict[str, str] = Field(default_factory=dict, max_length=20)
    fingerprint: FingerprintBody | None = None

    def new_task(self, *, slice_size: int, part_size: int) -> NewTask:
        """What ``Control.create`` takes; *slice_size* and *part_size* stand in where the caller says nothing.

        Raises:
            InvalidSize, InvalidField, InvalidMetadata: a value that COS would not take.
        """
        if self.slice_size is not None and self.slice_size < MIB:
            raise InvalidSize(f"slice_size is {self.slice_size} bytes, expected at least {MIB}.")
        fingerprint = None if self.fingerprint is None else self.fingerprint.fingerprint()
        size, wanted_part_size = _agreed(self.size, self.part_size, fingerprint)
        options = {name: value for name in OPTION_NAMES if (value := getattr(self, name)) is not None}
        return NewTask(
            key=self.key,
            bucket=self.bucket,
            region=self.region,
            size=size,
            part_size=wanted_part_size if wanted_part_size is not None else part_size,
            slice_size=self.slice_size if self.slice_size is not None else slice_size,
            async_limit=self.async_limit or DEFAULT_ASYNC_LIMIT,
            content_type=self.content_type,
            client_ref=self.client_ref,
            forbid_overwrite=self.forbid_overwrite,
            fingerprint=fingerprint,
            object_headers=self._object_headers(options, fingerprint),
            part_headers=part_headers(self._traffic_limit()),
        )

    def _object_headers(self, options: Mapping[str, str], fingerprint: Fingerprint | None) -> dict[str, str]:
        headers = object_headers(options, self.meta, self.headers)
        if self.upload_add_meta_md5:
            known = None if fingerprint is None else fingerprint.md5
            return with_md5(headers, self.md5 or known)
        if self.md5 is not None:
            raise InvalidField("md5 is the metadata that upload_add_meta_md5 asks for; it says nothing without.")
        return headers

    def _traffic_limit(self) -> int | None:
        """The one thing that COS takes in the query of an upload, and that is not the gateway's to say (doc 7749)."""
        if not self.query:
            return self.traffic_limit
        if self.query.keys() != {TRAFFIC_LIMIT} or self.traffic_limit is not None:
            raise InvalidField(f"query takes {TRAFFIC_LIMIT} only, and not beside traffic_limit.")
        return _number("query", self.query[TRAFFIC_LIMIT])


def _agreed(size: int | None, part_size: int | None, fingerprint: Fingerprint | None) -> tuple[int | None, int | None]:
    """The file's size and part size where the caller says them once or twice. Raises InvalidSize when they differ."""
    if fingerprint is None:
        return size, part_size
    if size not in (None, fingerprint.size):
        raise InvalidSize(f"size is {size} bytes, the fingerprint's is {fingerprint.size}.", expected=fingerprint.size)
    if part_size is not None and fingerprint.part_size not in (None, part_size):
        raise InvalidSize(
            f"part_size is {part_size} bytes, the fingerprint's is {fingerprint.part_size}.",
            expected=fingerprint.part_size,
        )
    return fingerprint.size, fingerprint.part_size if fingerprint.part_size is not None else part_size


class ListedPart(BaseModel):
    """One part as the caller remembers it."""

    model_config = _STRICT

    number: int = Field(ge=1, le=MAX_PART_COUNT)
    etag: Annotated[str, Field(max_length=130)] | None = None
    crc64: Annotated[str, Field(max_length=20)] | None = None

    def claimed(self) -> ClaimedPart:
        """The same for ``Control.complete``. Raises BadDigest."""
        etag = None if self.etag is None else ETag(self.etag)
        return ClaimedPart(self.number, etag, None if self.crc64 is None else crc64_of(self.crc64))


class CompleteTask(BaseModel):
    """The body of ``POST /v1/tasks/{id}/complete``; all of it may be left out."""

    model_config = _STRICT

    size: int | None = Field(default=None, ge=0)
    parts: list[ListedPart] | None = Field(default=None, max_length=MAX_PART_COUNT, fail_fast=True)
    crc64: Annotated[str, Field(max_length=20)] | None = None

    def wanted(self) -> CompleteWanted:
        """What ``Control.complete`` takes. Raises BadDigest, InvalidField."""
        return self._wanted([part.claimed() for part in self.parts or ()])

    @classmethod
    async def read(cls, data: dict[str, Any]) -> CompleteWanted:
        """What *data*, the body, asks for. Other requests have turns in between. Raises as ``parse`` and ``wanted``."""
        rows = data.get("parts")
        if not isinstance(rows, list) or not SLICE_ROWS < len(rows) <= MAX_PART_COUNT:
            return parse(cls, data).wanted()
        others = parse(cls, {**data, "parts": None})
        claimed: list[ClaimedPart] = []
        async for some in in_slices(await parse_rows(ListedPart, rows, "parts")):
            claimed += [part.claimed() for part in some]
        return others._wanted(claimed)

    def _wanted(self, claimed: Sequence[ClaimedPart]) -> CompleteWanted:
        if len({part.number for part in claimed}) < len(claimed):
            raise InvalidField("parts lists a number twice.")
        return CompleteWanted(self.size, tuple(claimed), None if self.crc64 is None else crc64_of(self.crc64))


_NUMBERS: Final = frozenset({"size", "part_size", "slice_size", "async_limit", "traffic_limit"})
_FLAG_FIELDS: Final = frozenset({"forbid_overwrite", "upload_add_meta_md5"})
_JSON_ONLY: Final = frozenset({"meta", "headers", "query", "fingerprint"})
_FLAGS: Final[Mapping[str, bool]] = {"true": True, "false": False}
_META_PREFIX: Final = "meta-"
FORM_FIELDS: Final = frozenset(CreateTask.model_fields) - _JSON_ONLY


def typed_fields(fields: Mapping[str, str]) -> dict[str, Any]:
    """Form fields or query parameters, which are all text, as ``CreateTask`` takes them; ``meta-<name>`` is metadata.

    Raises:
        InvalidField: text where a number or a flag belongs.
    """
    typed: dict[str, Any] = {}
    meta: dict[str, str] = {}
    for name, value in fields.items():
        if name.startswith(_META_PREFIX):
            meta[name.removeprefix(_META_PREFIX)] = value
        elif name in _NUMBERS:
            typed[name] = _number(name, value)
        elif name in _FLAG_FIELDS:
            typed[name] = _FLAGS.get(value, value)
        elif name in ("meta", "headers", "query"):
            raise InvalidField("meta, headers and query are JSON members; in a form each entry is a field meta-<name>.")
        elif name == "fingerprint":
            raise InvalidField("fingerprint is a JSON member of a task to create: a form brings the file at once.")
        else:
            typed[name] = value
    return {**typed, "meta": meta} if meta else typed


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        raise InvalidField(f"{name} is not a decimal number.")
    return int(text)

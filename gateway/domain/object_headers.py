"""A caller's object options (storage class, ACL, metadata, …) as the headers COS takes.

Source: PUT Object, COS documentation 436/7749; the options are the seed SDK's, in snake_case.
"""

import re
from collections.abc import Container, Iterable, Mapping
from typing import Final

from gateway.domain.errors import InvalidField, InvalidMetadata
from gateway.domain.picture_operations import MAX_PIC_OPERATIONS_BYTES, PIC_OPERATIONS

TRAFFIC_LIMIT: Final = "x-cos-traffic-limit"
META_MD5: Final = "x-cos-meta-md5"
FORBID_OVERWRITE: Final = "x-cos-forbid-overwrite"
MAX_META_BYTES: Final = 2048
MAX_VALUE_LENGTH: Final = 1024
MIN_TRAFFIC_LIMIT: Final = 819_200
MAX_TRAFFIC_LIMIT: Final = 838_860_800
"""Bits per second, both."""

_HEADER_OF_OPTION: Final[Mapping[str, str]] = {
    "content_type": "content-type",
    "cache_control": "cache-control",
    "content_disposition": "content-disposition",
    "content_encoding": "content-encoding",
    "content_language": "content-language",
    "expires": "expires",
    "storage_class": "x-cos-storage-class",
    "acl": "x-cos-acl",
    "grant_read": "x-cos-grant-read",
    "grant_read_acp": "x-cos-grant-read-acp",
    "grant_write_acp": "x-cos-grant-write-acp",
    "grant_full_control": "x-cos-grant-full-control",
}
OPTION_NAMES: Final = frozenset(_HEADER_OF_OPTION)
FIELD_OF_HEADER: Final[Mapping[str, str]] = {
    **{header: option for option, header in _HEADER_OF_OPTION.items() if option != "cache_control"},
    TRAFFIC_LIMIT: "traffic_limit",
    FORBID_OVERWRITE: "forbid_overwrite",
}
"""The option that a header of a raw body says. Not Cache-Control, which browsers send for reasons of their own."""
STANDARD: Final = "STANDARD"
STORAGE_CLASSES: Final = re.compile(r"(MAZ_)?(STANDARD|STANDARD_IA|INTELLIGENT_TIERING)|ARCHIVE|DEEP_ARCHIVE|COLD")
_ACLS: Final = frozenset(
    {
        "default",
        "private",
        "public-read",
        "authenticated-read",
        "bucket-owner-read",
        "bucket-owner-full-control",
    }
)
_GRANT: Final = re.compile(r'(id|uin|uri)="[^"]+"(, *(id|uin|uri)="[^"]+")*')
PASSED_ON: Final = frozenset(
    {
        "x-cos-server-side-encryption",
        "x-cos-server-side-encryption-context",
        "x-cos-server-side-encryption-cos-kms-key-id",
        "x-cos-tagging",
        "x-cos-mime-limit",
        PIC_OPERATIONS,
    }
)
"""What ``headers{}`` may hold: headers that describe the object and have no option of their own, and Pic-Operations,
which is confined before it goes to COS. A header that carries an address or an instruction is none of them."""
NEVER_PASSED_ON: Final = frozenset(
    {
        *("x-cos-callback", "x-cos-callback-var", "x-cos-return-body", "x-cos-website-redirect-location"),
        *("x-cos-copy-source", "x-cos-copy-source-range", "x-cos-metadata-directive", "x-cos-tagging-directive"),
        *("x-cos-server-side-encryption-customer-algorithm", "x-cos-server-side-encryption-customer-key"),
        *("x-cos-server-side-encryption-customer-key-md5", "x-cos-grant-write"),
    }
)
"""Known headers of COS that the gateway takes from nobody: addresses, instructions, keys that it must not see."""
_ACTING: Final = ("x-cos-", "x-ci-", PIC_OPERATIONS)
KNOWN_HEADERS: Final = frozenset({*_HEADER_OF_OPTION.values(), *PASSED_ON, TRAFFIC_LIMIT, FORBID_OVERWRITE})
"""Every header but metadata that may go to COS with an object."""
META: Final = "x-cos-meta-"
_META_NAME: Final = re.compile(r"[a-z0-9-]{1,128}")
_PRINTABLE: Final = re.compile(r"[ -~]*")


def object_headers(options: Mapping[str, str], meta: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """COS's headers, lower-case names, for *options* by option name, *meta* by suffix and *extra* by header name.

    Raises:
        InvalidField: a value COS would refuse, or a header that may not be passed on.
        InvalidMetadata: names outside ``[a-z0-9-]``, control characters, or more than 2 KiB in all.
    """
    headers = {_HEADER_OF_OPTION[name]: _clean(name, value) for name, value in options.items() if value}
    if "x-cos-storage-class" in headers and not STORAGE_CLASSES.fullmatch(headers["x-cos-storage-class"]):
        raise InvalidField("storage_class is not one of COS's storage classes.")
    if "x-cos-acl" in headers and headers["x-cos-acl"] not in _ACLS:
        raise InvalidField("acl is not one of COS's canned ACLs.")
    if not all(_GRANT.fullmatch(value) for name, value in headers.items() if name.startswith("x-cos-grant-")):
        raise InvalidField('A grant is not id="…", several with a comma between.')
    for name, value in extra.items():
        lowered = name.lower()
        if lowered not in PASSED_ON:
            raise InvalidField(f"headers holds {_named(lowered)}, which has an option of its own or is not passed on.")
        most = MAX_PIC_OPERATIONS_BYTES if lowered == PIC_OPERATIONS else MAX_VALUE_LENGTH
        headers[lowered] = _clean("headers", value, most)
    return headers | _meta_headers(meta)


def acts_on_cos(name: str) -> bool:
    """Whether a header of this lower-case name means something to COS beyond HTTP: it is taken, or refused by name."""
    return name.startswith(_ACTING)


def require_taken(names: Iterable[str], taken: Container[str], *, meta: bool) -> None:
    """Refuse those of the lower-case header *names* that act on COS and are not *taken*; *meta*: metadata is.

    Raises:
        InvalidField: nothing that a caller says to COS is dropped in silence.
    """
    for name in names:
        if name.startswith(_ACTING) and name not in taken and not (meta and name.startswith(META)):
            raise InvalidField(f"The request has {_named(name)}, which is not passed on here.")


def with_md5(headers: Mapping[str, str], md5_hex: str | None) -> dict[str, str]:
    """*headers* with the content's MD5 as metadata; None leaves its place empty, to be filled when the bytes are here.

    Raises:
        InvalidMetadata: the metadata has no room for it.
    """
    meta = {name.removeprefix(META): value for name, value in headers.items() if name.startswith(META)}
    _meta_headers({**meta, "md5": md5_hex or "0" * 32})
    return {**headers, META_MD5: md5_hex or ""}


def lacks_md5(headers: Mapping[str, str]) -> bool:
    """Whether *headers* have an empty place for the content's MD5."""
    return headers.get(META_MD5) == ""


def require_md5(headers: Mapping[str, str]) -> None:
    """Refuse a multipart upload that wants an MD5 nobody knows: metadata goes with Initiate, before any byte.

    Raises:
        InvalidField: the caller has to give it.
    """
    if lacks_md5(headers):
        raise InvalidField("upload_add_meta_md5 needs md5, the file's own, where the file goes in parts.")


def headers_as_sent(sent: Mapping[str, str]) -> dict[str, str]:
    """The object headers among *sent*, which are COS's own by lower-case name, checked as ``object_headers`` does.

    What is no object header is left out: see ``require_taken``.

    Raises:
        InvalidField, InvalidMetadata.
    """
    options = {option: sent[header] for option, header in _HEADER_OF_OPTION.items() if header in sent}
    meta = {name.removeprefix(META): value for name, value in sent.items() if name.startswith(META)}
    extra = {name: value for name, value in sent.items() if name in PASSED_ON}
    headers = object_headers(options, meta, extra)
    if sent.get(FORBID_OVERWRITE, "").lower() == "true":
        headers[FORBID_OVERWRITE] = "true"
    return headers


def part_headers(traffic_limit: int | None) -> dict[str, str]:
    """The headers of every body: *traffic_limit* in bit/s.

    Raises:
        InvalidField: outside COS's limits.
    """
    if traffic_limit is None:
        return {}
    if not MIN_TRAFFIC_LIMIT <= traffic_limit <= MAX_TRAFFIC_LIMIT:
        raise InvalidField(
            f"traffic_limit is {traffic_limit} bit/s, expected {MIN_TRAFFIC_LIMIT} to {MAX_TRAFFIC_LIMIT}."
        )
    return {TRAFFIC_LIMIT: str(traffic_limit)}


def _named(name: str) -> str:
    """*name*, if it is one of COS's that are known here: a caller's own words are not told again."""
    return name if name in NEVER_PASSED_ON | KNOWN_HEADERS else "a header of COS's"


def _clean(option: str, value: str, most: int = MAX_VALUE_LENGTH) -> str:
    """Header values are printable ASCII: nothing that could end the header."""
    if len(value) > most or not _PRINTABLE.fullmatch(value):
        raise InvalidField(f"{option} is not printable ASCII of at most {most} characters.")
    return value.strip()


def _meta_headers(meta: Mapping[str, str]) -> dict[str, str]:
    headers = {}
    for name, value in meta.items():
        if not _META_NAME.fullmatch(name):
            raise InvalidMetadata("A metadata name is outside a-z, 0-9 and the hyphen.")
        if not _PRINTABLE.fullmatch(value):
            raise InvalidMetadata("A metadata value is not printable ASCII; percent-encode other text.")
        if value.strip():  # COS takes an empty header for none
            headers[META + name] = value.strip()
    total = sum(len(name) + len(value) for name, value in headers.items())
    if total > MAX_META_BYTES:
        raise InvalidMetadata(f"The metadata has {total} bytes, expected at most {MAX_META_BYTES}.")
    return headers

"""The values that settings hold, and how they are read from, and written as, an environment variable's text."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

_BUCKET: Final = re.compile(
    r"(?P<alias>[A-Za-z0-9_-]{1,64})=(?P<name>[a-z0-9][a-z0-9-]{0,48}-[0-9]{4,20})@(?P<region>[a-z][a-z0-9-]{1,40})"
    r"(?:/(?P<prefix>[^\x00-\x1f\x7f,/][^\x00-\x1f\x7f,]*)?)?"
)
_BUCKET_TYPES: Final = re.compile(r"[a-z]+/[a-z0-9*+.-]+(?::[a-z]+/[a-z0-9*+.-]+)*")
_BUCKET_OPTIONS: Final = re.compile(r"[a-z_]*\*?(?::[a-z_]*\*?)*")
_LISTEN: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host and a TCP port to listen on; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BucketSetting:
    """One destination: ``alias`` is what callers may say, ``name`` is ``<bucket>-<appid>``."""

    alias: str
    name: str
    region: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.alias}={self.name}@{self.region}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class BucketTypesSetting:
    """The media types that the bucket of this alias takes."""

    alias: str
    types: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.alias}={':'.join(self.types)}"


@dataclass(frozen=True, slots=True)
class BucketOptionsSetting:
    """The options that callers may use in the bucket of this alias, by name or pattern."""

    alias: str
    options: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.alias}={':'.join(self.options)}"


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key that seals tickets, cursors and issued COS keys; ``id`` says which one sealed."""

    id: str
    secret: SecretStr


def _items(text: str) -> tuple[str, ...]:
    return tuple(item for item in (raw.strip() for raw in text.split(",")) if item)


def _parse_list(value: Any) -> Any:
    return _items(value) if isinstance(value, str) else value


def _parse_listen(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value:
        return None
    found = _LISTEN.fullmatch(value)
    if not found or int(found["port"]) > 65535:
        raise ValueError("expected host:port")
    return ListenAddress(found["six"] or found["host"], int(found["port"]))


def _parse_buckets(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(_parse_bucket(index, item) for index, item in enumerate(_items(value), 1))


def _parse_bucket(index: int, item: str) -> BucketSetting:
    found = _BUCKET.fullmatch(item)
    if not found:
        raise ValueError(f"entry {index} is not alias=bucket-appid@region/prefix")
    return BucketSetting(found["alias"], found["name"], found["region"], found["prefix"] or "")


def _parse_bucket_types(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    rules = [item.partition("=") for item in _items(value)]
    if not all(_BUCKET_TYPES.fullmatch(types) for _, _, types in rules):
        raise ValueError("expected alias=type/subtype:type/*,…")
    return tuple(BucketTypesSetting(alias, tuple(types.split(":"))) for alias, _, types in rules)


def _parse_bucket_options(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    rules = [item.partition("=") for item in _items(value)]
    if not all(alias and equals and _BUCKET_OPTIONS.fullmatch(options) for alias, equals, options in rules):
        raise ValueError("expected alias=option:option,…")
    return tuple(
        BucketOptionsSetting(alias, tuple(option for option in options.split(":") if option))
        for alias, _, options in rules
    )


def _parse_seal_keys(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [item.partition(":") for item in _items(value)]
    if not all(key_id and secret for key_id, _, secret in pairs):
        raise ValueError("expected id:secret,…")
    return tuple(SealKey(key_id, SecretStr(secret)) for key_id, _, secret in pairs)


def _parse_ranges(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ipaddress.ip_network(item) for item in _items(value))
    except ValueError:
        raise ValueError("expected address ranges such as 203.0.113.0/24, separated by commas") from None


def _parse_path(value: Any) -> Any:
    return None if value == "" else value


Listen = Annotated[ListenAddress, NoDecode, BeforeValidator(_parse_listen)]
OptionalListen = Annotated[ListenAddress | None, NoDecode, BeforeValidator(_parse_listen)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_list)]
Buckets = Annotated[tuple[BucketSetting, ...], NoDecode, BeforeValidator(_parse_buckets)]
BucketTypes = Annotated[tuple[BucketTypesSetting, ...], NoDecode, BeforeValidator(_parse_bucket_types)]
BucketOptions = Annotated[tuple[BucketOptionsSetting, ...], NoDecode, BeforeValidator(_parse_bucket_options)]
SealKeys = Annotated[tuple[SealKey, ...], NoDecode, BeforeValidator(_parse_seal_keys)]
AddressRanges = Annotated[
    tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], NoDecode, BeforeValidator(_parse_ranges)
]
OptionalPath = Annotated[Path | None, BeforeValidator(_parse_path)]


def as_text(value: object, *, reveal: bool = False) -> str:
    """A setting's value as the environment would hold it; secrets as stars unless they are to be revealed."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case tuple():
            return ",".join(as_text(item, reveal=reveal) for item in value)
        case SealKey():
            return f"{value.id}:{as_text(value.secret, reveal=reveal)}"
        case SecretStr() if reveal:
            return value.get_secret_value()
        case _:
            return str(value)


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine's own loopback, by name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_endpoint(text: str) -> bool:
    """Whether *text* is http(s)://host, perhaps with a port, and nothing else: no user, whose password would show."""
    try:
        url = urlsplit(text)
        has_place = bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    has_more = bool(url.path.strip("/") or url.query or url.fragment or "@" in url.netloc)
    return url.scheme in ("http", "https") and has_place and not has_more


def is_origin(text: str) -> bool:
    """Whether *text* is a web origin as browsers send it: scheme, host and perhaps a port."""
    return _ORIGIN.fullmatch(text) is not None


def hosts_of(netloc: str) -> list[str]:
    """The host names in an address such as ``user:secret@h1:1,[::1]:2``."""
    places = netloc.rpartition("@")[2].split(",")
    return [place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0] for place in places]

"""COS's request signatures (``q-sign-algorithm=sha1``): sign and verify headers, presigned URLs and POST policies.

Paths are decoded and begin with ``/``; names and values are text as meant, before any percent-encoding. Times are
Unix seconds. Source: COS documentation 436/7778 (requests) and 436/14690 (POST policies).
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "sha1"
_KEY_TIME: Final = re.compile(r"(\d{1,12});(\d{1,12})", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{40}", re.ASCII)
_FIELDS: Final = (
    "q-sign-algorithm",
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
)


class BadSignature(Exception):
    """A signature that does not hold; the subclasses say why."""


class MalformedSignature(BadSignature):
    """The signature's own fields cannot be read. ``problem`` names the field, never its value."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class SignatureExpired(BadSignature):
    """*now* lies outside the signature's window: before ``start`` or after ``end``."""

    def __init__(self, start: int, end: int, now: float) -> None:
        super().__init__(f"signed for {start} to {end}, now is {now:.0f}")
        self.start = start
        self.end = end
        self.now = now


class SignatureMismatch(BadSignature):
    """Another signature was expected. COS shows the caller what it signed, so that they can compare."""

    def __init__(self, http_string: str, string_to_sign: str) -> None:
        super().__init__("the signature does not match the request")
        self.http_string = http_string
        self.string_to_sign = string_to_sign


@dataclass(frozen=True, slots=True)
class Credentials:
    """A COS key pair; ``expires_at`` (Unix seconds) is None for one that does not run out."""

    secret_id: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class ParsedAuthorization:
    """The seven fields of a signature. The lists hold names as they were signed: encoded, lower case."""

    secret_id: str
    sign_time: str
    key_time: str
    header_list: tuple[str, ...]
    url_param_list: tuple[str, ...]
    signature: str


def encode(text: str) -> str:
    """Percent-encode *text* as UTF-8 by RFC 3986: upper-case hex, everything but ``A-Za-z0-9-_.~``."""
    return quote(text, safe="-_.~", errors="surrogateescape")


def encode_query(query: Mapping[str, str]) -> str:
    """*query* as it goes into a URL, in its own order; a parameter without a value is its bare name."""
    return "&".join(f"{encode(name)}={encode(value)}" if value else encode(name) for name, value in query.items())


def authorization(
    credentials: Credentials,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    start: int,
    end: int,
) -> str:
    """The Authorization header that signs exactly *query* and *headers* for *start* to *end*."""
    return "&".join(
        f"{name}={value}"
        for name, value in _signature_fields(credentials, method, path, query, headers, f"{start};{end}")
    )


def presigned_query(
    credentials: Credentials,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    start: int,
    end: int,
) -> dict[str, str]:
    """The whole decoded query of a presigned URL: the signature, then *query*, then the session token (unsigned)."""
    signed = dict(_signature_fields(credentials, method, path, query, headers, f"{start};{end}"))
    token = {"x-cos-security-token": credentials.session_token} if credentials.session_token else {}
    return {**signed, **query, **token}


def parse_authorization(text: str) -> ParsedAuthorization:
    """Read an Authorization header, or the wx SDK's ``Signature`` form field.

    Raises:
        MalformedSignature: a field is missing, repeated or unreadable.
    """
    pairs: dict[str, str] = {}
    for pair in text.strip().split("&"):
        name, _, value = pair.partition("=")
        if name in pairs:
            raise MalformedSignature(f"{name if name in _FIELDS else 'a field'} is repeated")
        pairs[name] = value
    return parse_query(pairs)


def parse_query(query: Mapping[str, str]) -> ParsedAuthorization:
    """Pick the signature out of a presigned URL's decoded query.

    Raises:
        MalformedSignature: a field is missing or unreadable.
    """
    missing = [name for name in _FIELDS if name not in query]
    if missing:
        raise MalformedSignature(f"{missing[0]} is missing")
    algorithm, secret_id, sign_time, key_time, header_list, url_param_list, signature = (query[n] for n in _FIELDS)
    if algorithm != _ALGORITHM:
        raise MalformedSignature("q-sign-algorithm is not sha1")
    if not secret_id:
        raise MalformedSignature("q-ak is empty")
    _window("q-sign-time", sign_time)
    _window("q-key-time", key_time)
    if not _SIGNATURE.fullmatch(signature):
        raise MalformedSignature("q-signature is not 40 hex digits")
    return ParsedAuthorization(
        secret_id, sign_time, key_time, _read_list(header_list), _read_list(url_param_list), signature
    )


def verify(
    parsed: ParsedAuthorization,
    secret_key: str,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    now: float,
) -> None:
    """Check a signature against the request that came, rebuilt from the names that the signature lists.

    Names are taken case-insensitively, a listed name that did not come counts as empty, and the host may have been
    signed with its port or without (the Python SDK leaves it out).

    Args:
        query, headers: all that came, decoded; what is not listed is not looked at.
        now: the verifier's clock.
    Raises:
        SignatureExpired: *now* is outside the window.
        SignatureMismatch: another key, or another request, was signed.
    """
    _check_window("q-sign-time", parsed.sign_time, now)
    _check_window("q-key-time", parsed.key_time, now)
    came = {_encode_name(name): value for name, value in headers.items()}
    params = _canonical(parsed.url_param_list, {_encode_name(name): value for name, value in query.items()})
    shown: tuple[str, str] | None = None
    for host in _host_forms(came.get("host", "")):
        head = _canonical(parsed.header_list, {**came, "host": host})
        http_string = f"{method.lower()}\n{path}\n{params}\n{head}\n"
        string_to_sign = _string_to_sign(parsed.sign_time, http_string)
        if hmac.compare_digest(_sign(secret_key, parsed.key_time, string_to_sign), parsed.signature):
            return
        shown = shown or (http_string, string_to_sign)
    assert shown is not None
    raise SignatureMismatch(*shown)


def unsigned(names: Iterable[str], listed: Sequence[str]) -> set[str]:
    """Those of *names*, of headers or parameters, that are not among a signature's *listed* ones."""
    signed = frozenset(listed)
    return {name for name in names if _encode_name(name) not in signed}


def sign_policy(secret_key: str, key_time: str, policy_text: str) -> str:
    """The ``q-signature`` form field of a POST Object with *policy_text* (the JSON, before base64)."""
    return _sign(secret_key, key_time, _sha1(policy_text))


def verify_policy(secret_key: str, key_time: str, policy_text: str, signature: str, *, now: float) -> None:
    """Check a POST policy's signature and window; what the policy demands of the form is the caller's to check.

    Raises:
        MalformedSignature: *key_time* or *signature* cannot be read.
        SignatureExpired: *now* is outside the window.
        SignatureMismatch: another key, or another policy, was signed.
    """
    _check_window("q-key-time", key_time, now)
    if not _SIGNATURE.fullmatch(signature):
        raise MalformedSignature("q-signature is not 40 hex digits")
    if not hmac.compare_digest(sign_policy(secret_key, key_time, policy_text), signature):
        raise SignatureMismatch(policy_text, _sha1(policy_text))


def _signature_fields(
    credentials: Credentials,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    key_time: str,
) -> Iterator[tuple[str, str]]:
    params = {_encode_name(name): value for name, value in query.items()}
    head = {_encode_name(name): value for name, value in headers.items()}
    param_names, head_names = sorted(params), sorted(head)
    http_string = f"{method.lower()}\n{path}\n{_canonical(param_names, params)}\n{_canonical(head_names, head)}\n"
    signature = _sign(credentials.secret_key, key_time, _string_to_sign(key_time, http_string))
    lists = (";".join(head_names), ";".join(param_names))
    return zip(_FIELDS, (_ALGORITHM, credentials.secret_id, key_time, key_time, *lists, signature), strict=True)


def _canonical(names: Sequence[str], values: Mapping[str, str]) -> str:
    return "&".join(f"{name}={encode(values.get(name, ''))}" for name in names)


@lru_cache(maxsize=1024)
def _encode_name(name: str) -> str:
    return encode(name).lower()


def _read_list(text: str) -> tuple[str, ...]:
    names: Iterable[str] = text.lower().split(";") if text else ()
    return tuple(sorted(names))


def _host_forms(host: str) -> tuple[str, ...]:
    name, colon, port = host.rpartition(":")
    return (host, name) if colon and port.isdigit() else (host,)


def _window(field_name: str, key_time: str) -> tuple[int, int]:
    found = _KEY_TIME.fullmatch(key_time)
    if found is None:
        raise MalformedSignature(f"{field_name} is not two times in Unix seconds")
    return int(found[1]), int(found[2])


def _check_window(field_name: str, key_time: str, now: float) -> None:
    start, end = _window(field_name, key_time)
    if not start <= now <= end:
        raise SignatureExpired(start, end, now)


def _string_to_sign(sign_time: str, http_string: str) -> str:
    return f"{_ALGORITHM}\n{sign_time}\n{_sha1(http_string)}\n"


def _sign(secret_key: str, key_time: str, string_to_sign: str) -> str:
    return _hmac(_sign_key(secret_key, key_time), string_to_sign)


@lru_cache(maxsize=1024)
def _sign_key(secret_key: str, key_time: str) -> str:
    return _hmac(secret_key, key_time)


def _hmac(key: str, text: str) -> str:
    return hmac.digest(_utf8(key), _utf8(text), _ALGORITHM).hex()


def _sha1(text: str) -> str:
    return hashlib.sha1(_utf8(text), usedforsecurity=False).hexdigest()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

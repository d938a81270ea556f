from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from gateway.config_values import (
    AddressRanges,
    Buckets,
    BucketSetting,
    ListenAddress,
    Names,
    OptionalListen,
    SealKey,
    SealKeys,
    as_text,
    hosts_of,
    is_loopback,
    is_origin,
)

_BUCKETS: TypeAdapter[tuple[BucketSetting, ...]] = TypeAdapter(Buckets)
_LISTEN: TypeAdapter[ListenAddress | None] = TypeAdapter(OptionalListen)
_SEAL_KEYS: TypeAdapter[tuple[SealKey, ...]] = TypeAdapter(SealKeys)
_RANGES: TypeAdapter[tuple[Any, ...]] = TypeAdapter(AddressRanges)
_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(Names)

_aliases = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
_prefixes = st.one_of(
    st.just(""), st.from_regex(r"[a-z0-9./@=-]{0,20}[a-z]/", fullmatch=True).map(lambda p: p.lstrip("/"))
)


@given(st.lists(st.builds(BucketSetting, _aliases, st.just("files-1250000000"), st.just("ap-guangzhou"), _prefixes)))
def test_destinations_read_back_as_they_are_written(buckets: list[BucketSetting]) -> None:
    assert _BUCKETS.validate_python(as_text(tuple(buckets))) == tuple(buckets)


@pytest.mark.parametrize(
    "text",
    [
        "files-1250000000@ap-guangzhou",
        "a=files@ap-guangzhou",
        "a=files-1250000000",
        "a=files-1250000000@",
        "a=Files-1250000000@ap-guangzhou",
        "a=files-1250000000@ap guangzhou",
        "a=files-1250000000@evil.example/x",
        "a=files-1250000000@ap-guangzhou//x",
        "a=files-1250000000@ap-guangzhou/x\ny",
    ],
)
def test_a_destination_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="entry 1 is not alias=bucket-appid@region/prefix"):
        _BUCKETS.validate_python(text)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "[::1]:0", "gateway.internal:65535"])
def test_a_listen_address_reads_back_as_it_is_written(text: str) -> None:
    assert str(_LISTEN.validate_python(text)) == text


@pytest.mark.parametrize("text", ["8080", ":8080", "::1:8080", "host:65536", "host:", "http://host:80", "host:80 "])
def test_a_listen_address_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="expected host:port"):
        _LISTEN.validate_python(text)


@pytest.mark.parametrize("text", ["secret", "id:", ":secret", "id:secret,other"])
def test_a_seal_key_needs_its_id_and_its_secret(text: str) -> None:
    with pytest.raises(ValidationError, match="expected id:secret"):
        _SEAL_KEYS.validate_python(text)


def test_a_seal_keys_secret_may_hold_colons() -> None:
    assert _SEAL_KEYS.validate_python("id:a:b") == (SealKey("id", SecretStr("a:b")),)


@pytest.mark.parametrize("text", ["", "203.0.113.0/24", "203.0.113.0/24,2001:db8::/32", "203.0.113.7/32"])
def test_address_ranges_read_back_as_they_are_written(text: str) -> None:
    assert as_text(_RANGES.validate_python(text)) == text


@pytest.mark.parametrize("text", ["203.0.113.7/24", "203.0.113.0/33", "cos.example", "203.0.113.0-255"])
def test_an_address_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="address ranges"):
        _RANGES.validate_python(text)


def test_lists_ignore_spaces_and_empty_items() -> None:
    assert _NAMES.validate_python(" a, ,b,") == ("a", "b")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (("a", "b"), "a,b"), (3.0, "3"), (0.5, "0.5"), (7, "7"), (Path("data"), "data")],
)
def test_a_value_is_written_as_the_environment_would_hold_it(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_loopback_is_an_address_of_this_machine_only() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "::", "localhost.example", ""))  # noqa: S104


def test_an_origin_has_a_scheme_a_host_and_no_path() -> None:
    assert all(is_origin(text) for text in ("https://a.example", "http://localhost:3000"))
    assert not any(is_origin(text) for text in ("*", "null", "a.example", "https://a.example/", "ftp://a.example"))


def test_hosts_are_found_beside_secrets_and_ports() -> None:
    assert hosts_of("user:p@ss@h1:26379,[::1]:2,h3") == ["h1", "::1", "h3"]

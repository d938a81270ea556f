"""Options, metadata and the traffic limit as the headers that COS takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidField, InvalidMetadata
from gateway.domain.object_headers import (
    MAX_TRAFFIC_LIMIT,
    MIN_TRAFFIC_LIMIT,
    OPTION_NAMES,
    object_headers,
    part_headers,
)


def test_each_option_becomes_its_header() -> None:
    options = {
        "content_type": "video/mp4",
        "cache_control": "max-age=60",
        "content_disposition": 'attachment; filename="a.mp4"',
        "content_encoding": "gzip",
        "content_language": "zh-CN",
        "expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "storage_class": "STANDARD_IA",
        "acl": "public-read",
        "grant_read": 'id="100000000001"',
        "grant_read_acp": 'id="100000000002"',
        "grant_write_acp": 'id="100000000003"',
        "grant_full_control": 'id="100000000004",id="100000000005"',
    }
    assert set(options) == OPTION_NAMES

    headers = object_headers(options, {"author": "alice", "x": "1"}, {"X-Cos-Tagging": "a=b"})

    assert headers == {
        "content-type": "video/mp4",
        "cache-control": "max-age=60",
        "content-disposition": 'attachment; filename="a.mp4"',
        "content-encoding": "gzip",
        "content-language": "zh-CN",
        "expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-cos-storage-class": "STANDARD_IA",
        "x-cos-acl": "public-read",
        "x-cos-grant-read": 'id="100000000001"',
        "x-cos-grant-read-acp": 'id="100000000002"',
        "x-cos-grant-write-acp": 'id="100000000003"',
        "x-cos-grant-full-control": 'id="100000000004",id="100000000005"',
        "x-cos-tagging": "a=b",
        "x-cos-meta-author": "alice",
        "x-cos-meta-x": "1",
    }


def test_an_empty_option_is_no_header() -> None:
    assert object_headers({"cache_control": "", "acl": ""}, {}, {}) == {}


@pytest.mark.parametrize("value", ["a\r\nx-cos-acl: public-read", "a\nb", "a\0b", "é", "\x7f", "a" * 1025, "a\tb"])
@pytest.mark.parametrize("name", sorted(OPTION_NAMES))
def test_an_option_cannot_smuggle_a_header(name: str, value: str) -> None:
    with pytest.raises(InvalidField) as caught:
        object_headers({name: value}, {}, {})

    assert value not in caught.value.detail


@pytest.mark.parametrize(
    "storage_class",
    [
        *("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ARCHIVE", "DEEP_ARCHIVE", "COLD"),
        *("MAZ_STANDARD", "MAZ_STANDARD_IA", "MAZ_INTELLIGENT_TIERING"),
    ],
)
def test_coss_storage_classes_are_taken(storage_class: str) -> None:
    assert object_headers({"storage_class": storage_class}, {}, {}) == {"x-cos-storage-class": storage_class}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("storage_class", "GLACIER"),
        ("storage_class", "standard"),
        ("storage_class", "STANDARDX"),
        ("storage_class", "MAZ_ARCHIVE"),
        ("acl", "public"),
        ("acl", "PRIVATE"),
    ],
)
def test_a_value_that_cos_would_refuse_is_refused_here(option: str, value: str) -> None:
    with pytest.raises(InvalidField, match=option):
        object_headers({option: value}, {}, {})


@pytest.mark.parametrize(
    "name",
    [
        *("x-cos-server-side-encryption", "x-cos-server-side-encryption-cos-kms-key-id", "x-cos-tagging"),
        *("x-cos-server-side-encryption-context", "x-cos-mime-limit", "Pic-Operations"),
    ],
)
def test_object_headers_without_an_option_are_passed_on(name: str) -> None:
    assert object_headers({}, {}, {name: "value"}) == {name.lower(): "value"}


@pytest.mark.parametrize(
    "name",
    [
        *("host", "Authorization", "content-length", "transfer-encoding", "x-cos-security-token", "x-cos-acl"),
        *("x-cos-storage-class", "content-type", "x-cos-meta-a", "x-cos-forbid-overwrite", "x-cos-copy-source"),
        *("x-cos-server-side-encryption-customer-key", "x-cos-tagging\r\nx", "x-cos-traffic-limit", "", "cookie"),
        *("x-cos-callback", "x-cos-callback-var", "x-cos-return-body"),  # COS would call any address
    ],
)
def test_any_other_header_is_refused(name: str) -> None:
    with pytest.raises(InvalidField):
        object_headers({}, {}, {name: "value"})


@pytest.mark.parametrize(
    "meta",
    [
        {"a": "x\r\ny: z"},
        {"a": "é"},
        {"a": "\0"},
        {"": "x"},
        {"a_b": "x"},
        {"a b": "x"},
        {"a:b": "x"},
        {"a\n": "x"},
        {"Author": "x"},
        {"é": "x"},
        {"a" * 129: "x"},
        {"a": "x" * (2048 - len("x-cos-meta-a") + 1)},
        {f"n{i}": "x" * 200 for i in range(10)},
    ],
    ids=lambda meta: ascii(next(iter(meta)))[:20],
)
def test_metadata_that_cos_would_not_keep_is_refused(meta: dict[str, str]) -> None:
    with pytest.raises(InvalidMetadata):
        object_headers({}, meta, {})


def test_metadata_of_exactly_2_kib_is_taken() -> None:
    value = "x" * (2048 - len("x-cos-meta-a"))

    assert object_headers({}, {"a": value}, {}) == {"x-cos-meta-a": value}


@given(st.text(max_size=30))
def test_any_value_is_refused_or_sent_as_http_would_deliver_it(value: str) -> None:
    """HTTP strips the spaces around a value, and the signature covers what arrives."""
    for options, meta in (({"cache_control": value}, {}), ({}, {"a": value})):
        try:
            headers = object_headers(options, meta, {})
        except (InvalidField, InvalidMetadata):
            continue
        for sent in headers.values():
            assert sent == sent.strip()
            assert sent.isascii()
            assert sent.isprintable()


@pytest.mark.parametrize("limit", [MIN_TRAFFIC_LIMIT, MAX_TRAFFIC_LIMIT, 1_000_000])
def test_the_traffic_limit_goes_with_every_body(limit: int) -> None:
    assert part_headers(limit) == {"x-cos-traffic-limit": str(limit)}


@pytest.mark.parametrize("limit", [0, -1, MIN_TRAFFIC_LIMIT - 1, MAX_TRAFFIC_LIMIT + 1])
def test_a_traffic_limit_outside_coss_bounds_is_refused(limit: int) -> None:
    with pytest.raises(InvalidField, match="bit/s"):
        part_headers(limit)


def test_without_a_traffic_limit_there_is_no_header() -> None:
    assert part_headers(None) == {}

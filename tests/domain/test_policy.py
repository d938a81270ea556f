"""What one caller may do, and which keys COS keeps under exactly their name."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import (
    FileTooLarge,
    Forbidden,
    InvalidKey,
    KeyNotAllowed,
    TypeNotAllowed,
    UnknownDestination,
)
from gateway.domain.objects import Bucket
from gateway.domain.policy import Action, Caller, Destination, Destinations, Policy, check_key

PHOTOS = Destination("photos", Bucket("media-1250000000", "ap-guangzhou"), "photos/")
VIDEOS = Destination("videos", Bucket("media-1250000000", "ap-guangzhou"), "videos/")
FILES = Destination("files", Bucket("files-1250000000", "ap-beijing"), "")
PLACES = Destinations((PHOTOS, VIDEOS, FILES))


def caller(**policy: object) -> Caller:
    return Caller("alice", Policy(**policy), 2e9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "a//b",
        "a/",
        "trailing.",
        "-leading",
        "...",
        "a/.../b",
        ".hidden",
        "a/..b/c..",
        "?uploads",
        "&acl",
        "a b+c&d?e#f%2F",
        "视频/片段 1.mp4",
        "emoji/🎬.mp4",
        "e\u0301",
        "a\u200bb",
        "k" * 850,
        "é" * 425,
        "~!@$^*()_=[]{}|;:',<>",
    ],
)
def test_a_legal_odd_key_is_taken_as_it_is(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "\\a",
        "../x",
        "a/../b",
        "a/./b",
        ".",
        "..",
        "a/..",
        "a/.",
        "a\0b",
        "a\r\nb",
        "a\nb",
        "a\tb",
        "a\x18b",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\u2029b",
        "\ud800",
        "k" * 851,
        "é" * 426,
        "🎬" * 213,
    ],
    ids=ascii,
)
def test_a_key_that_cos_would_not_keep_under_its_name_is_refused(key: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        check_key(key)

    assert len(key) < 4 or key not in caught.value.detail, "the caller's own string must not be echoed"


@given(st.text(max_size=900))
def test_any_text_is_a_key_or_an_invalid_one_and_nothing_else_happens(key: str) -> None:
    try:
        check_key(key)
    except InvalidKey:
        return
    assert 1 <= len(key.encode()) <= 850


@pytest.mark.parametrize(
    ("prefix", "key", "allowed"),
    [
        ("", "photos/a", True),
        ("", "videos/a", False),
        ("", "photos", False),
        ("photos/alice/", "photos/alice/a", True),
        ("photos/alice/", "photos/alice/", True),
        ("photos/alice/", "photos/alicia/a", False),
        ("photos/alice/", "photos/a", False),
        ("alice/", "alice/a", False),
        ("photos/alice/", "photos/Alice/a", False),
    ],
)
def test_a_key_must_lie_inside_both_prefixes(prefix: str, key: str, *, allowed: bool) -> None:
    if allowed:
        caller(prefix=prefix).check_key(PHOTOS, key)
    else:
        with pytest.raises(KeyNotAllowed):
            caller(prefix=prefix).check_key(PHOTOS, key)


def test_a_key_cannot_climb_out_of_its_prefix() -> None:
    with pytest.raises(InvalidKey):
        caller(prefix="photos/alice/").check_key(PHOTOS, "photos/alice/../bob/a")


@pytest.mark.parametrize(
    ("bucket", "region", "expected"),
    [
        (None, None, PHOTOS),
        ("photos", None, PHOTOS),
        ("videos", None, VIDEOS),
        ("files", "ap-beijing", FILES),
        ("media-1250000000", None, PHOTOS),
        ("files-1250000000", "ap-beijing", FILES),
    ],
)
def test_a_destination_is_found_by_alias_or_exact_name(
    bucket: str | None, region: str | None, expected: Destination
) -> None:
    assert PLACES.find(Policy(), bucket, region) is expected


@pytest.mark.parametrize(
    ("bucket", "region"),
    [
        ("", None),
        ("nowhere", None),
        ("Files", None),
        ("files", "ap-guangzhou"),
        ("files", ""),
        (None, "ap-nowhere"),
        ("169.254.169.254", None),
        ("files-1250000000.cos.ap-beijing.myqcloud.com", None),
        ("files-1250000000@evil.example", None),
        ("evil.example#", None),
        ("2852039166", None),
        ("ｆiles", None),
    ],
)
def test_any_other_bucket_or_region_is_unknown(bucket: str | None, region: str | None) -> None:
    with pytest.raises(UnknownDestination):
        PLACES.find(Policy(), bucket, region)


@pytest.mark.parametrize(
    ("buckets", "bucket", "expected"),
    [
        ({"files"}, None, FILES),
        ({"videos"}, None, VIDEOS),
        ({"videos"}, "media-1250000000", VIDEOS),
        ({"media-1250000000"}, "videos", VIDEOS),
        ({"files-1250000000"}, "files", FILES),
    ],
)
def test_a_token_chooses_among_the_destinations_it_names(
    buckets: set[str], bucket: str | None, expected: Destination
) -> None:
    assert PLACES.find(Policy(buckets=frozenset(buckets)), bucket) is expected


@pytest.mark.parametrize(
    ("buckets", "bucket"), [(set(), None), ({"files"}, "photos"), ({"elsewhere"}, None), ({"photos"}, "videos")]
)
def test_a_token_without_the_bucket_learns_no_more_than_that_it_is_unknown(
    buckets: set[str], bucket: str | None
) -> None:
    with pytest.raises(UnknownDestination) as caught:
        PLACES.find(Policy(buckets=frozenset(buckets)), bucket)
    with pytest.raises(UnknownDestination) as nowhere:
        PLACES.find(Policy(), "nowhere")

    assert caught.value.detail == nowhere.value.detail


@pytest.mark.parametrize("action", list(Action))
def test_a_token_that_lists_no_actions_has_all_but_the_sight_of_others_tasks(action: Action) -> None:
    if action is Action.ALL_TASKS:
        with pytest.raises(Forbidden):
            caller().require(action)
    else:
        caller().require(action)


@pytest.mark.parametrize("action", list(Action))
def test_a_token_has_exactly_the_actions_it_lists(action: Action) -> None:
    caller(actions=frozenset({action.value})).require(action)
    with pytest.raises(Forbidden):
        caller(actions=frozenset(set(Action) - {action})).require(action)
    with pytest.raises(Forbidden):
        caller(actions=frozenset()).require(action)


def test_the_largest_size_is_allowed_and_one_byte_more_is_not() -> None:
    caller(max_size=10).check_size(10)
    caller().check_size(2**60)
    with pytest.raises(FileTooLarge) as caught:
        caller(max_size=10).check_size(11)

    assert caught.value.facts == {"expected": 10}


@pytest.mark.parametrize(
    ("types", "content_type"),
    [
        (("image/png",), "image/png"),
        (("image/*",), "image/svg+xml"),
        (("IMAGE/*",), "Image/PNG"),
        (("text/plain",), "text/plain; charset=utf-8"),
        (("application/octet-stream",), None),
        (("*/*",), "video/mp4"),
        (("image/png", "video/*"), "video/mp4"),
    ],
)
def test_a_content_type_on_the_tokens_list_is_allowed(types: tuple[str, ...], content_type: str | None) -> None:
    caller(types=types).check_type(FILES, content_type)


@pytest.mark.parametrize(
    ("types", "content_type"),
    [
        (("image/*",), "text/html"),
        (("image/*",), "imagex/png"),
        (("image/*",), None),
        ((), "image/png"),
        (("image/*",), ""),
        (("image/*",), "image/"),
        # A browser that meets several types in one header goes by the last.
        (("image/*",), "image/png, text/html"),
        (("image/*",), "image/png;,text/html"),
        (("image/png",), "image/png;a=b,text/html"),
        (("image/*",), "image/png text/html"),
    ],
)
def test_any_other_content_type_is_refused(types: tuple[str, ...], content_type: str | None) -> None:
    with pytest.raises(TypeNotAllowed):
        caller(types=types).check_type(FILES, content_type)


def test_a_token_without_types_allows_every_one() -> None:
    caller().check_type(FILES, "anything at all")


def test_a_destination_s_own_types_hold_besides_the_token_s() -> None:
    pictures = replace(FILES, types=("image/*",))

    caller(types=("image/png", "text/plain")).check_type(pictures, "image/png")
    for refused in ("text/plain", "image/gif", None):
        with pytest.raises(TypeNotAllowed):
            caller(types=("image/png", "text/plain")).check_type(pictures, refused)

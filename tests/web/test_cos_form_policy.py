"""POST Object's policy, as COS's page has it."""

import json
from typing import Any

import pytest

from gateway.web.cos_form_policy import read_form_policy
from gateway.web.cos_problems import CosRefusal

MANDATORY: list[Any] = [{"q-sign-algorithm": "sha1"}, {"q-ak": "AKID"}, {"q-sign-time": "1;2"}]
FIELDS = {"q-sign-algorithm": "sha1", "q-ak": "AKID", "q-key-time": "1;2", "key": "dir/a", "acl": "private"}


def text_of(*conditions: Any, expiration: str = "2030-01-01T00:00:00.000Z") -> str:
    return json.dumps({"expiration": expiration, "conditions": [*MANDATORY, *conditions]})


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"acl": "private"}, True),
        ({"ACL": "private"}, True),
        ({"acl": "public-read"}, False),
        (["eq", "$key", "dir/a"], True),
        (["eq", "$key", "dir/"], False),
        (["starts-with", "$key", "dir/"], True),
        (["starts-with", "$Key", ""], True),
        (["starts-with", "$x-cos-meta-a", ""], False),
        ({"bucket": "files-1250000000"}, True),
        ({"bucket": "other-1250000000"}, False),
    ],
)
def test_a_condition_holds_or_does_not(condition: Any, holds: bool) -> None:
    policy = read_form_policy(text_of(condition))

    if holds:
        policy.check(FIELDS, "files-1250000000", 0)
    else:
        with pytest.raises(CosRefusal, match="AccessDenied"):
            policy.check(FIELDS, "files-1250000000", 0)


def test_it_ends_when_it_says() -> None:
    policy = read_form_policy(text_of(expiration="2030-01-01T00:00:00Z"))

    policy.check(FIELDS, "b", policy.expires_at)
    with pytest.raises(CosRefusal, match="Request has expired"):
        policy.check(FIELDS, "b", policy.expires_at + 1)


def test_sizes_are_the_narrowest_that_are_asked_for() -> None:
    policy = read_form_policy(text_of(["content-length-range", 1, 100], ["content-length-range", 5, 200]))

    assert (policy.min_size, policy.max_size) == (5, 100)
    assert read_form_policy(text_of()).max_size is None
    assert read_form_policy(text_of(["content-length-range", 0, 0], ["content-length-range", 0, 5])).max_size == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        json.dumps({"expiration": "soon", "conditions": MANDATORY}),
        json.dumps({"expiration": "2030-01-01T00:00:00Z", "conditions": MANDATORY[:2]}),
        json.dumps({"expiration": "2030-01-01T00:00:00Z", "conditions": None}),
        text_of(["like", "$key", "x"]),
        text_of(["eq", "key", "x"]),
        text_of(["eq", "$key"]),
        text_of(["content-length-range", "a", "b"]),
        text_of({"acl": 1}),
        text_of([]),
        text_of("eq"),
        "[" * 100_000,
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(CosRefusal, match="InvalidPolicyDocument"):
        read_form_policy(text)

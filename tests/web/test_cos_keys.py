"""Issued keys: narrower than their token, opened by whoever has the sealing key, and by nobody else."""

import time
from dataclasses import fields, replace
from typing import Any

import pytest

from gateway.domain.errors import Forbidden, InvalidField, KeyNotAllowed, TokenExpired, UnknownDestination
from gateway.domain.objects import Bucket
from gateway.domain.policy import Caller, Destination, Destinations, Policy
from gateway.web.cos_keys import IssuedKey, KeyExpired, KeyIssuer, KeyUnknown, is_key_id
from gateway.web.sealing import Sealer

NOW = 1_800_000_000.5
FILES = Destination("files", Bucket("files-1250000000", "ap-guangzhou"), "")
SHARED = Destination("shared", Bucket("shared-1250000000", "ap-beijing"), "team/")
PLACES = Destinations((FILES, SHARED))
ALICE = Caller("alice", Policy(), NOW + 3600, NOW - 600)
KEYS = {"a": "a secret of thirty-two bytes, or more", "b": "another secret of thirty-two bytes"}


class Clock:
    """Unix time that stands still until a test turns it."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> KeyIssuer:
    return KeyIssuer(Sealer(KEYS, "a"), PLACES, clock)


def test_a_key_opens_to_its_owner_and_policy(issuer: KeyIssuer) -> None:
    policy = Policy(frozenset({"files"}), "mine/", 5, ("image/*",), frozenset({"keys", "upload"}))

    key = issuer.issue(replace(ALICE, policy=policy), "files", "mine/deeper/", 60)
    opened = issuer.open(key.tmp_secret_id, key.session_token)

    assert (key.start_time, key.expired_time, key.place) == (int(NOW), int(NOW) + 60, FILES)
    known = replace(policy, prefix="mine/deeper/", places=frozenset({(FILES.bucket.name, FILES.prefix)}))
    assert opened.caller == Caller("alice", known, float(key.expired_time), ALICE.issued_at)
    assert opened.secret_key == key.tmp_secret_key
    assert is_key_id(key.tmp_secret_id)
    assert not is_key_id("AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q")


def test_every_key_is_another(issuer: KeyIssuer) -> None:
    keys = [issuer.issue(ALICE, None, None, 60) for _ in range(50)]

    assert len({key.tmp_secret_id for key in keys}) == len({key.tmp_secret_key for key in keys}) == 50
    assert not any(key.tmp_secret_key in key.session_token or key.tmp_secret_key in repr(key) for key in keys)


def test_a_key_lives_no_longer_than_its_token(issuer: KeyIssuer) -> None:
    soon = replace(ALICE, expires_at=NOW + 10)

    assert issuer.issue(soon, None, None, 7200).expired_time == int(NOW + 10)
    with pytest.raises(TokenExpired):
        issuer.issue(replace(ALICE, expires_at=NOW - 1), None, None, 60)


@pytest.mark.parametrize("issued_at", [0.0, NOW - 0.25, NOW - 86_400])
@pytest.mark.parametrize("later", [0, 1, 3000])
def test_s4_a_key_is_as_old_as_its_token_whenever_it_is_issued(
    issuer: KeyIssuer, clock: Clock, issued_at: float, later: float
) -> None:
    clock.now += later

    key = issuer.issue(replace(ALICE, issued_at=issued_at), None, None, 60)
    opened = issuer.open(*_pair(key)).caller

    assert opened.issued_at == issued_at
    assert opened.expires_at <= ALICE.expires_at
    assert (key.start_time, key.expired_time) == (int(clock.now), int(clock.now) + 60)


CLAIMED: dict[str, Any] = {
    "buckets": frozenset({"files"}),
    "prefix": "mine/",
    "max_size": 5,
    "types": ("image/*",),
    "actions": frozenset({"keys", "upload"}),
    "options": ("acl",),
    "forbid_overwrite": True,
}
"""A value for each claim that restricts; ``places`` follow from the buckets."""


def test_s4_every_claim_of_a_token_goes_on_into_its_keys(issuer: KeyIssuer) -> None:
    assert CLAIMED.keys() == {field.name for field in fields(Policy)} - {"places"}
    for name, value in CLAIMED.items():
        key = issuer.issue(replace(ALICE, policy=Policy(**{name: value})), "files", None, 60)

        assert getattr(issuer.open(*_pair(key)).caller.policy, name) == value
    assert {field.name for field in fields(Caller)} == {"owner", "policy", "expires_at", "issued_at", "token_id"}
    caller = replace(ALICE, token_id="one")
    opened = issuer.open(*_pair(issuer.issue(caller, "files", None, 60))).caller
    assert (opened.owner, opened.token_id, opened.issued_at) == ("alice", "one", caller.issued_at)


def test_a_key_is_never_wider_than_its_token_and_destination(issuer: KeyIssuer) -> None:
    narrow = replace(ALICE, policy=Policy(prefix="mine/"))

    assert issuer.open(*_pair(issuer.issue(ALICE, "shared", None, 60))).caller.policy.prefix == "team/"
    assert issuer.open(*_pair(issuer.issue(narrow, "files", None, 60))).caller.policy.prefix == "mine/"
    for caller, bucket, prefix in (
        (narrow, "files", "min"),
        (narrow, "files", "theirs/"),
        (narrow, "shared", None),
        (narrow, "shared", "mine/"),
        (ALICE, "shared", ""),
    ):
        with pytest.raises(KeyNotAllowed):
            issuer.issue(caller, bucket, prefix, 60)
    with pytest.raises(UnknownDestination):
        issuer.issue(replace(ALICE, policy=Policy(buckets=frozenset({"files"}))), "shared", None, 60)
    with pytest.raises(Forbidden):
        issuer.issue(replace(ALICE, policy=Policy(actions=frozenset({"upload"}))), None, None, 60)


def _pair(key: IssuedKey) -> tuple[str, str]:
    return key.tmp_secret_id, key.session_token


def test_a_policy_that_does_not_fit_is_refused(issuer: KeyIssuer) -> None:
    wordy = replace(ALICE, policy=Policy(types=tuple("image/" + "x" * 100 for _ in range(100))))

    with pytest.raises(InvalidField):
        issuer.issue(wordy, None, None, 60)


def test_only_what_was_issued_opens_and_only_in_time(issuer: KeyIssuer, clock: Clock) -> None:
    key, other = (issuer.issue(ALICE, None, None, 60) for _ in range(2))
    elsewhere = KeyIssuer(Sealer({"a": KEYS["b"]}, "a"), PLACES, clock)

    for secret_id, token in (
        (other.tmp_secret_id, key.session_token),
        (key.tmp_secret_id, other.session_token),
        (key.tmp_secret_id, key.session_token[:-2] + "AA"),
        (key.tmp_secret_id, "no token"),
    ):
        with pytest.raises(KeyUnknown):
            issuer.open(secret_id, token)
    with pytest.raises(KeyUnknown):
        elsewhere.open(key.tmp_secret_id, key.session_token)
    clock.now = float(key.expired_time)
    with pytest.raises(KeyExpired):
        issuer.open(key.tmp_secret_id, key.session_token)


def test_keys_outlive_the_rotation_of_what_seals_them(issuer: KeyIssuer, clock: Clock) -> None:
    key = issuer.issue(ALICE, None, None, 60)
    rotated = KeyIssuer(Sealer(KEYS, "b"), PLACES, clock)

    assert rotated.open(key.tmp_secret_id, key.session_token).secret_key == key.tmp_secret_key
    assert rotated.issue(ALICE, None, None, 60).session_token.startswith("b.")


def test_a_key_costs_less_than_a_millisecond_of_cpu(issuer: KeyIssuer) -> None:
    began = time.process_time()
    for _ in range(200):
        key = issuer.issue(ALICE, None, None, 60)
        issuer.open(key.tmp_secret_id, key.session_token)

    assert (time.process_time() - began) / 200 < 0.001

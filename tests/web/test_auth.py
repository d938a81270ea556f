import base64
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jwt
import pytest

from gateway.domain.errors import NotAllowed, TokenExpired, TokenInvalid, Unauthenticated
from gateway.domain.policy import Policy
from gateway.web.auth import SUBPROTOCOL, Authenticator, TokenBounds, bearer_token, offered_token

SECRET = "a secret of thirty-two bytes, or more"
AUDIENCE = "upload-gateway"
NOW = 1_700_000_000


def claims(**changed: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": NOW + 600, "aud": AUDIENCE, **changed}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in claims().items() if key != name}


def signed(payload: dict[str, Any], secret: str = SECRET, **header: Any) -> str:
    return jwt.encode(payload, secret, algorithm="HS256", headers=header or None)


def segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def authenticator(now: Callable[[], float] = lambda: NOW, issuer: str | None = None) -> Authenticator:
    return Authenticator.with_secret(SECRET, AUDIENCE, issuer, now)


def refusal(token: str, issuer: str | None = None) -> type[NotAllowed]:
    with pytest.raises(NotAllowed) as caught:
        authenticator(issuer=issuer).caller_of(token)
    return caught.type


def test_a_token_without_policy_claims_restricts_nothing() -> None:
    caller = authenticator().caller_of(signed(claims()))

    assert (caller.owner, caller.policy, caller.expires_at) == ("alice", Policy(), NOW + 600)


def test_the_policy_claims_become_the_callers_policy() -> None:
    token = signed(claims(buckets=["a"], prefix="u/", max_size=9, types=["image/*"], actions=["create", "read"]))

    policy = authenticator().caller_of(token).policy

    assert policy == Policy(frozenset({"a"}), "u/", 9, ("image/*",), frozenset({"create", "read"}))


@pytest.mark.parametrize(("claimed", "largest"), [({}, 100), ({"max_size": 9}, 9), ({"max_size": 101}, 100)])
def test_no_token_may_send_more_than_the_gateway_takes(claimed: dict[str, int], largest: int) -> None:
    capped = Authenticator.with_secret(SECRET, AUDIENCE, None, lambda: NOW, bounds=TokenBounds(max_size=100))

    assert capped.caller_of(signed(claims(**claimed))).policy.max_size == largest


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer"[:-1], "token x"])
def test_no_bearer_token_is_unauthenticated(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        bearer_token(header)


@pytest.mark.parametrize(
    "changed",
    [
        {"buckets": "a"},
        {"buckets": [1]},
        {"buckets": None},
        {"prefix": 1},
        {"prefix": None},
        {"max_size": "9"},
        {"max_size": True},
        {"max_size": 9.0},
        {"max_size": -1},
        {"max_size": 2**60},
        {"types": "image/*"},
        {"types": [None]},
        {"actions": {"read": True}},
        {"actions": [["read"]]},
        {"sub": ""},
        {"sub": 5},
        {"sub": "a\nb"},
        {"sub": "x" * 257},
        {"exp": str(NOW + 600)},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"aud": "someone-else"},
        {"aud": 5},
        {"nbf": NOW + 60},
        {"iat": NOW + 60},
        {"iat": "x"},
    ],
)
def test_a_claim_of_the_wrong_type_or_value_makes_the_token_invalid(changed: dict[str, Any]) -> None:
    assert refusal(signed(claims(**changed))) is TokenInvalid


@pytest.mark.parametrize(
    ("times", "is_good"),
    [
        ({"iat": NOW, "exp": NOW + 3600}, True),
        ({"iat": NOW, "exp": NOW + 3601}, False),
        ({"iat": NOW - 3000, "exp": NOW + 600}, True),
        ({"iat": NOW - 3000, "exp": NOW + 601}, False),
        ({"iat": NOW + 30, "exp": NOW + 3630}, True),
        ({"iat": NOW + 31, "exp": NOW + 3631}, False),
        ({"iat": NOW + 30, "exp": NOW + 3630.5}, False),
        ({"iat": 0, "exp": NOW + 600}, False),
        ({"iat": NOW, "exp": 2**53}, False),
        ({"exp": NOW + 60}, False),
        ({"exp": 2**53}, False),
        ({"iat": NOW + 20, "exp": NOW + 10}, True),
    ],
)
def test_s17_no_token_lives_longer_than_the_gateway_allows(times: dict[str, float], *, is_good: bool) -> None:
    bounded = Authenticator.with_secret(SECRET, AUDIENCE, None, lambda: NOW, bounds=TokenBounds(life_seconds=3600))
    token = signed({**without("exp"), **times})

    with nullcontext() if is_good else pytest.raises(TokenInvalid):
        assert bounded.caller_of(token).expires_at == times["exp"]


@pytest.mark.parametrize("name", ["sub", "exp", "aud"])
def test_a_required_claim_cannot_be_left_out(name: str) -> None:
    assert refusal(signed(without(name))) is TokenInvalid


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/keys"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"crit": ["b64"], "b64": True},
        {"typ": "id_token"},
        {"typ": 5},
    ],
)
def test_a_token_cannot_bring_its_own_key_or_extensions(header: dict[str, Any]) -> None:
    assert refusal(signed(claims(), **header)) is TokenInvalid


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "!!!.e30.AAAA",
        signed(claims()) + "A" * 9000,
        signed(claims(), secret="another secret, of thirty-two bytes too"),
        "тест.e30.AAAA",
        f"{segment(b'[' * 700)}.e30.AAAA",
        f"{segment(b'[]')}.e30.AAAA",
        f"{segment(json.dumps({'alg': 'HS256'}).encode())}.{segment(b'[' * 5000)}.AAAA",
        f"{segment(json.dumps({'alg': 'none'}).encode())}.{segment(json.dumps(claims()).encode())}.",
        f"{segment(json.dumps({'alg': 'HS512', 'kid': 5}).encode())}.e30.AAAA",
    ],
)
def test_a_token_that_is_none_is_invalid_and_says_no_more(token: str) -> None:
    with pytest.raises(TokenInvalid) as caught:
        authenticator().caller_of(token)

    assert (caught.value.detail, dict(caught.value.facts)) == ("", {})


def test_another_algorithm_of_the_same_secret_is_invalid() -> None:
    secret = SECRET * 2  # long enough for every one of them
    gate = Authenticator.with_secret(secret, AUDIENCE, None, lambda: NOW)
    assert gate.caller_of(signed(claims(), secret)).owner == "alice"

    for algorithm in ("HS384", "HS512"):
        with pytest.raises(TokenInvalid):
            gate.caller_of(jwt.encode(claims(), secret, algorithm=algorithm))


def test_a_hostile_token_is_refused_within_a_millisecond() -> None:
    token = f"{segment(b'[' * 700)}.{segment(b'[' * 5000)}.AAAA"
    gate = authenticator()
    took = []
    for _ in range(20):
        before = time.perf_counter()
        with pytest.raises(TokenInvalid):
            gate.caller_of(token)
        took.append(time.perf_counter() - before)

    assert min(took) < 0.001


def test_the_issuer_is_asked_for_only_where_one_is_configured() -> None:
    assert refusal(signed(claims()), issuer="us") is TokenInvalid
    assert refusal(signed(claims(iss="them")), issuer="us") is TokenInvalid
    assert authenticator(issuer="us").caller_of(signed(claims(iss="us"))).owner == "alice"


def test_a_token_expires_after_thirty_seconds_of_leeway_and_also_when_it_was_remembered() -> None:
    now = float(NOW)
    gate = authenticator(lambda: now)
    token = signed(claims(exp=NOW + 10))

    now = NOW + 39
    assert gate.caller_of(token).owner == "alice"

    now = NOW + 40
    with pytest.raises(TokenExpired):
        gate.caller_of(token)
    with pytest.raises(TokenExpired):
        authenticator(lambda: now).caller_of(token)


def test_a_token_with_a_flipped_signature_is_not_taken_for_the_remembered_one() -> None:
    gate, token = authenticator(), signed(claims())
    gate.caller_of(token)

    with pytest.raises(TokenInvalid):
        gate.caller_of(f"{token[:-2]}{'A' if token[-2] != 'A' else 'B'}{token[-1]}")


def test_a_remembered_token_costs_a_few_microseconds() -> None:
    gate, token = authenticator(), signed(claims(prefix="users/alice/", actions=["create", "upload"]))
    gate.caller_of(token)

    def took() -> float:
        before = time.perf_counter()
        for _ in range(1000):
            gate.caller_of(token)
        return (time.perf_counter() - before) / 1000

    assert min(took() for _ in range(5)) < 10e-6


def test_no_more_tokens_are_remembered_than_there_is_room_for() -> None:
    gate, first = authenticator(), signed(claims(sub="first"))
    gate.caller_of(first)
    for n in range(4096):
        gate.caller_of(signed(claims(sub=f"subject {n}")))

    assert len(gate._known) == 4096
    assert gate.caller_of(first).owner == "first"


def test_a_websocket_names_its_caller_by_a_subprotocol_that_is_never_selected() -> None:
    assert offered_token(["gateway.v1", "bearer.abc"]) == ("abc", SUBPROTOCOL)
    assert offered_token(["bearer.abc", "gateway.v1"]) == ("abc", SUBPROTOCOL)
    assert offered_token(["bearer.abc"]) == ("abc", None)


def test_a_websocket_without_one_token_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        offered_token(["gateway.v1"])
    with pytest.raises(TokenInvalid):
        offered_token(["bearer.a", "bearer.a"])
    with pytest.raises(TokenInvalid):
        authenticator().caller_of("")


def test_only_what_was_good_is_known() -> None:
    gate, token = authenticator(), signed(claims())
    assert not gate.knows(token)

    gate.caller_of(token)

    assert gate.knows(token)
    assert not gate.knows(token + "x")


def test_s12_a_token_is_known_by_its_jti() -> None:
    assert authenticator().caller_of(signed(claims(jti="张三 1"))).token_id == "张三 1"
    assert authenticator().caller_of(signed(claims())).token_id is None


@pytest.mark.parametrize("given", ["", "x" * 257, True, None, 42, ["a1"], {"a": 1}, "\ud800"])
def test_s12_a_jti_that_is_no_text_makes_the_token_invalid(given: object) -> None:
    assert refusal(signed(claims(jti=given))) is TokenInvalid

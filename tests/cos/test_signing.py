"""Signatures against Tencent's documents, four official SDKs' vectors, and the Python SDK itself."""

import base64
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from qcloud_cos import cos_auth

from gateway.cos import signing

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("signature_vectors.json").read_text("utf-8"))
KEYS = signing.Credentials(VECTORS["secret_id"], VECTORS["secret_key"])
REQUESTS = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["requests"]]
START, END = 1_700_000_000, 1_700_003_600


def sign(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> signing.ParsedAuthorization:
    text = signing.authorization(KEYS, method, path, query, headers, start=START, end=END)
    return signing.parse_authorization(text)


@pytest.mark.parametrize("vector", REQUESTS)
def test_every_vector_is_signed_as_documents_and_sdks_sign_it(vector: dict[str, Any]) -> None:
    start, end = map(int, vector["key_time"].split(";"))

    text = signing.authorization(
        KEYS, vector["method"], vector["path"], vector["query"], vector["headers"], start=start, end=end
    )

    assert text == vector["authorization"]


@pytest.mark.parametrize("vector", REQUESTS)
def test_every_vector_verifies(vector: dict[str, Any]) -> None:
    parsed = signing.parse_authorization(vector["authorization"])

    signing.verify(
        parsed,
        KEYS.secret_key,
        vector["method"],
        vector["path"],
        vector["query"],
        vector["headers"],
        now=int(vector["key_time"].split(";")[0]),
    )


@pytest.mark.parametrize("vector", REQUESTS)
def test_a_mismatch_shows_the_strings_that_were_expected(vector: dict[str, Any]) -> None:
    parsed = replace(signing.parse_authorization(vector["authorization"]), signature="0" * 40)

    with pytest.raises(signing.SignatureMismatch) as mismatch:
        signing.verify(
            parsed,
            KEYS.secret_key,
            vector["method"],
            vector["path"],
            vector["query"],
            vector["headers"],
            now=int(vector["key_time"].split(";")[0]),
        )

    assert mismatch.value.http_string == vector["http_string"]
    assert mismatch.value.string_to_sign == vector["string_to_sign"]


def test_the_post_policy_vector_holds() -> None:
    vector = VECTORS["post_policy"]
    text = base64.b64decode(vector["policy_base64"]).decode()

    assert signing.sign_policy(KEYS.secret_key, vector["key_time"], text) == vector["signature"]
    signing.verify_policy(KEYS.secret_key, vector["key_time"], text, vector["signature"], now=1_567_150_692)


def test_a_policy_that_was_changed_expired_or_garbled_is_refused() -> None:
    vector = VECTORS["post_policy"]
    text = base64.b64decode(vector["policy_base64"]).decode()
    key_time, signature = vector["key_time"], vector["signature"]

    with pytest.raises(signing.SignatureMismatch):
        signing.verify_policy(KEYS.secret_key, key_time, text + " ", signature, now=1_567_150_692)
    with pytest.raises(signing.SignatureExpired):
        signing.verify_policy(KEYS.secret_key, key_time, text, signature, now=1_567_157_893)
    with pytest.raises(signing.MalformedSignature):
        signing.verify_policy(KEYS.secret_key, "soon", text, signature, now=1_567_150_692)
    with pytest.raises(signing.MalformedSignature):
        signing.verify_policy(KEYS.secret_key, key_time, text, "nope", now=1_567_150_692)


@pytest.fixture
def sdk_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The SDK reads its clock itself: hold that clock still."""
    now = 1_700_000_060
    monkeypatch.setattr(cos_auth, "time", SimpleNamespace(time=lambda: now))
    return iter([now])


ODD = "abcXYZ019-_.~ !\"#$%&'()*+,/:;<=>?@[]^`{|}\\中文é😀"
HEADER_NAMES = ["Content-Type", "Content-MD5", "Cache-Control", "Range", "x-cos-acl", "X-Cos-Meta-A-b", "x-cos-meta-Z"]
QUERY_NAMES = ["uploads", "partNumber", "uploadId", "prefix", "key-marker", "Response-Content-Type", "a b", "é"]


def test_500_random_requests_are_signed_as_the_official_python_sdk_signs_them(sdk_clock: Iterator[int]) -> None:
    now = next(sdk_clock)
    rng = random.Random(500)

    def text(longest: int) -> str:
        return "".join(rng.choices(ODD, k=rng.randint(0, longest)))

    config = SimpleNamespace(
        _secret_id=KEYS.secret_id, _secret_key=KEYS.secret_key, _anonymous=False, _sign_host=True, _sign_params=True
    )
    for _ in range(500):
        method = rng.choice(["GET", "PUT", "POST", "HEAD", "DELETE"])
        key = "k" + text(40)
        query = {name: text(20) for name in rng.sample(QUERY_NAMES, rng.randint(0, 5))}
        headers = {name: text(20) for name in rng.sample(HEADER_NAMES, rng.randint(0, 5))}
        lifetime = rng.randint(1, 10_000)
        request = SimpleNamespace(method=method, url="http://b-1.cos.r.myqcloud.com:9000/", headers=dict(headers))
        cos_auth.CosS3Auth(config, key, query, lifetime)(request)
        theirs = request.headers["Authorization"]

        ours = signing.authorization(
            KEYS,
            method,
            "/" + key,
            query,
            {**headers, "Host": "b-1.cos.r.myqcloud.com"},
            start=now - 60,
            end=now + lifetime,
        )

        assert ours == theirs
        arrived = {name.upper(): value for name, value in headers.items()}
        arrived["HOST"] = "b-1.cos.r.myqcloud.com:9000"
        signing.verify(signing.parse_authorization(theirs), KEYS.secret_key, method, "/" + key, query, arrived, now=now)


def test_encoding_leaves_only_the_unreserved_and_can_be_undone() -> None:
    assert signing.encode("a b+c/é~*'()!") == "a%20b%2Bc%2F%C3%A9~%2A%27%28%29%21"
    assert unquote(signing.encode(ODD)) == ODD


def test_a_presigned_url_carries_signature_query_and_token_and_verifies() -> None:
    vector = next(v for v in VECTORS["requests"] if v["name"].startswith("V7"))
    keys = replace(KEYS, session_token="tok/en==")

    query = signing.presigned_query(
        keys, "PUT", vector["path"], vector["query"], vector["headers"], start=START, end=END
    )

    assert signing.encode_query(query) == (
        f"q-sign-algorithm=sha1&q-ak={KEYS.secret_id}&q-sign-time=1700000000%3B1700003600"
        "&q-key-time=1700000000%3B1700003600&q-header-list=content-type%3Bhost&q-url-param-list=x-cos-traffic-limit"
        f"&q-signature={vector['signature']}&x-cos-traffic-limit=819200&x-cos-security-token=tok%2Fen%3D%3D"
    )
    signing.verify(
        signing.parse_query(query), KEYS.secret_key, "PUT", vector["path"], query, vector["headers"], now=START
    )


@pytest.mark.parametrize("sent", ["h.example:9000", "h.example"])
def test_the_host_may_be_signed_with_its_port_or_without(sent: str) -> None:
    parsed = sign("GET", "/k", {}, {"host": sent})

    signing.verify(parsed, KEYS.secret_key, "GET", "/k", {}, {"Host": "h.example:9000"}, now=START)


def test_the_lists_names_may_be_written_in_any_case_and_order() -> None:
    text = signing.authorization(
        KEYS, "PUT", "/k", {"partNumber": "1", "uploadId": "u"}, {"host": "h", "x-cos-acl": "a"}, start=START, end=END
    )
    text = text.replace("partnumber;uploadid", "uploadId;partNumber").replace("host;x-cos-acl", "X-Cos-Acl;Host")

    signing.verify(
        signing.parse_authorization(text),
        KEYS.secret_key,
        "PUT",
        "/k",
        {"uploadid": "u", "PARTNUMBER": "1"},
        {"HOST": "h", "x-cos-acl": "a"},
        now=START,
    )


def test_what_is_not_listed_may_change_and_what_is_listed_may_not() -> None:
    parsed = sign("PUT", "/k", {"partNumber": "1"}, {"host": "h", "x-cos-acl": "private"})
    good: dict[str, Any] = {"query": {"partNumber": "1"}, "headers": {"host": "h", "X-COS-ACL": "private"}}

    signing.verify(parsed, KEYS.secret_key, "put", "/k", now=START, **good)
    signing.verify(
        parsed, KEYS.secret_key, "PUT", "/k", {**good["query"], "x": "1"}, {**good["headers"], "range": "r"}, now=START
    )

    changes: list[tuple[str, str, str, dict[str, str], dict[str, str]]] = [
        (KEYS.secret_key, "GET", "/k", good["query"], good["headers"]),
        (KEYS.secret_key, "PUT", "/K", good["query"], good["headers"]),
        (KEYS.secret_key, "PUT", "/k", {"partNumber": "2"}, good["headers"]),
        (KEYS.secret_key, "PUT", "/k", good["query"], {**good["headers"], "X-COS-ACL": "public-read"}),
        (KEYS.secret_key, "PUT", "/k", good["query"], {**good["headers"], "host": "other"}),
        ("another key", "PUT", "/k", good["query"], good["headers"]),
    ]
    for secret_key, method, path, query, headers in changes:
        with pytest.raises(signing.SignatureMismatch):
            signing.verify(parsed, secret_key, method, path, query, headers, now=START)


def test_an_empty_header_is_as_good_as_none() -> None:
    parsed = sign("PUT", "/k", {}, {"host": "h", "cache-control": ""})

    signing.verify(parsed, KEYS.secret_key, "PUT", "/k", {}, {"host": "h"}, now=START)
    signing.verify(parsed, KEYS.secret_key, "PUT", "/k", {}, {"host": "h", "Cache-Control": ""}, now=START)


@pytest.mark.parametrize("now", [START - 1, END + 1])
def test_a_signature_holds_only_inside_its_window(now: int) -> None:
    parsed = sign("GET", "/k", {}, {"host": "h"})

    with pytest.raises(signing.SignatureExpired) as expired:
        signing.verify(parsed, KEYS.secret_key, "GET", "/k", {}, {"host": "h"}, now=now)

    assert (expired.value.start, expired.value.end, expired.value.now) == (START, END, now)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("q-ak=", "q-akk="),
        ("sha1", "md5"),
        ("&q-signature=", "&q-signature=x"),
        ("q-sign-time=1700000000;", "q-sign-time=1700000000,"),
        ("q-key-time=1700000000;", "q-key-time=-1;"),
        ("&q-signature=", "&q-ak=other&q-signature="),
        (f"q-ak={KEYS.secret_id}", "q-ak="),
    ],
)
def test_a_signature_that_cannot_be_read_says_which_field(old: str, new: str) -> None:
    text = signing.authorization(KEYS, "GET", "/k", {}, {"host": "h"}, start=START, end=END)
    assert old in text

    with pytest.raises(signing.MalformedSignature, match=r"^q-|is repeated$"):
        signing.parse_authorization(text.replace(old, new))


@pytest.mark.parametrize("text", ["", "Bearer abc", "&&&", "q-ak", "=" * 5000])
def test_something_else_than_a_signature_is_malformed(text: str) -> None:
    with pytest.raises(signing.MalformedSignature):
        signing.parse_authorization(text)


def test_secrets_do_not_show_in_a_repr() -> None:
    shown = repr(signing.Credentials("id", "the-secret", "the-token", 5.0))

    assert "id" in shown
    assert "the-secret" not in shown
    assert "the-token" not in shown

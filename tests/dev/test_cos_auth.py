"""The local COS believes a request only when its signature, window and token hold."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.cos.signing import Credentials, authorization, encode_query, presigned_query
from gateway.domain.objects import Bucket
from tests.fakes.cos_caller import CosCaller
from tests.fakes.local_cos import BUCKET, KEY, OTHER_BUCKET, RunningCos, running_local_cos

NOW = 1_700_000_000
TEMPORARY = Credentials("AKIDtemporary", "temporary-secret", "session-token", NOW + 1000)
VECTORS = Path(__file__).parents[1] / "cos" / "signature_vectors.json"


def test_a_request_without_a_signature_is_denied(caller: CosCaller) -> None:
    answer = caller.call("GET", "k", signed=False)

    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert answer.text("ServerTime") is not None
    assert answer.text("Resource") == f"{BUCKET.host}/k"
    assert answer.text("RequestId") == answer.headers["x-cos-request-id"]


def test_the_error_of_a_head_request_has_no_body(caller: CosCaller) -> None:
    answer = caller.call("HEAD", "k", signed=False)

    assert (answer.status, answer.body, answer.headers["content-length"]) == (403, b"", "0")


def test_an_unknown_secret_id_is_named_so(cos: RunningCos) -> None:
    stranger = CosCaller(cos.port, BUCKET, Credentials("AKIDstranger", KEY.secret_key))

    assert stranger.call("GET", "k").code == "InvalidAccessKeyId"


def test_what_was_signed_must_be_what_comes(caller: CosCaller, cos: RunningCos) -> None:
    """Method, path, a signed query parameter and a signed header are each part of the signature."""
    signed = {"x-cos-traffic-limit": "819200"}
    query = {"partNumber": "1", "uploadId": "u"}
    honest = _sent_headers(caller, "PUT", "/a b", query, signed)

    results = [
        caller.send("PUT", f"/a%20b?{encode_query(query)}", honest, b""),
        caller.send("POST", f"/a%20b?{encode_query(query)}", honest, b""),
        caller.send("PUT", f"/a+b?{encode_query(query)}", honest, b""),
        caller.send("PUT", f"/a%2520b?{encode_query(query)}", honest, b""),
        caller.send("PUT", f"/a%20b?{encode_query({**query, 'partNumber': '2'})}", honest, b""),
        caller.send("PUT", f"/a%20b?{encode_query(query)}", {**honest, "x-cos-traffic-limit": "838860800"}, b""),
        caller.send("PUT", f"/a%20b?{encode_query(query)}", {**honest, "Host": OTHER_BUCKET.host}, b""),
    ]

    assert [answer.code for answer in results] == ["NoSuchUpload", *["SignatureDoesNotMatch"] * 6]


def test_a_signature_lives_from_its_start_to_its_end(caller: CosCaller) -> None:
    late = caller.call("GET", "k", window=(-600, -1))
    early = caller.call("GET", "k", window=(60, 600))

    assert (late.code, late.text("Message")) == ("AccessDenied", "Request has expired")
    assert (early.status, early.code) == (403, "RequestTimeTooSkewed")
    assert "date" in late.headers


@pytest.mark.parametrize("text", ["nonsense", "q-sign-algorithm=sha1", "Bearer x.y.z", "q-ak=" + "a" * 5000])
def test_an_unreadable_authorization_is_refused(caller: CosCaller, text: str) -> None:
    answer = caller.send("GET", "/k", {"Host": BUCKET.host, "Authorization": text})

    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_a_temporary_key_needs_its_own_token_and_ends(tmp_path: Path) -> None:
    now = [float(NOW)]
    with running_local_cos(tmp_path, keys=(TEMPORARY,), clock=lambda: now[0]) as cos:

        def code(token: str | None) -> str | None:
            key = Credentials(TEMPORARY.secret_id, TEMPORARY.secret_key, token)
            return CosCaller(cos.port, BUCKET, key, clock=lambda: now[0]).call("GET", "k").code

        before = [code("session-token"), code(None), code("another")]
        now[0] = NOW + 1000
        after = code("session-token")

    assert before == ["NoSuchKey", "AccessDenied", "AccessDenied"]
    assert after == "ExpiredToken"


def test_the_token_may_travel_in_a_presigned_url(tmp_path: Path) -> None:
    with running_local_cos(tmp_path, keys=(TEMPORARY,), clock=lambda: NOW) as cos:
        caller = CosCaller(cos.port, BUCKET, TEMPORARY)
        headers = {"host": BUCKET.host}
        query = presigned_query(TEMPORARY, "PUT", "/a/中", {}, headers, start=NOW, end=NOW + 9)

        sent = caller.send("PUT", f"/a%2F%E4%B8%AD?{encode_query(query)}", {"Host": BUCKET.host}, b"bytes")

        assert sent.status == 200
        assert cos.read(BUCKET, "a/中") == b"bytes"


DOCUMENT = json.loads(VECTORS.read_text())
EXAMPLE = Bucket("examplebucket-1250000000", "ap-beijing")
ON_OUR_HOST = [vector for vector in DOCUMENT["requests"] if vector["headers"].get("Host", EXAMPLE.host) == EXAMPLE.host]


@pytest.mark.parametrize("vector", ON_OUR_HOST, ids=lambda vector: str(vector["name"]))
def test_every_published_signature_holds_for_its_request_and_no_other(tmp_path: Path, vector: dict[str, Any]) -> None:
    """Sent over the wire as published, at the time that it was signed for."""
    key = Credentials(DOCUMENT["secret_id"], DOCUMENT["secret_key"])
    start = float(vector["key_time"].split(";")[0])
    headers = {"Host": EXAMPLE.host, "Content-Length": "0", **vector["headers"]}
    query = dict(vector["query"])
    if "presigned" in vector["name"]:
        query |= dict(pair.split("=", 1) for pair in vector["authorization"].split("&"))
    else:
        headers["Authorization"] = vector["authorization"]
    path = quote(vector["path"], safe="/-_.~")
    body = bytes(int(headers["Content-Length"]))
    with running_local_cos(tmp_path, buckets=(EXAMPLE,), keys=(key,), clock=lambda: start) as cos:
        caller = CosCaller(cos.port, EXAMPLE, key)
        honest = caller.send(vector["method"].upper(), f"{path}?{encode_query(query)}", headers, body)
        other = caller.send(vector["method"].upper(), f"{path}x?{encode_query(query)}", headers, body)

    # Some go on to a refusal of another kind: there is no such upload, or the body is not the one of the page.
    assert honest.status == 200 or honest.code in {"NoSuchUpload", "NoSuchKey", "BadDigest", "AppendPositionErr"}
    assert other.code == "SignatureDoesNotMatch"


def test_an_unknown_bucket_or_region_is_no_bucket(cos: RunningCos, caller: CosCaller) -> None:
    hosts = [
        "nobody-1250000000.cos.ap-guangzhou.myqcloud.com",
        "files-1250000000.cos.ap-beijing.myqcloud.com",
        "files-1250000000.cos.ap-guangzhou.example.com",
        "example.com",
    ]

    codes = [caller.send("GET", "/k", {"Host": host}).code for host in hosts]

    assert codes == ["NoSuchBucket"] * len(hosts)


def test_buckets_are_apart_and_have_their_fallback_host(cos: RunningCos, caller: CosCaller) -> None:
    other = CosCaller(cos.port, OTHER_BUCKET, KEY)
    fallback = {"Host": BUCKET.host.replace("myqcloud.com", "tencentcos.cn")}
    caller.call("PUT", "k", body=b"here", headers=fallback)
    other.call("PUT", "k", body=b"there")

    assert (cos.read(BUCKET, "k"), cos.read(OTHER_BUCKET, "k")) == (b"here", b"there")


def _sent_headers(
    caller: CosCaller, method: str, path: str, query: dict[str, str], headers: dict[str, str]
) -> dict[str, str]:
    now = int(caller.clock())
    sent = {"Host": BUCKET.host, **headers}
    signature = authorization(caller.credentials, method, path, query, sent, start=now - 9, end=now + 99)
    return {**sent, "Authorization": signature}

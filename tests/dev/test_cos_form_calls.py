"""POST Object at the local COS: the policy and the wx SDK's signature decide, and only a whole form is stored."""

import base64
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.cos.signing import Credentials, authorization, sign_policy
from gateway.domain.checksums import crc64
from gateway.domain.objects import Bucket
from tests.fakes.cos_caller import CallerAnswer, CosCaller, etag_of, md5
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos

BODY = random.Random(7).randbytes(200_003)
BOUNDARY = "----boundary7MA4YWxk"
VECTORS = Path(__file__).parents[1] / "cos" / "signature_vectors.json"
Fields = Mapping[str, str]


def form_body(fields: Fields, body: bytes = BODY, *, after: str = "", filename: str = "my 文件.bin") -> bytes:
    head = "".join(_field(name, value) for name, value in fields.items())
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    return (head + file).encode() + body + f"\r\n{after}--{BOUNDARY}--\r\n".encode()


def post(caller: CosCaller, body: bytes, host: str = BUCKET.host) -> CallerAnswer:
    headers = {"Host": host, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return caller.send("POST", "/", headers, body)


def policy_fields(
    caller: CosCaller, conditions: list[Any], fields: Fields, *, lifetime: float = 600, key: Credentials = KEY
) -> dict[str, str]:
    """*fields* with a policy of *conditions* and its signature."""
    now = caller.clock()
    key_time = f"{int(now) - 60};{int(now) + 600}"
    document = {
        "expiration": datetime.fromtimestamp(now + lifetime, UTC).isoformat().replace("+00:00", "Z"),
        "conditions": [
            {"q-sign-algorithm": "sha1"},
            {"q-ak": key.secret_id},
            {"q-sign-time": key_time},
            *conditions,
        ],
    }
    text = json.dumps(document)
    return {
        **fields,
        "policy": base64.b64encode(text.encode()).decode(),
        "q-sign-algorithm": "sha1",
        "q-ak": key.secret_id,
        "q-key-time": key_time,
        "q-signature": sign_policy(key.secret_key, key_time, text),
    }


def test_a_form_with_a_policy_becomes_an_object(caller: CosCaller, cos: RunningCos) -> None:
    conditions = [
        {"bucket": BUCKET.name},
        {"acl": "private"},
        ["starts-with", "$key", "user/1/"],
        ["eq", "$Content-Type", "image/jpeg"],
        ["content-length-range", 1, len(BODY)],
    ]
    fields = {"key": "user/1/${filename}", "acl": "private", "Content-Type": "image/jpeg", "x-cos-meta-a": "b"}

    answer = post(caller, form_body(policy_fields(caller, conditions, fields)))

    key = "user/1/my 文件.bin"
    assert (answer.status, answer.body) == (204, b"")
    assert (answer.headers["etag"], answer.headers["x-cos-hash-crc64ecma"]) == (etag_of(BODY), str(crc64(BODY)))
    assert answer.headers["location"] == f"http://{BUCKET.host}/user/1/my%20%E6%96%87%E4%BB%B6.bin"
    assert cos.read(BUCKET, key) == BODY
    assert cos.headers(BUCKET, key) == {"content-type": "image/jpeg", "x-cos-acl": "private", "x-cos-meta-a": "b"}


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        ([["starts-with", "$key", "other/"]], {}),
        ([{"acl": "private"}], {"acl": "public-read"}),
        ([{"acl": "private"}], {}),
        ([["eq", "$x-cos-meta-a", "b"]], {"x-cos-meta-a": "c"}),
        ([{"bucket": "another-1250000000"}], {}),
    ],
)
def test_a_condition_that_does_not_hold_denies(
    caller: CosCaller, cos: RunningCos, conditions: list[Any], fields: dict[str, str]
) -> None:
    answer = post(caller, form_body(policy_fields(caller, conditions, {"key": "k", **fields})))

    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert cos.keys(BUCKET) == []


@pytest.mark.parametrize(
    ("smallest", "largest", "code"),
    [(0, len(BODY) - 1, "EntityTooLarge"), (len(BODY) + 1, 10**9, "EntityTooSmall")],
)
def test_a_file_out_of_its_range_is_refused(
    caller: CosCaller, cos: RunningCos, smallest: int, largest: int, code: str
) -> None:
    conditions = [["content-length-range", smallest, largest]]

    answer = post(caller, form_body(policy_fields(caller, conditions, {"key": "k"})))

    assert (answer.status, answer.code) == (400, code)
    assert cos.keys(BUCKET) == []


def test_an_expired_policy_is_denied(caller: CosCaller) -> None:
    answer = post(caller, form_body(policy_fields(caller, [], {"key": "k"}, lifetime=-1)))

    assert (answer.code, answer.text("Message")) == ("AccessDenied", "Request has expired")


def test_a_changed_policy_or_key_does_not_match(caller: CosCaller) -> None:
    fields = policy_fields(caller, [], {"key": "k"})
    other = policy_fields(caller, [["starts-with", "$key", ""]], {})["policy"]
    wrong_secret = policy_fields(caller, [], {"key": "k"}, key=Credentials(KEY.secret_id, "wrong"))
    stranger = policy_fields(caller, [], {"key": "k"}, key=Credentials("AKIDstranger", KEY.secret_key))

    assert post(caller, form_body({**fields, "policy": other})).code == "SignatureDoesNotMatch"
    assert post(caller, form_body(wrong_secret)).code == "SignatureDoesNotMatch"
    assert post(caller, form_body(stranger)).code == "InvalidAccessKeyId"


@pytest.mark.parametrize(
    "policy",
    [
        "not base64",
        base64.b64encode(b"not json").decode(),
        base64.b64encode(b"{}").decode(),
        base64.b64encode(b'{"expiration": "soon", "conditions": []}').decode(),
        base64.b64encode(b'{"expiration": "2030-01-01T00:00:00Z", "conditions": []}').decode(),
        base64.b64encode(b'{"expiration": "2030-01-01T00:00:00Z", "conditions": [["like", "$key", "a"]]}').decode(),
    ],
)
def test_a_policy_that_is_none_is_invalid(caller: CosCaller, policy: str) -> None:
    fields = {**policy_fields(caller, [], {"key": "k"}), "policy": policy}

    assert post(caller, form_body(fields)).code == "InvalidPolicyDocument"


def test_the_policy_of_the_documentation_holds(tmp_path: Path) -> None:
    document = json.loads(VECTORS.read_text())
    vector = document["post_policy"]
    bucket = Bucket("examplebucket-1250000000", "ap-beijing")
    key = Credentials(document["secret_id"], document["secret_key"])
    start = float(vector["key_time"].split(";")[0])
    fields = {
        "key": "folder/subfolder/${filename}",
        "acl": "default",
        "Content-Type": "image/jpeg",
        "success_action_redirect": "https://my.website/done",
        "x-cos-server-side-encryption": "AES256",
        "policy": vector["policy_base64"],
        "q-sign-algorithm": "sha1",
        "q-ak": key.secret_id,
        "q-key-time": vector["key_time"],
        "q-signature": vector["signature"],
    }
    with running_local_cos(tmp_path, buckets=(bucket,), keys=(key,), clock=lambda: start) as cos:
        caller = CosCaller(cos.port, bucket, key)
        answer = post(caller, form_body(fields, filename="a.jpg"), bucket.host)
        denied = post(caller, form_body({**fields, "key": "elsewhere"}), bucket.host)

        assert cos.read(bucket, "folder/subfolder/a.jpg") == BODY
    assert answer.status == 303
    assert answer.headers["location"].startswith(
        "https://my.website/done?bucket=examplebucket-1250000000&key=folder%2Fsubfolder%2Fa.jpg&etag=%22"
    )
    assert denied.code == "AccessDenied"


def test_the_wx_sdk_signs_a_form_as_a_post_to_the_root(caller: CosCaller, cos: RunningCos) -> None:
    """x-cos-acl is signed as a header and travels as the field acl."""
    now = int(caller.clock())
    signed = {"Host": BUCKET.host, "x-cos-acl": "public-read", "x-cos-meta-a": "b"}
    signature = authorization(KEY, "POST", "/", {}, signed, start=now - 1, end=now + 99)
    fields = {"key": "k", "success_action_status": "201", "Signature": signature, "x-cos-meta-a": "b"}

    answer = post(caller, form_body({**fields, "acl": "public-read", "Content-Type": ""}))
    changed = post(caller, form_body({**fields, "acl": "private"}))

    assert (answer.status, answer.text("Key"), answer.text("ETag")) == (201, "k", etag_of(BODY))
    assert cos.headers(BUCKET, "k") == {"x-cos-acl": "public-read", "x-cos-meta-a": "b"}
    assert (changed.status, changed.code) == (403, "SignatureDoesNotMatch")


def test_a_form_without_a_signature_is_denied(caller: CosCaller) -> None:
    assert post(caller, form_body({"key": "k"})).code == "AccessDenied"


@pytest.mark.parametrize("status", ["200", "201", "204", "999"])
def test_the_form_chooses_its_status(caller: CosCaller, status: str) -> None:
    fields = policy_fields(caller, [], {"key": "k", "success_action_status": status})

    assert post(caller, form_body(fields)).status == (int(status) if status != "999" else 204)


def test_a_digest_in_the_form_is_the_file_s(caller: CosCaller, cos: RunningCos) -> None:
    def digest(body: bytes) -> dict[str, str]:
        return policy_fields(caller, [], {"key": "k", "Content-MD5": base64.b64encode(md5(body)).decode()})

    assert post(caller, form_body(digest(b"other"))).code == "BadDigest"
    assert cos.keys(BUCKET) == []
    assert post(caller, form_body(digest(BODY))).status == 204


def test_only_a_whole_form_with_one_file_at_its_end_is_stored(caller: CosCaller, cos: RunningCos) -> None:
    fields = policy_fields(caller, [], {"key": "k"})
    whole = form_body(fields)
    second = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nx\r\n'
    bodies = [
        whole[: -len(BOUNDARY)],
        whole[:-5],
        whole[: len(whole) // 2],
        b"",
        b"no form at all",
        form_body(fields, after=_field("late", "x")),
        form_body(fields, after=second),
        ("".join(_field(*row) for row in fields.items()) + f"--{BOUNDARY}--\r\n").encode(),
        form_body({**fields, "x": "y" * 70_000}),
        form_body({**fields, **{f"x{n}": "y" for n in range(100)}}),
    ]

    codes = [post(caller, body).code for body in bodies]

    broken = "MalformedPOSTRequest"
    wrong_count = "IncorrectNumberOfFilesInPostRequest"
    assert codes == [broken, broken, broken, broken, broken, broken, wrong_count, wrong_count, broken, broken]
    assert cos.keys(BUCKET) == []


def test_a_form_without_a_key_or_a_form_type_is_refused(caller: CosCaller) -> None:
    no_key = policy_fields(caller, [], {})
    not_a_form = caller.send("POST", "/", {"Host": BUCKET.host, "Content-Type": "text/plain"}, b"x")

    assert post(caller, form_body(no_key)).code == "InvalidObjectName"
    assert not_a_form.code == "MalformedPOSTRequest"


def _field(name: str, value: str) -> str:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'

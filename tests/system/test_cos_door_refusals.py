"""What the COS door refuses, each with COS's own code and status, and nothing half-stored stays behind."""

import base64
import hashlib
import hmac
import json
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.cos_caller import CallerAnswer
from tests.system.cos_door import Door, Key
from tests.system.processes import LocalCos
from tests.system.stack import MIB, Caller, body, good, require_problem

BODY = body("cos door refusals", 2 * MIB + 3)
HOST = f"{LocalCos.BUCKET}.cos.{LocalCos.REGION}.myqcloud.com"


@pytest.fixture
def key(door: Door, dora: Caller) -> Key:
    return door.key(dora)


def refused(answer: CallerAnswer, status: int, code: str) -> CallerAnswer:
    """*answer*, which is COS's error document."""
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["content-type"] == "application/xml"
    assert answer.text("RequestId") == answer.headers["x-cos-request-id"]
    assert (answer.text("ServerTime") is not None) == (status == 403 or code == "ExpiredToken")
    return answer


def assert_nothing_stored(door: Door, caller: Caller, name: str) -> None:
    assert door.cos.open_uploads(name) == set()
    with pytest.raises(FileNotFoundError):
        door.cos.read(name)
    tasks = good(caller.call("GET", "/v1/tasks"))["tasks"]
    assert {task["state"] for task in tasks if task["key"] == name} <= {"canceled", "error"}


# --- keys and signatures


def test_forged_keys_and_signatures(door: Door, dora: Caller, key: Key) -> None:
    other = door.key(door.stack.caller("another"))
    forgeries = {
        ("InvalidAccessKeyId", 403): [
            replace(key, secret_id="AKID" + "0" * 32),
            replace(key, secret_id="AKIDsomebodyelses"),
            replace(key, token=other.token),
            replace(key, token=key.token and key.token[:-4] + "AAAA"),
            replace(key, token="t.x"),
        ],
        ("SignatureDoesNotMatch", 403): [replace(key, secret_key="0" * 40), replace(key, secret_key=other.secret_key)],
        ("AccessDenied", 403): [replace(key, token=None)],
    }

    for (code, status), keys in forgeries.items():
        for forged in keys:
            refused(forged.caller().call("PUT", "forged", body=BODY), status, code)
    refused(key.caller().call("PUT", "forged", body=BODY, signed=False), 403, "AccessDenied")
    assert_nothing_stored(door, dora, "forged")


def test_windows_that_are_over_or_still_to_come(key: Key) -> None:
    over = key.caller().call("PUT", "late", body=b"x", window=(-7200, -3600))
    to_come = key.caller().call("PUT", "early", body=b"x", window=(3600, 7200))
    a_little_early = key.caller().call("PUT", "a little early", body=b"x", window=(10, 7200))

    assert refused(over, 403, "AccessDenied").text("Message") == "Request has expired"
    refused(to_come, 403, "RequestTimeTooSkewed")
    assert a_little_early.status == 200


def test_a_key_that_has_run_out(door: Door, dora: Caller) -> None:
    key = door.key(dora, ttl_seconds=1)
    time.sleep(1.1)

    refused(key.caller().call("PUT", "run out", body=b"x"), 400, "ExpiredToken")


def test_a_signature_is_good_for_its_own_request_only(door: Door, dora: Caller, key: Key) -> None:
    caller = key.caller()
    signed = {"Host": HOST, "x-cos-security-token": key.token or "", "x-cos-traffic-limit": "819200"}
    signed["Authorization"] = _authorization(key, "PUT", "/once", {"partNumber": "1", "uploadId": "u"}, signed)
    target = "/once?partNumber=1&uploadId=u"

    for method, where, changed in (
        ("PUT", "/another?partNumber=1&uploadId=u", {}),
        ("PUT", "/once?partNumber=2&uploadId=u", {}),
        ("DELETE", target, {}),
        ("PUT", target, {"x-cos-traffic-limit": "838860800"}),
        ("PUT", target, {"Host": "localhost"}),
    ):
        refused(caller.send(method, where, {**signed, **changed}, b"x"), 403, "SignatureDoesNotMatch")
    refused(caller.send("PUT", target, signed, b"x"), 404, "NoSuchUpload")


def test_a_key_is_for_its_own_bucket(door: Door, key: Key) -> None:
    elsewhere = replace(key, bucket="elsewhere-1250000000")

    refused(elsewhere.caller().call("PUT", "k", body=b"x"), 404, "NoSuchBucket")
    at_cos_itself = replace(key, port=door.cos.port)
    refused(at_cos_itself.caller().call("PUT", "k", body=b"x"), 403, "InvalidAccessKeyId")


def test_what_the_gateway_does_not_do(key: Key) -> None:
    caller = key.caller()

    refused(caller.call("GET", "some/object"), 403, "AccessDenied")
    refused(caller.call("GET", "", {"prefix": "a"}), 403, "AccessDenied")
    refused(caller.call("DELETE", "some/object"), 403, "AccessDenied")
    refused(caller.call("POST", "some/object"), 405, "MethodNotAllowed")
    refused(caller.call("GET", "some/object", {"acl": ""}), 501, "NotImplemented")
    refused(caller.call("PUT", "", {"cors": ""}, body=b"<x/>"), 501, "NotImplemented")
    refused(caller.call("PUT", "copy", headers={"x-cos-copy-source": f"{HOST}/k"}), 501, "NotImplemented")
    assert caller.call("HEAD", "no/such/object").status == 404
    assert caller.call("HEAD", "no/such/object").body == b""


# --- what a key may be asked for


def test_a_key_is_never_wider_than_its_token(door: Door) -> None:
    narrow = door.stack.caller("narrow", prefix="mine/", actions=["keys", "create", "upload"])
    bare = door.stack.caller("bare", actions=["create"])

    require_problem(narrow.call("POST", "/v1/keys", json={"prefix": "theirs/"}), 403, "key_not_allowed")
    require_problem(narrow.call("POST", "/v1/keys", json={"prefix": "min"}), 403, "key_not_allowed")
    require_problem(narrow.call("POST", "/v1/keys", json={"bucket": "elsewhere"}), 400, "unknown_destination")
    require_problem(narrow.call("POST", "/v1/keys", json={"ttl_seconds": 7201}), 400, "invalid_field")
    require_problem(bare.call("POST", "/v1/keys", json={}), 403, "forbidden")
    key = door.key(narrow, prefix="mine/deeper/")
    assert key.caller().call("PUT", "mine/deeper/k", body=b"x").status == 200
    refused(key.caller().call("PUT", "mine/k", body=b"x"), 403, "AccessDenied")
    refused(key.caller().call("GET", "", {"uploads": ""}), 403, "AccessDenied")


def test_a_key_ends_with_its_token(door: Door) -> None:
    soon = door.stack.caller("soon", seconds=90)

    key = door.key(soon, ttl_seconds=7200)

    assert 80 <= key.expired_time - time.time() <= 90
    assert abs(key.start_time - time.time()) < 5


# --- bodies and lists


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("k" * 851, 400, "KeyTooLong"),
        ("中" * 284, 400, "KeyTooLong"),
        ("a/../b", 400, "InvalidURI"),
        ("./a", 400, "InvalidURI"),
        ("/a", 400, "InvalidObjectName"),
        ("a\nb", 400, "InvalidObjectName"),
    ],
)
def test_keys_that_no_object_may_have(key: Key, name: str, status: int, code: str) -> None:
    refused(key.caller().call("PUT", name, body=b"x"), status, code)


def test_headers_that_cos_would_refuse(key: Key) -> None:
    caller = key.caller()
    for code, headers in (
        ("InvalidArgument", {"x-cos-acl": "everybody"}),
        ("NotSupportedStorageClass", {"x-cos-storage-class": "TAPE"}),
        ("InvalidArgument", {"x-cos-traffic-limit": "1"}),
        ("InvalidArgument", {"x-cos-traffic-limit": "fast"}),
        ("InvalidArgument", {"x-cos-meta-a": "m" * 2100}),
        ("InvalidDigest", {"Content-MD5": "no"}),
        ("BadDigest", {"Content-MD5": base64.b64encode(b"0" * 16).decode()}),
    ):
        refused(caller.call("PUT", "headers", headers=headers, body=BODY), 400, code)


def test_parts_that_are_none(door: Door, dora: Caller, key: Key) -> None:
    caller = key.caller()
    upload_id = caller.call("POST", "parts", {"uploads": ""}).text("UploadId") or ""

    for number in ("0", "10001", "-1", "x", "", "1.5", "１"):
        answer = caller.call("PUT", "parts", {"partNumber": number, "uploadId": upload_id}, body=b"x")
        refused(answer, 400, "InvalidArgument")
    query = {"partNumber": "1", "uploadId": upload_id}
    refused(caller.call("PUT", "parts", query, body=iter([b"x"])), 411, "MissingContentLength")
    refused(
        caller.call("PUT", "parts", query, body=BODY, headers={"Content-MD5": base64.b64encode(b"0" * 16).decode()}),
        400,
        "BadDigest",
    )
    refused(caller.call("PUT", "another", query, body=b"x"), 404, "NoSuchUpload")
    refused(caller.call("PUT", "parts", {**query, "uploadId": upload_id + "0"}, body=b"x"), 404, "NoSuchUpload")
    refused(caller.call("GET", "parts", {"uploadId": ""}), 400, "ListPartUploadIdIsEmpty")
    assert caller.call("DELETE", "parts", {"uploadId": upload_id}).status == 204
    assert_nothing_stored(door, dora, "parts")


def test_lists_of_parts_that_cannot_be_completed(key: Key) -> None:
    caller = key.caller()
    upload = {"uploadId": caller.call("POST", "lists", {"uploads": ""}).text("UploadId") or ""}
    etags = [
        caller.call("PUT", "lists", {"partNumber": str(number), **upload}, body=piece).headers["etag"]
        for number, piece in ((1, b"small"), (2, BODY))
    ]

    def complete(*rows: tuple[int, str], **headers: str) -> CallerAnswer:
        return complete_with(_list(*rows), **headers)

    def complete_with(text: str, **headers: str) -> CallerAnswer:
        return caller.call("POST", "lists", upload, body=text.encode(), headers=headers)

    refused(complete((2, etags[1]), (1, etags[0])), 400, "InvalidPartOrder")
    refused(complete((2, etags[1]), (2, etags[1])), 400, "InvalidPartOrder")
    refused(complete((1, etags[0]), (2, etags[0])), 400, "InvalidPart")
    refused(complete((2, etags[1])), 400, "InvalidPart")
    refused(complete((1, etags[0]), (3, etags[1])), 400, "InvalidPart")
    refused(complete((1, etags[0]), (2, etags[1])), 400, "EntityTooSmall")
    refused(complete(*((number, etags[0]) for number in range(1, 10_002))), 400, "MalformedXML")
    refused(complete(), 400, "MalformedXML")
    refused(complete((1, etags[0]), **{"Content-MD5": base64.b64encode(b"0" * 16).decode()}), 400, "BadDigest")
    refused(complete_with("no xml"), 400, "MalformedXML")
    refused(complete_with(""), 400, "MalformedXML")
    bomb = '<!DOCTYPE a [<!ENTITY b "' + "b" * 1000 + '">]>' + _list((1, "&b;" * 1000))
    refused(complete_with(bomb), 400, "MalformedXML")
    refused(complete_with("<CompleteMultipartUpload>" + "<Part>" * 100), 400, "MalformedXML")
    refused(complete_with("<CompleteMultipartUpload>" + "<a/>" * 100_000), 400, "MalformedXML")
    refused(complete_with(_list((1, etags[0])) + " " * (MIB + MIB // 2)), 400, "XMLSizeLimit")
    # After all that the upload is as it was.
    assert caller.call("GET", "lists", upload).texts("PartNumber") == ["1", "2"]
    assert complete((1, etags[0])).status == 200


def test_pages_that_are_none(key: Key) -> None:
    for name in ("max-uploads=0", "max-uploads=1001", "max-uploads=x", "encoding-type=base64"):
        query = dict([name.split("=")])
        refused(key.caller().call("GET", "", {"uploads": "", **query}), 400, "InvalidArgument")


# --- forms


def test_a_form_with_a_policy_stores_what_the_policy_allows(door: Door, key: Key) -> None:
    for status, fields in (
        (204, {}),
        (200, {"success_action_status": "200"}),
        (201, {"success_action_status": "201"}),
        (303, {"success_action_redirect": "https://example.com/done?a=1"}),
    ):
        fields |= {"Content-Type": "text/x", "x-cos-meta-colour": "red"}
        answer = _post(key, {"key": f"form/{status}/${{filename}}", **fields}, BODY)
        assert answer.status == status
        assert answer.headers["etag"] == f'"{hashlib.md5(BODY).hexdigest()}"'  # noqa: S324 -- COS's ETag is one
        assert door.cos.read(f"form/{status}/中 a.bin") == BODY
        if status == 303:
            assert answer.headers["location"].startswith("https://example.com/done?a=1&bucket=")
        if status == 201:
            assert answer.text("Key") == "form/201/中 a.bin"


def test_forms_that_their_policy_or_signature_does_not_allow(door: Door, dora: Caller, key: Key) -> None:
    lax = [["starts-with", "$key", ""]]
    for code, status, conditions, fields in (
        ("AccessDenied", 403, [["starts-with", "$key", "allowed/"]], {}),
        ("AccessDenied", 403, [["eq", "$x-cos-meta-a", "b"], *lax], {}),
        ("AccessDenied", 403, [{"bucket": "elsewhere-1250000000"}, *lax], {}),
        ("AccessDenied", 403, [{"acl": "private"}, *lax], {"acl": "public-read"}),
        ("EntityTooLarge", 400, [["content-length-range", 1, MIB], *lax], {}),
        ("EntityTooSmall", 400, [["content-length-range", 3 * MIB, 4 * MIB], *lax], {}),
        ("SignatureDoesNotMatch", 403, lax, {"q-signature": "0" * 40}),
        ("InvalidArgument", 400, lax, {"q-signature": "no"}),
        ("InvalidAccessKeyId", 403, lax, {"q-ak": "AKID" + "0" * 32}),
        ("AccessDenied", 403, lax, {"x-cos-security-token": ""}),
        ("InvalidPolicyDocument", 400, lax, {"policy": "no base64"}),
        ("InvalidArgument", 400, lax, {"success_action_redirect": "javascript:alert(1)"}),
    ):
        refused(_post(key, {"key": "refused", **fields}, BODY, conditions), status, code)
    late = _post(key, {"key": "refused"}, BODY, lax, expires=-60)
    assert refused(late, 403, "AccessDenied").text("Message") == "Request has expired"
    altered = json.dumps({"expiration": "2099-01-01T00:00:00Z", "conditions": lax}).encode()
    answer = _post(key, {"key": "refused", "policy": base64.b64encode(altered).decode()}, BODY, lax)
    refused(answer, 403, "SignatureDoesNotMatch")
    assert_nothing_stored(door, dora, "refused")


def test_a_form_s_extra_fields_are_ignored_where_cos_knows_none_and_judged_where_it_does(
    door: Door, dora: Caller, key: Key
) -> None:
    lax = [["starts-with", "$key", ""]]
    assert _post(key, {"key": "extra", "x-unknown": "1", "submit": "Send"}, BODY, lax).status == 204
    assert door.cos.read("extra") == BODY

    form = {"Host": HOST, "Content-Type": "multipart/form-data; boundary=b"}
    good_form = _form(_signed_fields(key, {"key": "more"}, lax, 600), BODY)
    again = b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nelsewhere\r\n'
    after_the_file = good_form.removesuffix(b"--b--\r\n") + again + b"--b--\r\n"
    too_many = _form(_signed_fields(key, {"key": "more", **{f"x-{n}": "" for n in range(300)}}, lax, 600), BODY)
    for raw in (again + good_form, after_the_file, too_many):
        refused(key.caller().send("POST", "/", form, raw), 400, "MalformedPOSTRequest")
    refused(_post(key, {"key": "more", "x-cos-storage-class": "GOLD"}, BODY, lax), 400, "NotSupportedStorageClass")
    assert_nothing_stored(door, dora, "more")
    assert_nothing_stored(door, dora, "elsewhere")


def test_forms_that_are_none(door: Door, dora: Caller, key: Key) -> None:
    caller, form = key.caller(), {"Host": HOST, "Content-Type": "multipart/form-data; boundary=b"}
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    field = b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\n'

    refused(caller.send("POST", "/", {"Host": HOST}, b"x"), 400, "MalformedPOSTRequest")
    refused(caller.send("POST", "/", form, b"no form"), 400, "MalformedPOSTRequest")
    refused(caller.send("POST", "/", form, field + b"k\r\n--b--\r\n"), 400, "MalformedPOSTRequest")
    refused(caller.send("POST", "/", form, file + b"x\r\n--b--\r\n"), 403, "AccessDenied")
    refused(caller.send("POST", "/", form, field + b"k" * 5000 + b"\r\n"), 400, "MalformedPOSTRequest")
    many = b"".join(field.replace(b"key", b"f%d" % number) + bytes(4000) + b"\r\n" for number in range(17))
    refused(caller.send("POST", "/", form, many + file + b"x\r\n--b--\r\n"), 400, "MalformedPOSTRequest")
    cut = _form(_signed_fields(key, {"key": "cut"}, [["starts-with", "$key", ""]], 600), BODY)[: -len(BODY) // 2]
    refused(caller.send("POST", "/", form, cut), 400, "IncompleteBody")
    assert_nothing_stored(door, dora, "cut")


# --- 100 Continue


def test_bytes_are_asked_for_only_when_signature_and_policy_agree(door: Door) -> None:
    key = door.key(door.stack.caller("expecting", prefix="mine/"))

    for name, signed, first_line in (
        ("mine/k", True, b"HTTP/1.1 100 "),
        ("mine/k", False, b"HTTP/1.1 403 "),
        ("theirs/k", True, b"HTTP/1.1 403 "),
        ("mine/../k", True, b"HTTP/1.1 400 "),
    ):
        headers = {"Host": HOST, "x-cos-security-token": key.token or ""}
        headers["Authorization"] = _authorization(
            key if signed else replace(key, secret_key="0"), "PUT", f"/{name}", {}, headers
        )
        lines = [f"PUT /{name} HTTP/1.1", *(f"{header}: {value}" for header, value in headers.items())]
        lines += ["Content-Length: 100000", "Expect: 100-continue"]
        with socket.create_connection(("127.0.0.1", key.port), timeout=10) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            assert connection.recv(4096).startswith(first_line), name


# --- pages of other origins


def test_only_pages_of_configured_origins_may_read(door: Door, dora: Caller) -> None:
    gateway, listed = door.another(allowed_origins="https://app.example")
    key = listed.key(dora.at(gateway))
    asks = {"Host": HOST, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-cos-acl,etag"}

    preflight = key.caller().send("OPTIONS", "/k", {**asks, "Origin": "https://app.example"})
    foreign = key.caller().send("OPTIONS", "/k", {**asks, "Origin": "https://evil.example"})
    put = key.caller().call("PUT", "cors", body=b"x", headers={"Origin": "https://app.example"})
    foreign_put = key.caller().call("PUT", "cors", body=b"x", headers={"Origin": "https://evil.example"})

    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert preflight.headers["access-control-allow-headers"] == "x-cos-acl,etag"
    assert "access-control" not in preflight.headers["access-control-expose-headers"]
    refused(foreign, 403, "AccessDenied")
    exposed = put.headers["access-control-expose-headers"].split(", ")
    assert {"ETag", "Date", "Content-Length", "x-cos-request-id", "x-cos-hash-crc64ecma"} <= set(exposed)
    assert "access-control-allow-origin" not in foreign_put.headers


# --- what the requests above are made of


def _list(*rows: tuple[int, str]) -> str:
    parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in rows)
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"


def _authorization(key: Key, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> str:
    """Tencent's own signature, by its SDK."""
    sdk: Any = key.python_sdk()
    made: str = sdk.get_auth(
        Method=method, Bucket=key.bucket, Key=path, Params=query, Headers={"host": HOST, **headers}, SignHost=False
    )
    return made


def _hmac(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), "sha1").hexdigest()


def _signed_fields(key: Key, fields: dict[str, str], conditions: list[Any], expires: int) -> dict[str, str]:
    now = int(time.time())
    key_time = f"{now - 60};{now + 600}"
    expiration = datetime.fromtimestamp(now + expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    mandatory = [{"q-sign-algorithm": "sha1"}, {"q-ak": key.secret_id}, {"q-sign-time": key_time}]
    policy = json.dumps({"expiration": expiration, "conditions": [*mandatory, *conditions]})
    to_sign = hashlib.sha1(policy.encode()).hexdigest()  # noqa: S324 -- COS's signature
    signed = {
        "policy": base64.b64encode(policy.encode()).decode(),
        "q-sign-algorithm": "sha1",
        "q-ak": key.secret_id,
        "q-key-time": key_time,
        "q-signature": _hmac(_hmac(key.secret_key, key_time), to_sign),
        "x-cos-security-token": key.token or "",
    }
    return signed | fields


def _form(fields: dict[str, str], data: bytes) -> bytes:
    lines = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="中 a.bin"\r\n\r\n'
    return ("".join(lines) + file).encode() + data + b"\r\n--b--\r\n"


def _post(
    key: Key, fields: dict[str, str], data: bytes, conditions: list[Any] | None = None, *, expires: int = 600
) -> CallerAnswer:
    signed = _signed_fields(key, fields, [["starts-with", "$key", ""]] if conditions is None else conditions, expires)
    headers = {"Host": HOST, "Content-Type": "multipart/form-data; boundary=b"}
    return key.caller().send("POST", "/", headers, _form(signed, data))

"""Requests to COS: targets, queries, passed-on headers, and what of them is signed."""

import base64
import hashlib

import pytest

from gateway.cos import signing, wire_requests
from gateway.cos.signing import Credentials
from gateway.domain.errors import InvalidMetadata
from gateway.domain.objects import Bucket, ETag, ObjectAddress, UploadId

BUCKET = Bucket("b-125", "ap-beijing")
AT = ObjectAddress(BUCKET, "dir/a b.bin")
UPLOAD = UploadId("1585130821cbb7df")
KEYS = Credentials("id", "secret", "tok/en==")


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("a/b.txt", "/a/b.txt"),
        ("中 文+(1)", "/%E4%B8%AD%20%E6%96%87%2B%281%29"),
        ("a//b", "/a//b"),
        ("f'o*o!~&=?#", "/f%27o%2Ao%21~%26%3D%3F%23"),
        ("already%2Fencoded", "/already%252Fencoded"),
        ("folder/", "/folder/"),
    ],
)
def test_a_key_is_encoded_but_for_its_slashes(key: str, target: str) -> None:
    assert wire_requests.head_object(ObjectAddress(BUCKET, key)).target == target


def test_each_operation_has_its_method_and_query() -> None:
    part = "/dir/a%20b.bin?uploadId=1585130821cbb7df"
    uploads = "/?uploads&max-uploads=5&encoding-type=url"
    expected = [
        (wire_requests.put_object(AT, {}), "PUT", "/dir/a%20b.bin"),
        (wire_requests.append_object(AT, 12, {}), "POST", "/dir/a%20b.bin?append&position=12"),
        (wire_requests.initiate(AT, {}), "POST", "/dir/a%20b.bin?uploads"),
        (wire_requests.upload_part(AT, UPLOAD, 3, {}), "PUT", "/dir/a%20b.bin?partNumber=3&uploadId=1585130821cbb7df"),
        (wire_requests.complete(AT, UPLOAD, [], {}), "POST", part),
        (wire_requests.abort(AT, UPLOAD), "DELETE", part),
        (wire_requests.list_parts(AT, UPLOAD, 0, 1000), "GET", f"{part}&max-parts=1000&encoding-type=url"),
        (
            wire_requests.list_parts(AT, UPLOAD, 7, 10),
            "GET",
            f"{part}&max-parts=10&encoding-type=url&part-number-marker=7",
        ),
        (list_uploads(), "GET", uploads),
        (
            list_uploads(prefix="a/", key_marker="k k", upload_id_marker="u"),
            "GET",
            f"{uploads}&prefix=a%2F&key-marker=k%20k&upload-id-marker=u",
        ),
        (list_uploads(upload_id_marker="ignored"), "GET", uploads),
    ]

    assert [(request.method, request.target) for request, _, _ in expected] == [
        (method, target) for _, method, target in expected
    ]


def list_uploads(prefix: str = "", key_marker: str = "", upload_id_marker: str = "") -> wire_requests.CosRequest:
    return wire_requests.list_uploads(
        BUCKET, prefix=prefix, delimiter="", key_marker=key_marker, upload_id_marker=upload_id_marker, limit=5
    )


def test_complete_lists_the_parts_as_given_and_guards_them_with_a_digest() -> None:
    request = wire_requests.complete(AT, UPLOAD, [(1, ETag('"a"')), (2, ETag('"<&"'))], {})

    assert request.content == (
        b'<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"a"</ETag></Part>'
        b'<Part><PartNumber>2</PartNumber><ETag>"&lt;&amp;"</ETag></Part></CompleteMultipartUpload>'
    )
    digest = hashlib.md5(request.content, usedforsecurity=False).digest()
    assert request.headers["content-md5"] == base64.b64encode(digest).decode()


def test_only_what_may_be_repeated_says_so() -> None:
    assert not wire_requests.append_object(AT, 0, {}).repeatable
    assert not wire_requests.complete(AT, UPLOAD, [], {}).repeatable
    assert wire_requests.put_object(AT, {}).repeatable
    assert wire_requests.initiate(AT, {}).repeatable


def test_empty_headers_are_left_out() -> None:
    request = wire_requests.put_object(AT, {"cache-control": "", "content-type": "a/b"})

    assert request.headers == {"content-type": "a/b"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "evil"),
        ("authorization", "x"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("expect", "100-continue"),
        ("x-cos-security-token", "x"),
        ("X-Cos-Meta-A", "upper case"),
        ("x y", "a"),
        ("x-cos-meta-a", "a\r\nhost: evil"),
        ("x-cos-meta-a", "a\x00"),
    ],
)
def test_a_header_that_would_change_the_request_itself_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidMetadata):
        wire_requests.put_object(AT, {name: value})


def test_the_signature_covers_host_length_token_and_object_headers() -> None:
    passed_on = {"x-cos-meta-a": "1", "content-type": "a/b", "content-md5": "m", "content-language": "de"}
    request = wire_requests.upload_part(AT, UPLOAD, 1, passed_on)

    headers = wire_requests.signed_headers(request, KEYS, 16, 1_700_000_030.5)

    assert headers["host"] == "b-125.cos.ap-beijing.myqcloud.com"
    assert headers["content-length"] == "16"
    assert headers["x-cos-security-token"] == "tok/en=="
    parsed = signing.parse_authorization(headers["authorization"])
    assert parsed.header_list == (
        "content-length",
        "content-md5",
        "content-type",
        "host",
        "x-cos-meta-a",
        "x-cos-security-token",
    )
    assert parsed.url_param_list == ("partnumber", "uploadid")
    signing.verify(parsed, KEYS.secret_key, "PUT", "/dir/a b.bin", request.query, headers, now=1_700_000_030.5)


def test_requests_of_one_minute_share_a_window_that_both_clocks_are_inside() -> None:
    request = wire_requests.head_object(AT)

    windows = [
        signing.parse_authorization(
            wire_requests.signed_headers(request, KEYS, None, now)["authorization"]
        ).sign_time.split(";")
        for now in (1_700_000_040.0, 1_700_000_099.9)
    ]

    assert windows[0] == windows[1]
    start, end = map(int, windows[0])
    assert start <= 1_700_000_040 - 60
    assert end >= 1_700_000_099 + 900


def test_a_request_without_a_body_says_no_length() -> None:
    assert "content-length" not in wire_requests.signed_headers(wire_requests.head_object(AT), KEYS, None, 0.0)

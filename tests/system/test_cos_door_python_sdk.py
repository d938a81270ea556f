"""Tencent's cos-python-sdk-v5, unmodified, uploads through the COS door whatever it uploads to COS."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosServiceError

from tests.system.cos_door import Door
from tests.system.stack import MIB, Caller, body, good

BODY = body("python sdk", 3 * MIB + 17)
KEYS = (
    "plain.bin",
    "a//b",
    " leading and trailing ",
    "plus+and space",
    "percent%2Fencoded%20twice%25",
    "'quo\"tes'()!*&?=#;:@$,<>[]{}|\\^`~",
    "中文/文件名 (1).txt",
    "emoji-🎉.bin",
    "folder/",
    "k" * 850,
)


@pytest.fixture
def sdk(door: Door, dora: Caller) -> Any:
    return door.key(dora).python_sdk()


@pytest.fixture
def bucket(door: Door) -> str:
    return door.cos.BUCKET


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'  # noqa: S324 -- COS's ETag is one


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, MIB + 1, 9 * MIB + 5])
def test_a_put_object_arrives_as_one_put_with_its_md5(door: Door, sdk: Any, bucket: str, size: int) -> None:
    data, key = body(size, size), f"put/{size}"

    answer = sdk.put_object(Bucket=bucket, Key=key, Body=data)

    assert door.cos.read(key) == data
    assert answer["ETag"] == etag_of(data)
    assert {"Date", "x-cos-request-id", "x-cos-hash-crc64ecma"} <= answer.keys()
    assert [entry["status"] for entry in door.cos.journal("PutObject", key=key)] == [200]


@pytest.mark.parametrize("size", [0, MIB, 18 * MIB + 3])
def test_a_body_of_unknown_length_is_put_chunked(door: Door, sdk: Any, bucket: str, size: int) -> None:
    data, key = body(size, size), f"chunked/{size}"

    sdk.put_object(Bucket=bucket, Key=key, Body=(data[at : at + MIB] for at in range(0, size, MIB)))

    assert door.cos.read(key) == data
    assert door.cos.open_uploads(key) == set()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_arrives_exactly(door: Door, sdk: Any, bucket: str, key: str) -> None:
    sdk.put_object(Bucket=bucket, Key=key, Body=key.encode())

    assert door.cos.read(key) == key.encode()
    assert sdk.head_object(Bucket=bucket, Key=key)["Content-Length"] == str(len(key.encode()))


def test_head_object_tells_what_the_object_was_stored_with(sdk: Any, bucket: str) -> None:
    sdk.put_object(
        Bucket=bucket,
        Key="described",
        Body=BODY,
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="x.mp4"',
        ContentEncoding="gzip",
        ContentType="video/mp4",
        Expires="Wed, 21 Oct 2026 07:28:00 GMT",
        StorageClass="STANDARD_IA",
        ACL="public-read",
        GrantRead='id="100000000011"',
        Metadata={"x-cos-meta-colour": "red"},
        ContentMD5=base64.b64encode(hashlib.md5(BODY).digest()).decode(),  # noqa: S324 -- what COS asks for
        TrafficLimit="838860800",
    )

    head = sdk.head_object(Bucket=bucket, Key="described")

    expected = {
        "Cache-Control": "max-age=60",
        "Content-Disposition": 'attachment; filename="x.mp4"',
        "Content-Encoding": "gzip",
        "Content-Length": str(len(BODY)),
        "Content-Type": "video/mp4",
        "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
        "ETag": etag_of(BODY),
        "x-cos-meta-colour": "red",
        "x-cos-object-type": "normal",
        "x-cos-storage-class": "STANDARD_IA",
    }
    assert {name: head[name] for name in expected} == expected


def test_append_object_grows_and_refuses_a_wrong_position(door: Door, sdk: Any, bucket: str) -> None:
    first = sdk.append_object(Bucket=bucket, Key="log", Position=0, Data=BODY[:1000])
    second = sdk.append_object(Bucket=bucket, Key="log", Position=1000, Data=BODY[1000:])
    with pytest.raises(CosServiceError) as refused:
        sdk.append_object(Bucket=bucket, Key="log", Position=5, Data=b"x")

    assert (first["x-cos-next-append-position"], second["x-cos-next-append-position"]) == ("1000", str(len(BODY)))
    assert (refused.value.get_status_code(), refused.value.get_error_code()) == (409, "AppendPositionErr")
    assert door.cos.read("log") == BODY


def test_multipart_upload_by_hand_is_a_task(door: Door, dora: Caller, sdk: Any, bucket: str) -> None:
    key, pieces = "dir/中文 a+b.bin", [BODY[: 2 * MIB], BODY[2 * MIB :]]
    upload_id = sdk.create_multipart_upload(Bucket=bucket, Key=key, ContentType="text/x")["UploadId"]
    etags = {
        number: sdk.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=pieces[number - 1], EnableMD5=True
        )["ETag"]
        for number in (2, 1)
    }
    (listed_task,) = good(dora.call("GET", "/v1/tasks"))["tasks"]
    task = dora.task(listed_task["id"])
    uploads = sdk.list_multipart_uploads(Bucket=bucket, Prefix="dir/")
    listed = sdk.list_parts(Bucket=bucket, Key=key, UploadId=upload_id)
    parts = {"Part": [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2)]}
    done = [
        sdk.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload=parts)
        for _ in range(2)
    ]

    assert (task["state"], task["key"], task["loaded"], task["upload_id"]) == ("uploading", key, len(BODY), upload_id)
    assert [(row["Key"], row["UploadId"]) for row in uploads["Upload"]] == [(key, upload_id)]
    assert [(row["PartNumber"], row["ETag"], row["Size"]) for row in listed["Part"]] == [
        (str(number), etags[number], str(len(pieces[number - 1]))) for number in (1, 2)
    ]
    assert done[0]["ETag"].endswith('-2"')
    assert done[0]["ETag"] == done[1]["ETag"], "a Complete that is sent again meets its own success"
    assert door.cos.read(key) == BODY
    assert dora.task(task["id"])["state"] == "success"
    assert sdk.head_object(Bucket=bucket, Key=key)["Content-Type"] == "text/x"


def test_an_aborted_upload_leaves_nothing_and_is_unknown_afterwards(door: Door, dora: Caller, sdk: Any) -> None:
    bucket, key = door.cos.BUCKET, "aborted"
    upload_id = sdk.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    sdk.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=BODY)

    sdk.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)

    (task,) = good(dora.call("GET", "/v1/tasks"))["tasks"]
    assert (task["state"], door.cos.open_uploads(key)) == ("canceled", set())
    with pytest.raises(CosServiceError) as refused:
        sdk.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    assert (refused.value.get_status_code(), refused.value.get_error_code()) == (404, "NoSuchUpload")


def test_upload_file_resumes_with_the_parts_that_are_missing(door: Door, sdk: Any, tmp_path: Path) -> None:
    bucket, key, data = door.cos.BUCKET, "resumed", body("resumed", 12 * MIB + 5)
    file = tmp_path / "file.bin"
    file.write_bytes(data)
    wanted = {"Bucket": bucket, "Key": key, "LocalFilePath": str(file), "PartSize": 1, "MAXThread": 3}
    door.cos.fault("error", operation="UploadPart", key=key, part_number=7, status=403, code="AccessDenied", times=None)
    with pytest.raises(Exception, match="some upload_part fail"):
        sdk.upload_file(**wanted)
    stored = {entry["part_number"] for entry in door.cos.journal("UploadPart", key=key, status=200)}
    door.cos.clear_faults()

    sdk.upload_file(**wanted, EnableMD5=True)

    sent = [entry["part_number"] for entry in door.cos.journal("UploadPart", key=key, status=200)]
    assert sorted(sent) == [*range(1, 14)], "each part is stored once, over both attempts"
    assert stored
    assert len(door.cos.journal("InitiateMultipartUpload", key=key)) == 1
    assert door.cos.read(key) == data


def test_a_plain_domain_and_one_with_a_path_mean_the_key_s_bucket(door: Door, dora: Caller) -> None:
    key, at = door.key(dora), f"127.0.0.1:{door.port}"

    for name, domain in (("plain", at), ("mounted", f"{at}/{key.bucket}/{key.region}")):
        key.python_sdk(Domain=domain).put_object(Bucket=key.bucket, Key=f"domain/{name}", Body=BODY)
        assert door.cos.read(f"domain/{name}") == BODY


def test_a_presigned_url_puts_an_object(door: Door, dora: Caller) -> None:
    key = door.key(dora)
    sdk = key.python_sdk(Timeout=5)  # no IP: the URL is for the bucket's own host
    host = f"{key.bucket}.cos.{key.region}.myqcloud.com"
    url = sdk.get_presigned_url(
        key.bucket,
        "pre signed+中.txt",
        "PUT",
        Headers={"Content-Type": "text/plain"},
        Params={"x-cos-security-token": key.token},
    )
    target = url[url.index("/", len("http://")) :]

    sent = key.caller().send("PUT", target, {"Host": host, "Content-Type": "text/plain"}, BODY)
    other_type = key.caller().send("PUT", target, {"Host": host, "Content-Type": "text/html"}, BODY)

    assert (sent.status, other_type.status, other_type.code) == (200, 403, "SignatureDoesNotMatch")
    assert door.cos.read("pre signed+中.txt") == BODY

"""Tencent's cos-python-sdk-v5, unmodified, does all its uploading against the local COS."""

import base64
import random
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosConfig, CosS3Client, CosServiceError

from gateway.cos.signing import Credentials
from gateway.domain.checksums import crc64
from tests.dev.weird_keys import WEIRD_KEYS
from tests.fakes.cos_caller import CosCaller, etag_of, md5
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos

MIB = 1 << 20
BODY = random.Random(1).randbytes(3 * MIB + 17)


def sdk_client(cos: RunningCos, key: Credentials = KEY, **options: Any) -> Any:
    config = CosConfig(
        Region=BUCKET.region,
        SecretId=key.secret_id,
        SecretKey=key.secret_key,
        Token=key.session_token,
        Scheme="http",
        **(options or {"IP": "127.0.0.1", "Port": cos.port}),
    )
    return CosS3Client(config, retry=0)


@pytest.fixture
def sdk(cos: RunningCos) -> Any:
    return sdk_client(cos)


def test_put_object_arrives_and_says_its_checksums_in_cos_s_own_header_names(cos: RunningCos, sdk: Any) -> None:
    answer = sdk.put_object(Bucket=BUCKET.name, Key="a/b.bin", Body=BODY)

    assert cos.read(BUCKET, "a/b.bin") == BODY
    assert answer["ETag"] == etag_of(BODY)
    assert answer["x-cos-hash-crc64ecma"] == str(crc64(BODY))


def test_a_body_of_unknown_length_is_put_chunked(cos: RunningCos, sdk: Any) -> None:
    sdk.put_object(Bucket=BUCKET.name, Key="chunked", Body=iter([BODY[:MIB], BODY[MIB:]]))

    assert cos.read(BUCKET, "chunked") == BODY


@pytest.mark.parametrize("key", [key for key in WEIRD_KEYS if key.strip("/.")])
def test_weird_keys_arrive_exactly(cos: RunningCos, sdk: Any, key: str) -> None:
    sdk.put_object(Bucket=BUCKET.name, Key=key, Body=key.encode())

    assert cos.keys(BUCKET) == [key]
    assert cos.read(BUCKET, key) == key.encode()
    found = sdk.get_object(Bucket=BUCKET.name, Key=key, KeySimplifyCheck=False)
    assert found["Body"].get_raw_stream().read() == key.encode()
    assert [row["Key"] for row in sdk.list_objects(Bucket=BUCKET.name)["Contents"]] == [key]


def test_head_object_tells_what_the_object_was_stored_with(sdk: Any) -> None:
    sdk.put_object(
        Bucket=BUCKET.name,
        Key="k",
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
        ContentMD5=base64.b64encode(md5(BODY)).decode(),
        TrafficLimit="838860800",
    )

    head = sdk.head_object(Bucket=BUCKET.name, Key="k")

    expected = {
        "Cache-Control": "max-age=60",
        "Content-Disposition": 'attachment; filename="x.mp4"',
        "Content-Encoding": "gzip",
        "Content-Length": str(len(BODY)),
        "Content-Type": "video/mp4",
        "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
        "ETag": etag_of(BODY),
        "x-cos-hash-crc64ecma": str(crc64(BODY)),
        "x-cos-meta-colour": "red",
        "x-cos-object-type": "normal",
        "x-cos-storage-class": "STANDARD_IA",
    }
    assert {name: head[name] for name in expected} == expected
    assert "x-cos-acl" not in head


def test_append_object_grows_and_refuses_a_wrong_position(cos: RunningCos, sdk: Any) -> None:
    first = sdk.append_object(Bucket=BUCKET.name, Key="log", Position=0, Data=BODY[:1000])
    second = sdk.append_object(Bucket=BUCKET.name, Key="log", Position=1000, Data=BODY[1000:])
    with pytest.raises(CosServiceError) as refused:
        sdk.append_object(Bucket=BUCKET.name, Key="log", Position=5, Data=b"x")

    assert first["x-cos-next-append-position"] == "1000"
    assert second["x-cos-next-append-position"] == str(len(BODY))
    assert refused.value.get_error_code() == "AppendPositionErr"
    assert cos.read(BUCKET, "log") == BODY
    head = sdk.head_object(Bucket=BUCKET.name, Key="log")
    assert (head["x-cos-object-type"], head["x-cos-hash-crc64ecma"]) == ("appendable", str(crc64(BODY)))


def test_multipart_upload_by_hand(cos: RunningCos, sdk: Any) -> None:
    key, pieces = "dir/中文 a+b.bin", [BODY[: 2 * MIB], BODY[2 * MIB :]]
    upload_id = sdk.create_multipart_upload(Bucket=BUCKET.name, Key=key, ContentType="text/x")["UploadId"]
    # The second part first: any order will do.
    etags = {
        number: sdk.upload_part(
            Bucket=BUCKET.name, Key=key, UploadId=upload_id, PartNumber=number, Body=pieces[number - 1], EnableMD5=True
        )["ETag"]
        for number in (2, 1)
    }
    uploads = sdk.list_multipart_uploads(Bucket=BUCKET.name, Prefix="dir/")
    listed = sdk.list_parts(Bucket=BUCKET.name, Key=key, UploadId=upload_id)

    parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2)]
    done = sdk.complete_multipart_upload(
        Bucket=BUCKET.name, Key=key, UploadId=upload_id, MultipartUpload={"Part": parts}
    )

    assert [(row["Key"], row["UploadId"]) for row in uploads["Upload"]] == [(key, upload_id)]
    assert [(row["PartNumber"], row["ETag"], row["Size"]) for row in listed["Part"]] == [
        (str(number), etags[number], str(len(pieces[number - 1]))) for number in (1, 2)
    ]
    assert done["ETag"].endswith('-2"')
    assert done["x-cos-hash-crc64ecma"] == str(crc64(BODY))
    assert cos.read(BUCKET, key) == BODY
    assert cos.open_uploads(BUCKET) == []


def test_an_aborted_upload_is_unknown_afterwards(cos: RunningCos, sdk: Any) -> None:
    upload_id = sdk.create_multipart_upload(Bucket=BUCKET.name, Key="k")["UploadId"]
    sdk.upload_part(Bucket=BUCKET.name, Key="k", UploadId=upload_id, PartNumber=1, Body=b"x")

    sdk.abort_multipart_upload(Bucket=BUCKET.name, Key="k", UploadId=upload_id)

    assert cos.open_uploads(BUCKET) == []
    with pytest.raises(CosServiceError) as refused:
        sdk.abort_multipart_upload(Bucket=BUCKET.name, Key="k", UploadId=upload_id)
    assert (refused.value.get_status_code(), refused.value.get_error_code()) == (404, "NoSuchUpload")


def test_upload_file_resumes_with_the_parts_that_are_missing(cos: RunningCos, sdk: Any, tmp_path: Path) -> None:
    body = random.Random(2).randbytes(12 * MIB + 5)
    file = tmp_path / "file.bin"
    file.write_bytes(body)
    cos.fault("error", operation="UploadPart", part_number=7, status=403, code="AccessDenied", times=None)
    with pytest.raises(Exception, match="some upload_part fail"):
        sdk.upload_file(Bucket=BUCKET.name, Key="big", LocalFilePath=str(file), PartSize=1, MAXThread=3)
    stored = {entry["part_number"] for entry in cos.journal("UploadPart", status=200)}
    cos.clear_faults()
    cos.clear_journal()

    sdk.upload_file(Bucket=BUCKET.name, Key="big", LocalFilePath=str(file), PartSize=1, MAXThread=3, EnableMD5=True)

    assert {entry["part_number"] for entry in cos.journal("UploadPart")} == set(range(1, 14)) - stored
    assert cos.journal("InitiateMultipartUpload") == []
    assert cos.read(BUCKET, "big") == body


def test_a_temporary_key_works_with_its_token(tmp_path: Path) -> None:
    key = Credentials("AKIDtemporary", "temporary-secret", "the-session-token", 4_000_000_000)
    with running_local_cos(tmp_path, keys=(key,)) as cos:
        sdk_client(cos, key).put_object(Bucket=BUCKET.name, Key="k", Body=BODY)

        assert cos.read(BUCKET, "k") == BODY


def test_a_plain_domain_means_the_default_bucket(cos: RunningCos) -> None:
    sdk_client(cos, Domain=f"127.0.0.1:{cos.port}").put_object(Bucket=BUCKET.name, Key="k", Body=BODY)

    assert cos.read(BUCKET, "k") == BODY


def test_a_presigned_url_puts_an_object(cos: RunningCos) -> None:
    sdk = sdk_client(cos, Timeout=5)  # no IP: the URL is for the bucket's own host
    url = sdk.get_presigned_url(BUCKET.name, "pre signed+中.txt", "PUT", Headers={"Content-Type": "text/plain"})
    target = url[url.index("/", len("http://")) :]
    caller = CosCaller(cos.port, BUCKET, KEY)

    sent = caller.send("PUT", target, {"Host": BUCKET.host, "Content-Type": "text/plain"}, BODY)
    other_type = caller.send("PUT", target, {"Host": BUCKET.host, "Content-Type": "text/html"}, BODY)

    assert (sent.status, other_type.status) == (200, 403)
    assert cos.read(BUCKET, "pre signed+中.txt") == BODY


def test_a_wrong_secret_is_a_signature_that_does_not_match(cos: RunningCos) -> None:
    wrong = Credentials(KEY.secret_id, "another-secret")

    with pytest.raises(CosServiceError) as refused:
        sdk_client(cos, wrong).put_object(Bucket=BUCKET.name, Key="k", Body=BODY)

    assert (refused.value.get_status_code(), refused.value.get_error_code()) == (403, "SignatureDoesNotMatch")
    assert cos.keys(BUCKET) == []

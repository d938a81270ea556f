"""Tencent's cos-nodejs-sdk-v5 and cos-wx-sdk-v5, unmodified, do all their uploading against the local COS."""

import base64
import json
import random
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.domain.checksums import crc64
from tests.dev.weird_keys import WEIRD_KEYS
from tests.fakes.cos_caller import etag_of
from tests.fakes.local_cos import BUCKET, KEY, RunningCos
from tests.tools import NODE_FOLDER, require_node_package, require_tool

MIB = 1 << 20
BODY = random.Random(3).randbytes(12 * MIB + 11)
ADDRESS: Final = {"Bucket": BUCKET.name, "Region": BUCKET.region}
NODE: Final = "cos-nodejs-sdk-v5"
WX: Final = "cos-wx-sdk-v5"


def run_calls(cos: RunningCos, folder: Path, sdk: str, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each of the SDK's *calls* came to, in a node process of its own."""
    require_node_package(sdk)
    options = {"SecretId": KEY.secret_id, "SecretKey": KEY.secret_key, "ProgressInterval": 1}
    if sdk == NODE:
        options |= {"Ip": f"127.0.0.1:{cos.port}", "Protocol": "http:", "ConfCwd": str(folder)}
    else:
        options |= {"Domain": f"http://127.0.0.1:{cos.port}"}
    listed = [{"method": method, "params": {**ADDRESS, **params}} for method, params in calls]
    ran = subprocess.run(
        [require_tool("node"), "cos_sdk.js"],
        cwd=NODE_FOLDER,
        input=json.dumps({"sdk": sdk, "options": options, "calls": listed}),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results: list[dict[str, Any]] = json.loads(ran.stdout[ran.stdout.index("[{") :])
    return results


def run_one(cos: RunningCos, folder: Path, sdk: str, method: str, **params: Any) -> dict[str, Any]:
    """The data of one call that succeeds."""
    (result,) = run_calls(cos, folder, sdk, (method, params))
    assert "error" not in result, result
    data: dict[str, Any] = result["data"]
    return data


def as_buffer(body: bytes) -> dict[str, str]:
    return {"$base64": base64.b64encode(body).decode()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(BODY)
    return path


@pytest.mark.parametrize("sdk", [NODE, WX])
def test_every_single_operation(cos: RunningCos, tmp_path: Path, sdk: str) -> None:
    key, piece = "dir/中文 a+b(1).bin", BODY[:MIB]
    put, head, append, wrong = run_calls(
        cos,
        tmp_path,
        sdk,
        ("putObject", {"Key": key, "Body": "text body", "ContentType": "text/plain", "x-cos-meta-a": "b"}),
        ("headObject", {"Key": key}),
        ("appendObject", {"Key": "log", "Body": "abc", "Position": 0}),
        ("appendObject", {"Key": "log", "Body": "abc", "Position": 9}),
    )
    (begun,) = run_calls(cos, tmp_path, sdk, ("multipartInit", {"Key": "m", "StorageClass": "STANDARD_IA"}))
    upload = {"Key": "m", "UploadId": begun["data"]["UploadId"]}
    # The body of a wx part is an ArrayBuffer; the SDK takes a text as well.
    part_body = as_buffer(piece) if sdk == NODE else "p" * MIB
    part, listed, uploads = run_calls(
        cos,
        tmp_path,
        sdk,
        ("multipartUpload", {**upload, "PartNumber": 1, "Body": part_body}),
        ("multipartListPart", upload),
        ("multipartList", {"Prefix": "m"}),
    )
    parts = [{"PartNumber": 1, "ETag": part["data"]["ETag"]}]
    done, gone = run_calls(
        cos, tmp_path, sdk, ("multipartComplete", {**upload, "Parts": parts}), ("multipartAbort", upload)
    )

    assert put["data"]["ETag"] == etag_of(b"text body")
    assert cos.read(BUCKET, key) == b"text body"
    assert head["data"]["headers"]["x-cos-meta-a"] == "b"
    assert append["data"]["headers"]["x-cos-next-append-position"] == "3"
    assert wrong["error"]["code"] == "AppendPositionErr"
    assert (listed["data"]["Part"][0]["Size"], listed["data"]["StorageClass"]) == (str(MIB), "STANDARD_IA")
    assert [row["UploadId"] for row in uploads["data"]["Upload"]] == [upload["UploadId"]]
    assert done["data"]["ETag"].endswith('-1"')
    assert len(cos.read(BUCKET, "m")) == MIB
    assert (gone["error"]["statusCode"], gone["error"]["code"]) == (404, "NoSuchUpload")


@pytest.mark.parametrize("sdk", [NODE, WX])
def test_slice_upload_file_resumes_with_the_parts_that_are_missing(
    cos: RunningCos, tmp_path: Path, file: Path, sdk: str
) -> None:
    slices = {"Key": "big", "FilePath": str(file), "ChunkSize": MIB}
    cos.fault("error", operation="UploadPart", part_number=9, status=403, code="AccessDenied", times=None)
    (failed,) = run_calls(cos, tmp_path, sdk, ("sliceUploadFile", slices))
    stored = {entry["part_number"] for entry in cos.journal("UploadPart", status=200)}
    cos.clear_faults()
    cos.clear_journal()

    (resumed,) = run_calls(cos, tmp_path, sdk, ("sliceUploadFile", slices))

    assert "error" in failed
    assert (resumed["data"]["statusCode"], resumed["progress"]["loaded"]) == (200, len(BODY))
    assert stored
    assert {entry["part_number"] for entry in cos.journal("UploadPart")} == set(range(1, 14)) - stored
    assert cos.journal("InitiateMultipartUpload") == []
    assert cos.read(BUCKET, "big") == BODY


@pytest.mark.parametrize("sdk", [NODE, WX])
def test_upload_files_sends_small_and_large_ones(cos: RunningCos, tmp_path: Path, file: Path, sdk: str) -> None:
    small, empty = tmp_path / "small", tmp_path / "empty"
    small.write_bytes(BODY[:777])
    empty.write_bytes(b"")
    rows = [{**ADDRESS, "Key": path.name, "FilePath": str(path)} for path in (file, small, empty)]

    done = run_one(cos, tmp_path, sdk, "uploadFiles", files=rows, SliceSize=MIB)

    assert [row["error"] for row in done["files"]] == [None] * 3
    assert [cos.read(BUCKET, name) for name in ("file.bin", "small", "empty")] == [BODY, BODY[:777], b""]
    assert cos.open_uploads(BUCKET) == []


def test_post_object_of_the_wx_sdk_is_a_form_signed_without_a_policy(
    cos: RunningCos, tmp_path: Path, file: Path
) -> None:
    data = run_one(
        cos,
        tmp_path,
        WX,
        "postObject",
        Key="form/中文 +.bin",
        FilePath=str(file),
        ContentType="video/mp4",
        CacheControl="max-age=1",
        ACL="public-read",
        **{"x-cos-meta-from": "wx"},
    )

    assert data["statusCode"] == 200
    assert data["headers"]["etag"] == etag_of(BODY)
    assert cos.read(BUCKET, "form/中文 +.bin") == BODY
    assert cos.headers(BUCKET, "form/中文 +.bin") == {
        "cache-control": "max-age=1",
        "content-type": "video/mp4",
        "x-cos-acl": "public-read",
        "x-cos-meta-from": "wx",
    }


@pytest.mark.parametrize("sdk", [NODE, WX])
def test_weird_keys_arrive_exactly(cos: RunningCos, tmp_path: Path, sdk: str) -> None:
    keys = list(WEIRD_KEYS)

    results = run_calls(cos, tmp_path, sdk, *(("putObject", {"Key": key, "Body": f"body of {key}"}) for key in keys))

    assert [result.get("error") for result in results] == [None] * len(keys)
    assert sorted(cos.keys(BUCKET)) == sorted(keys)
    assert [cos.read(BUCKET, key).decode() for key in keys] == [f"body of {key}" for key in keys]


def test_complete_is_understood_with_spaces_before_its_result(cos: RunningCos, tmp_path: Path, file: Path) -> None:
    cos.fault("padded", operation="CompleteMultipartUpload", seconds=0.3)

    run_one(cos, tmp_path, NODE, "sliceUploadFile", Key="big", FilePath=str(file))

    assert crc64(cos.read(BUCKET, "big")) == crc64(BODY)


def test_a_skewed_clock_is_found_out_from_our_answer(cos: RunningCos, tmp_path: Path) -> None:
    """The SDK reads ``Request has expired`` and our Date, signs again by our clock, and succeeds."""
    cos.fault("skewed_clock", seconds=7200, times=None)

    run_one(cos, tmp_path, NODE, "putObject", Key="k", Body="x")

    assert [entry["code"] for entry in cos.journal("PutObject")] == ["AccessDenied", ""]
    assert cos.read(BUCKET, "k") == b"x"

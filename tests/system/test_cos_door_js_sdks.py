"""Tencent's cos-nodejs-sdk-v5 and cos-wx-sdk-v5, unmodified, upload through the COS door as they do to COS."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.system.cos_door import NODE, WX, Call, Door, Key
from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, body, good

BODY = body("js sdks", 12 * MIB + 11)
KEYS = (
    "plain.bin",
    "a//b",
    " leading and trailing ",
    "plus+and space & more? 100%",
    "it's (1)!*.bin",
    "中文/文件名 (1).txt",
    "emoji-🎉.bin",
    "folder/",
)
pytestmark = pytest.mark.parametrize("sdk", [NODE, WX])


@pytest.fixture
def key(door: Door, dora: Caller) -> Key:
    return door.key(dora)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(BODY)
    return path


def data_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The data of calls that all succeeded."""
    assert [result for result in results if "error" in result] == []
    return [result["data"] for result in results]


def test_every_single_operation(door: Door, dora: Caller, key: Key, tmp_path: Path, sdk: str) -> None:
    name, piece, m = f"{sdk}/中文 a+b(1).bin", BODY[:MIB], f"{sdk}/m"
    put, head, append, wrong = key.js_sdk(
        tmp_path,
        sdk,
        [
            ("putObject", {"Key": name, "Body": "text body", "ContentType": "text/plain", "x-cos-meta-a": "b"}),
            ("headObject", {"Key": name}),
            ("appendObject", {"Key": f"{sdk}/log", "Body": "abc", "Position": 0}),
            ("appendObject", {"Key": f"{sdk}/log", "Body": "abc", "Position": 9}),
        ],
    )
    (begun,) = data_of(key.js_sdk(tmp_path, sdk, [("multipartInit", {"Key": m, "StorageClass": "STANDARD_IA"})]))
    upload = {"Key": m, "UploadId": begun["UploadId"]}
    # The body of a wx part is an ArrayBuffer; the SDK takes a text as well.
    part_body = {"$base64": base64.b64encode(piece).decode()} if sdk == NODE else "p" * MIB
    part, listed, uploads = data_of(
        key.js_sdk(
            tmp_path,
            sdk,
            [
                ("multipartUpload", {**upload, "PartNumber": 1, "Body": part_body}),
                ("multipartListPart", upload),
                ("multipartList", {"Prefix": m}),
            ],
        )
    )
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    done, gone = key.js_sdk(
        tmp_path, sdk, [("multipartComplete", {**upload, "Parts": parts}), ("multipartAbort", upload)]
    )

    assert put["data"]["ETag"] == f'"{hashlib.md5(b"text body").hexdigest()}"'  # noqa: S324 -- COS's ETag is one
    assert door.cos.read(name) == b"text body"
    assert head["data"]["headers"]["x-cos-meta-a"] == "b"
    assert append["data"]["headers"]["x-cos-next-append-position"] == "3"
    assert (wrong["error"]["statusCode"], wrong["error"]["code"]) == (409, "AppendPositionErr")
    assert (listed["Part"][0]["Size"], listed["StorageClass"]) == (str(MIB), "STANDARD_IA")
    assert [row["UploadId"] for row in uploads["Upload"]] == [upload["UploadId"]]
    assert done["data"]["ETag"].endswith('-1"')
    assert len(door.cos.read(m)) == MIB
    assert (gone["error"]["statusCode"], gone["error"]["code"]) == (404, "NoSuchUpload")
    assert {task["state"] for task in good(dora.call("GET", "/v1/tasks"))["tasks"]} == {"success"}


def test_slice_upload_file_resumes_with_the_parts_that_are_missing(
    door: Door, key: Key, tmp_path: Path, file: Path, sdk: str
) -> None:
    name = f"{sdk}/resumed"
    slices = {"Key": name, "FilePath": str(file), "ChunkSize": MIB}
    door.cos.fault(
        "error", operation="UploadPart", key=name, part_number=9, status=403, code="AccessDenied", times=None
    )
    (failed,) = key.js_sdk(tmp_path, sdk, [("sliceUploadFile", slices)])
    stored = {entry["part_number"] for entry in door.cos.journal("UploadPart", key=name, status=200)}
    door.cos.clear_faults()

    (resumed,) = key.js_sdk(tmp_path, sdk, [("sliceUploadFile", slices)])

    sent = [entry["part_number"] for entry in door.cos.journal("UploadPart", key=name, status=200)]
    assert "error" in failed
    assert (resumed["data"]["statusCode"], resumed["progress"]["loaded"]) == (200, len(BODY))
    assert stored
    assert sorted(sent) == [*range(1, 14)], "each part is stored once, over both attempts"
    assert len(door.cos.journal("InitiateMultipartUpload", key=name)) == 1
    assert door.cos.read(name) == BODY


def test_a_pause_midway_and_a_restart_send_the_rest(
    door: Door, dora: Caller, key: Key, tmp_path: Path, file: Path, sdk: str
) -> None:
    name = f"{sdk}/paused"
    door.cos.fault("slow", operation="UploadPart", key=name, times=None, bytes_per_second=8 * MIB)

    (done,) = key.js_sdk(
        tmp_path,
        sdk,
        [("sliceUploadFile", {"Key": name, "FilePath": str(file), "ChunkSize": MIB, "pauseAt": 4 * MIB})],
    )

    assert (done["data"]["statusCode"], done["pauses"]) == (200, 1)
    assert len(door.cos.journal("InitiateMultipartUpload", key=name)) == 1
    assert door.cos.read(name) == BODY
    (task,) = good(dora.call("GET", "/v1/tasks"))["tasks"]
    assert (task["state"], task["size"], task["loaded"]) == ("success", len(BODY), len(BODY))


def test_several_files_at_once(door: Door, dora: Caller, key: Key, tmp_path: Path, file: Path, sdk: str) -> None:
    small, empty = tmp_path / "small", tmp_path / "empty"
    small.write_bytes(BODY[:777])
    empty.write_bytes(b"")
    address = {"Bucket": key.bucket, "Region": key.region}
    rows = [{**address, "Key": f"{sdk}/{path.name}", "FilePath": str(path)} for path in (file, small, empty, file)]
    rows[3]["Key"] = f"{sdk}/again.bin"

    (done,) = data_of(key.js_sdk(tmp_path, sdk, [("uploadFiles", {"files": rows, "SliceSize": MIB})]))

    assert [row["error"] for row in done["files"]] == [None] * 4
    for name, data in (("file.bin", BODY), ("small", BODY[:777]), ("empty", b""), ("again.bin", BODY)):
        assert door.cos.read(f"{sdk}/{name}") == data, name
        assert door.cos.open_uploads(f"{sdk}/{name}") == set()
    tasks = good(dora.call("GET", "/v1/tasks"))["tasks"]
    assert [task["state"] for task in tasks] == ["success"] * 4


def test_every_key_arrives_exactly(door: Door, key: Key, tmp_path: Path, file: Path, sdk: str) -> None:
    whole: list[Call] = [("putObject", {"Key": f"{sdk}/{name}", "Body": f"body of {name}"}) for name in KEYS]
    sliced: list[Call] = [
        ("sliceUploadFile", {"Key": f"{sdk}/sliced/{name}", "FilePath": str(file), "ChunkSize": 4 * MIB})
        for name in KEYS
        if not name.endswith("/")
    ]

    data_of(key.js_sdk(tmp_path, sdk, whole))
    data_of(key.js_sdk(tmp_path, sdk, sliced))

    assert [door.cos.read(f"{sdk}/{name}").decode() for name in KEYS] == [f"body of {name}" for name in KEYS]
    for _, params in sliced:
        assert door.cos.read(params["Key"]) == BODY, params["Key"]


def test_a_form_and_a_file_of_any_size(door: Door, key: Key, tmp_path: Path, file: Path, sdk: str) -> None:
    small = tmp_path / "small"
    small.write_bytes(BODY[: 100 * 1024])
    described = {"ContentDisposition": "attachment", "ContentEncoding": "x", "Expires": "Wed, 21 Oct 2026 07:28:00 GMT"}
    options = {"ContentType": "video/mp4", "CacheControl": "max-age=1", "x-cos-meta-from": sdk, **described}
    calls: list[Call] = [
        ("uploadFile", {"Key": f"{sdk}/small (1).mp4", "FilePath": str(small), "SliceSize": MIB, **options}),
        ("uploadFile", {"Key": f"{sdk}/large (1).mp4", "FilePath": str(file), "SliceSize": MIB, **options}),
        ("headObject", {"Key": f"{sdk}/small (1).mp4"}),
        ("headObject", {"Key": f"{sdk}/large (1).mp4"}),
    ]
    if sdk == WX:
        calls.append(("postObject", {"Key": f"{sdk}/form.mp4", "FilePath": str(file), "ACL": "public-read", **options}))

    done = data_of(key.js_sdk(tmp_path, sdk, calls))

    assert [done[n]["headers"]["content-type"] for n in (2, 3)] == ["video/mp4"] * 2
    assert [done[n]["headers"]["x-cos-meta-from"] for n in (2, 3)] == [sdk] * 2
    assert [done[n]["headers"]["content-encoding"] for n in (2, 3)] == ["x"] * 2
    assert door.cos.read(f"{sdk}/small (1).mp4") == BODY[: 100 * 1024]
    assert door.cos.read(f"{sdk}/large (1).mp4") == BODY
    if sdk == WX:
        assert done[4]["headers"]["etag"] == f'"{hashlib.md5(BODY).hexdigest()}"'  # noqa: S324 -- COS's ETag is one
        assert door.cos.read(f"{sdk}/form.mp4") == BODY


def test_a_skewed_clock_is_found_out_from_our_answer(door: Door, dora: Caller, tmp_path: Path, sdk: str) -> None:
    """With fixed keys the SDK signs by its own clock, which here is two hours slow."""
    key = door.key(dora)
    fixed: dict[str, Any] = {"SecretId": key.secret_id, "SecretKey": key.secret_key, "SecurityToken": key.token}

    (late,) = replace(key, token=None).js_sdk(
        tmp_path, sdk, [("putObject", {"Key": f"{sdk}/late", "Body": "x"})], SystemClockOffset=-7_200_000, **fixed
    )

    def seen() -> list[int]:
        return [line["status"] for line in door.stack.gateway.log_lines() if line.get("path") == f"/{sdk}/late"]

    wait_until(lambda: len(seen()) == 2, "the second line of the log", 5)
    assert (seen(), late["data"]["statusCode"]) == ([403, 200], 200)
    assert door.cos.read(f"{sdk}/late") == b"x"

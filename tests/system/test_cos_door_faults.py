"""Better than the SDKs' own path: what a faulty COS does to them, the gateway takes."""

import time
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosServiceError

from tests.system.cos_door import NODE, WX, Door
from tests.system.stack import MIB, Caller, body, good

BODY = body("cos door faults", 3 * MIB + 3)


@pytest.fixture
def sdk(door: Door, dora: Caller) -> Any:
    return door.key(dora).python_sdk()


def uploaded(door: Door, sdk: Any, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An upload of *key* with every part stored, and what its Complete says."""
    upload = {"Bucket": door.cos.BUCKET, "Key": key}
    upload["UploadId"] = sdk.create_multipart_upload(**upload)["UploadId"]
    pieces = [BODY[at : at + MIB] for at in range(0, len(BODY), MIB)]
    parts = [
        {"PartNumber": number, "ETag": sdk.upload_part(**upload, PartNumber=number, Body=piece)["ETag"]}
        for number, piece in enumerate(pieces, 1)
    ]
    return upload, {"MultipartUpload": {"Part": parts}}


@pytest.mark.parametrize("sdk_name", [NODE, WX])
def test_a_part_that_always_fails_is_not_hammered(door: Door, dora: Caller, tmp_path: Path, sdk_name: str) -> None:
    """Straight at COS these SDKs send it up to 12 times in 0.4 s."""
    key = f"faults/{sdk_name}"
    file = tmp_path / "file"
    file.write_bytes(BODY)
    door.cos.fault(
        "error", operation="UploadPart", key=key, part_number=2, status=500, code="InternalError", times=None
    )
    call = ("sliceUploadFile", {"Key": key, "FilePath": str(file), "ChunkSize": MIB})

    (failed,) = door.key(dora).js_sdk(tmp_path, sdk_name, [call])

    tries = door.cos.journal("UploadPart", key=key, part_number=2)
    answers = [
        line["status"]
        for line in door.stack.gateway.log_lines()
        if line.get("route") == "cos:UploadPart" and line["path"] == f"/{key}"
    ]
    assert failed["error"]["statusCode"] == 503
    assert len(tries) <= 9
    assert tries[-1]["at"] - tries[0]["at"] > 2, "the tries are spread out"
    assert answers.count(503) >= 3
    # The very file goes on once COS is well again.
    door.cos.clear_faults()
    time.sleep(max(0.0, 4 - (time.time() - tries[-1]["at"])))
    (done,) = door.key(dora).js_sdk(tmp_path, sdk_name, [call])
    assert done["data"]["statusCode"] == 200
    assert door.cos.read(key) == BODY


def test_a_503_says_when_to_come_back(door: Door, dora: Caller) -> None:
    caller = door.key(dora).caller()
    door.cos.fault("error", operation="PutObject", key="faults/busy", status=503, code="SlowDown", times=None)

    busy = caller.call("PUT", "faults/busy", body=BODY[:1000])

    assert (busy.status, busy.code) == (503, "SlowDown")
    assert int(busy.headers["retry-after"]) >= 1


def test_an_error_inside_the_200_of_complete_is_a_true_error(door: Door, dora: Caller, sdk: Any) -> None:
    upload, parts = uploaded(door, sdk, "faults/error in 200")
    door.cos.fault(
        "error_in_200", operation="CompleteMultipartUpload", key=upload["Key"], code="InternalError", times=None
    )

    with pytest.raises(CosServiceError) as failed:
        sdk.complete_multipart_upload(**upload, **parts)
    door.cos.clear_faults()
    done = sdk.complete_multipart_upload(**upload, **parts)

    assert (failed.value.get_status_code(), failed.value.get_error_code()) == (503, "ServiceUnavailable")
    assert done["ETag"].endswith('-4"')
    assert door.cos.read(upload["Key"]) == BODY


def test_a_complete_whose_answer_was_lost_succeeds(door: Door, sdk: Any) -> None:
    upload, parts = uploaded(door, sdk, "faults/lost answer")
    door.cos.fault("lost_answer", operation="CompleteMultipartUpload", key=upload["Key"])

    done = sdk.complete_multipart_upload(**upload, **parts)

    assert done["ETag"].endswith('-4"')
    assert door.cos.read(upload["Key"]) == BODY
    assert len(door.cos.journal("CompleteMultipartUpload", key=upload["Key"])) == 1


def test_spaces_before_cos_s_declaration_do_not_reach_the_python_sdk(door: Door, sdk: Any) -> None:
    """Straight at COS it fails on them: its parser wants the declaration first."""
    upload, parts = uploaded(door, sdk, "faults/padded")
    door.cos.fault("padded_before", operation="CompleteMultipartUpload", key=upload["Key"], seconds=0.5)

    assert sdk.complete_multipart_upload(**upload, **parts)["ETag"].endswith('-4"')


@pytest.mark.parametrize(("action", "code"), [("padded", None), ("error_in_200", "InternalError")])
def test_a_verdict_after_the_waiting_time_ends_a_200(door: Door, dora: Caller, action: str, code: str | None) -> None:
    """A gateway that waits 0.2 s only shows what happens after 50 s: the declaration, spaces, then the verdict."""
    gateway, impatient = door.another(complete_wait_seconds="0.2")
    key = impatient.key(dora.at(gateway))
    upload, parts = uploaded(door, key.python_sdk(), f"faults/late {action}")
    rows = "".join(
        f"<Part><PartNumber>{part['PartNumber']}</PartNumber><ETag>{part['ETag']}</ETag></Part>"
        for part in parts["MultipartUpload"]["Part"]
    )
    rule = {"operation": "CompleteMultipartUpload", "key": upload["Key"]}
    if code is None:
        door.cos.fault(action, **rule, seconds=5)
    else:
        door.cos.fault(action, **rule, code=code, times=None)

    late = key.caller().call(
        "POST",
        upload["Key"],
        {"uploadId": upload["UploadId"]},
        body=f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode(),
    )

    assert late.status == 200
    assert late.body.startswith(b"<?xml")
    if code is None:
        assert b"?>\n  <CompleteMultipartUploadResult" in late.body
        assert late.text("ETag")
        assert door.cos.read(upload["Key"]) == BODY
    else:
        assert (late.xml.tag, late.code) == ("Error", "ServiceUnavailable")


def test_a_flipped_byte_is_never_acknowledged(door: Door, sdk: Any) -> None:
    door.cos.fault("flip", operation="UploadPart", key="faults/flipped", after_bytes=1000)

    upload, parts = uploaded(door, sdk, "faults/flipped")
    sdk.complete_multipart_upload(**upload, **parts)

    assert door.cos.read("faults/flipped") == BODY
    assert len(door.cos.journal("UploadPart", key="faults/flipped")) == 5


def test_an_append_whose_answer_was_lost_is_settled_by_the_length(door: Door, sdk: Any) -> None:
    bucket = door.cos.BUCKET
    sdk.append_object(Bucket=bucket, Key="faults/log", Position=0, Data=b"one")
    door.cos.fault("lost_answer", operation="AppendObject", key="faults/log")

    second = sdk.append_object(Bucket=bucket, Key="faults/log", Position=3, Data=b"two")

    assert second["x-cos-next-append-position"] == "6"
    assert door.cos.read("faults/log") == b"onetwo"


def test_a_put_that_breaks_off_leaves_nothing(door: Door, dora: Caller, sdk: Any) -> None:
    """Neither a piece of a chunked body nor its upload, which nobody could go on with."""
    caller = door.key(dora).caller()
    with pytest.raises(OSError, match="disk"):
        caller.call("PUT", "faults/broken", body=_broken(BODY * 8))

    deadline = time.monotonic() + 10
    while door.cos.open_uploads("faults/broken") or not _is_over(dora):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(FileNotFoundError):
        door.cos.read("faults/broken")


def _broken(data: bytes) -> Any:
    for at in range(0, len(data), MIB):
        yield data[at : at + MIB]
    raise OSError("the client's disk failed")


def _is_over(caller: Caller) -> bool:
    (task,) = good(caller.call("GET", "/v1/tasks"))["tasks"]
    return bool(task["state"] == "canceled")


@pytest.mark.promise(2)
def test_b39_an_upload_that_redis_forgot_is_gone_on_with_by_its_id(door: Door, dora: Caller, sdk: Any) -> None:
    """By who may write its key; an id that COS does not know, or whose upload was aborted, stays unknown."""
    bucket, key = door.cos.BUCKET, "faults/forgotten"
    upload = {"Bucket": bucket, "Key": key}
    upload["UploadId"] = sdk.create_multipart_upload(**upload)["UploadId"]
    first = sdk.upload_part(**upload, PartNumber=1, Body=BODY[:MIB])["ETag"]
    door.stack.redis.command("FLUSHALL")

    assert [part["ETag"] for part in sdk.list_parts(**upload)["Part"]] == [first]
    second = sdk.upload_part(**upload, PartNumber=2, Body=BODY[MIB:])["ETag"]
    parts = {"Part": [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]}
    sdk.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert door.cos.read(key) == BODY
    assert good(dora.call("GET", "/v1/tasks"))["tasks"][0]["state"] == "success"

    upload["UploadId"] = sdk.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    sdk.abort_multipart_upload(**upload)
    door.stack.redis.command("FLUSHALL")
    with pytest.raises(CosServiceError, match="NoSuchUpload"):
        sdk.upload_part(**upload, PartNumber=1, Body=b"x")

"""One engine behind both doors: what an SDK begins is a task, and what REST begins an SDK can end."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosServiceError
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.system.cos_door import NODE, Door
from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, body, good

BODY = body("cos door tasks", 5 * MIB + 3)


@pytest.fixture
def sdk(door: Door, dora: Caller) -> Any:
    return door.key(dora).python_sdk()


def only_task(caller: Caller) -> dict[str, Any]:
    (task,) = good(caller.call("GET", "/v1/tasks"))["tasks"]
    found: dict[str, Any] = task
    return found


def begun(door: Door, sdk: Any, key: str, **options: Any) -> dict[str, Any]:
    """An upload of *key*, as further calls name it."""
    bucket = door.cos.BUCKET
    upload_id = sdk.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    return {"Bucket": bucket, "Key": key, "UploadId": upload_id}


def test_a_pause_over_rest_is_a_retryable_error_for_the_next_part_until_the_restart(
    door: Door, dora: Caller, sdk: Any
) -> None:
    upload = begun(door, sdk, "tasks/paused")
    sdk.upload_part(**upload, PartNumber=1, Body=BODY[:MIB])
    task_id = only_task(dora)["id"]
    good(dora.control(task_id, "pause"))

    paused = (
        door.key(dora)
        .caller()
        .call("PUT", upload["Key"], {"partNumber": "2", "uploadId": upload["UploadId"]}, body=BODY[MIB:])
    )
    good(dora.control(task_id, "restart"))
    second = sdk.upload_part(**upload, PartNumber=2, Body=BODY[MIB:])

    assert (paused.status, paused.code) == (503, "ServiceUnavailable")
    assert int(paused.headers["retry-after"]) >= 1
    listed = sdk.list_parts(**upload)["Part"]
    sdk.complete_multipart_upload(
        **upload, MultipartUpload={"Part": [{"PartNumber": n, "ETag": listed[n - 1]["ETag"]} for n in (1, 2)]}
    )
    assert listed[1]["ETag"] == second["ETag"]
    assert door.cos.read("tasks/paused") == BODY


class SlowBody:
    """A body whose end is held back until a test lets it go: less than the gateway drains after an early answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.released = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield self._data[: -MIB // 4]
        self.released.wait(10)
        yield self._data[-MIB // 4 :]


def test_a_pause_ends_the_part_of_an_sdk_that_is_on_its_way(door: Door, dora: Caller, sdk: Any) -> None:
    upload, slow = begun(door, sdk, "tasks/cut"), SlowBody(BODY)
    query = {"partNumber": "1", "uploadId": upload["UploadId"]}
    sent: dict[str, Any] = {"headers": {"Content-Length": str(len(BODY))}, "body": slow}
    with ThreadPoolExecutor(1) as pool:
        part = pool.submit(door.key(dora).caller().call, "PUT", "tasks/cut", query, **sent)
        wait_until(lambda: bool(door.cos.journal("UploadPart", key="tasks/cut")), "the part")
        good(dora.control(only_task(dora)["id"], "pause"))
        wait_until(lambda: door.cos.journal("UploadPart", key="tasks/cut")[0]["ended"], "the part's end", 2)
        slow.released.set()
        cut = part.result(timeout=5)

    assert (cut.status, cut.code) == (503, "ServiceUnavailable")


def test_a_cancel_over_rest_leaves_no_fragment_and_the_sdk_finds_no_upload(door: Door, dora: Caller, sdk: Any) -> None:
    upload = begun(door, sdk, "tasks/canceled")
    sdk.upload_part(**upload, PartNumber=1, Body=BODY)

    good(dora.control(only_task(dora)["id"], "cancel"))

    assert door.cos.open_uploads("tasks/canceled") == set()
    calls: list[Callable[[], object]] = [
        lambda: sdk.upload_part(**upload, PartNumber=2, Body=BODY),
        lambda: sdk.list_parts(**upload),
        lambda: sdk.complete_multipart_upload(
            **upload, MultipartUpload={"Part": [{"PartNumber": 1, "ETag": '"0123"'}]}
        ),
        lambda: sdk.abort_multipart_upload(**upload),
    ]
    for call in calls:
        with pytest.raises(CosServiceError) as gone:
            call()
        assert (gone.value.get_status_code(), gone.value.get_error_code()) == (404, "NoSuchUpload")


def test_a_task_of_rest_is_listed_filled_and_completed_by_an_sdk(door: Door, dora: Caller, sdk: Any) -> None:
    task = dora.create("tasks/begun over rest", len(BODY), part_size=4 * MIB)
    good(dora.put_part(task["id"], 1, BODY[: 4 * MIB]))
    upload = {"Bucket": door.cos.BUCKET, "Key": task["key"], "UploadId": task["upload_id"]}

    (listed,) = sdk.list_multipart_uploads(Bucket=door.cos.BUCKET, Prefix=task["key"])["Upload"]
    with pytest.raises(CosServiceError) as wrong_size:
        sdk.upload_part(**upload, PartNumber=2, Body=BODY[:MIB])
    sdk.upload_part(**upload, PartNumber=2, Body=BODY[4 * MIB :])
    parts = [{"PartNumber": int(row["PartNumber"]), "ETag": row["ETag"]} for row in sdk.list_parts(**upload)["Part"]]
    sdk.complete_multipart_upload(**upload, MultipartUpload={"Part": parts})

    assert listed["UploadId"] == task["upload_id"]
    assert wrong_size.value.get_error_code() == "InvalidArgument"
    assert dora.task(task["id"])["state"] == "success"
    assert door.cos.read(task["key"]) == BODY


def test_every_way_in_is_a_task_of_the_key_s_owner(door: Door, dora: Caller, sdk: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(BODY)
    bucket = door.cos.BUCKET
    sdk.put_object(Bucket=bucket, Key="tasks/small", Body=BODY[:100])
    sdk.put_object(Bucket=bucket, Key="tasks/large", Body=BODY)
    sdk.upload_file(Bucket=bucket, Key="tasks/sliced", LocalFilePath=str(file), PartSize=1)

    tasks = {task["key"]: task for task in good(dora.call("GET", "/v1/tasks"))["tasks"]}
    stranger = door.stack.caller("stranger")

    sizes = {"tasks/small": 100, "tasks/large": len(BODY), "tasks/sliced": len(BODY)}
    assert {key: (task["state"], task["size"], task["loaded"]) for key, task in tasks.items()} == {
        key: ("success", size, size) for key, size in sizes.items()
    }
    assert good(stranger.call("GET", "/v1/tasks"))["tasks"] == []


def test_what_an_sdk_uploads_moves_on_the_progress_websocket(door: Door, dora: Caller, sdk: Any) -> None:
    address = f"{dora.gateway.url.replace('http', 'ws')}/v1/progress"
    offered = [Subprotocol("gateway.v1"), Subprotocol(f"bearer.{dora.bearer}")]
    with connect(address, subprotocols=offered, proxy=None) as socket:
        assert json.loads(socket.recv(20)) | {"tasks": []} == {
            "type": "snapshot",
            "tasks": [],
            "more": False,
        }
        upload = begun(door, sdk, "tasks/watched")
        etags = [
            sdk.upload_part(**upload, PartNumber=n + 1, Body=BODY[n * MIB : (n + 1) * MIB])["ETag"] for n in (0, 1)
        ]
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        sdk.complete_multipart_upload(**upload, MultipartUpload={"Part": parts})

        told: list[dict[str, Any]] = []
        while not told or told[-1]["state"] != "success":
            message = json.loads(socket.recv(20))
            told += [message["task"]] if message["type"] == "task" else []

    assert {task["key"] for task in told} == {"tasks/watched"}
    assert [task["loaded"] for task in told] == sorted(task["loaded"] for task in told)
    assert (told[-1]["loaded"], told[-1]["key"]) == (2 * MIB, "tasks/watched")


def test_a_put_can_be_canceled_while_it_streams_and_leaves_no_object(door: Door, dora: Caller) -> None:
    slow = SlowBody(BODY)
    sent: dict[str, Any] = {"headers": {"Content-Length": str(len(BODY))}, "body": slow}
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(door.key(dora).caller().call, "PUT", "tasks/put", **sent)
        wait_until(lambda: bool(door.cos.journal("PutObject", key="tasks/put")), "the PUT")
        task = only_task(dora)
        good(dora.control(task["id"], "cancel"))
        slow.released.set()
        cut = put.result(timeout=5)

    assert (cut.status, cut.code) == (404, "NoSuchUpload")
    assert dora.task(task["id"])["state"] == "canceled"
    with pytest.raises(FileNotFoundError):
        door.cos.read("tasks/put")


def test_uploads_show_to_their_owner_alone_page_by_page(door: Door, dora: Caller, sdk: Any) -> None:
    other = door.key(door.stack.caller("another owner")).python_sdk()
    bucket = door.cos.BUCKET
    mine = [f"pages/{name}" for name in ("a/1", "a/2", "b", "c/1", "d", "e")]
    ids = {key: begun(door, sdk, key)["UploadId"] for key in mine}
    for key in ("pages/a/0", "pages/a/x", "pages/aa/1", "pages/bb", "pages/zz"):
        begun(door, other, key)

    whole = sdk.list_multipart_uploads(Bucket=bucket, Prefix="pages/")
    grouped = sdk.list_multipart_uploads(Bucket=bucket, Prefix="pages/", Delimiter="/")
    rows, markers = [], {"KeyMarker": "", "UploadIdMarker": ""}
    for _ in range(10):
        page = sdk.list_multipart_uploads(Bucket=bucket, Prefix="pages/", Delimiter="/", MaxUploads=2, **markers)
        rows += [row["Key"] for row in page.get("Upload", [])] + [
            row["Prefix"] for row in page.get("CommonPrefixes", [])
        ]
        if page["IsTruncated"] == "false":
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"] or ""}
    with pytest.raises(CosServiceError) as theirs:
        other.list_parts(Bucket=bucket, Key=mine[0], UploadId=ids[mine[0]])

    assert [(row["Key"], row["UploadId"]) for row in whole["Upload"]] == [*ids.items()]
    assert [row["Key"] for row in grouped["Upload"]] == ["pages/b", "pages/d", "pages/e"]
    assert [row["Prefix"] for row in grouped["CommonPrefixes"]] == ["pages/a/", "pages/c/"]
    assert sorted(rows) == ["pages/a/", "pages/b", "pages/c/", "pages/d", "pages/e"]
    assert theirs.value.get_error_code() == "NoSuchUpload"


def test_a_traffic_limit_of_initiate_reaches_every_part(door: Door, dora: Caller, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(BODY)
    key = door.key(dora)
    limit = {"Headers": {"x-cos-traffic-limit": "838860800"}}

    key.js_sdk(
        tmp_path,
        NODE,
        [("sliceUploadFile", {"Key": "tasks/limited", "FilePath": str(file), "ChunkSize": MIB, **limit})],
    )

    parts = door.cos.journal("UploadPart", key="tasks/limited")
    assert [entry["headers"].get("x-cos-traffic-limit") for entry in parts] == ["838860800"] * 6


def test_a_policy_reaches_through_the_key(door: Door) -> None:
    caller = door.stack.caller("limited", prefix="limited/", max_size=MIB, types=["image/*"])
    sdk, bucket = door.key(caller).python_sdk(), door.cos.BUCKET
    jpeg = {"ContentType": "image/jpeg"}
    sdk.put_object(Bucket=bucket, Key="limited/good", Body=BODY[:MIB], **jpeg)
    upload = begun(door, sdk, "limited/parts", **jpeg)
    refusals: dict[str, list[Callable[[], object]]] = {
        "AccessDenied": [
            lambda: sdk.put_object(Bucket=bucket, Key="elsewhere", Body=b"x", **jpeg),
            lambda: sdk.put_object(Bucket=bucket, Key="limited/text", Body=b"x", ContentType="text/plain"),
            lambda: sdk.create_multipart_upload(Bucket=bucket, Key="elsewhere"),
            lambda: sdk.list_multipart_uploads(Bucket=bucket, Prefix="elsewhere/"),
        ],
        "EntityTooLarge": [
            lambda: sdk.put_object(Bucket=bucket, Key="limited/large", Body=BODY[: MIB + 1], **jpeg),
            lambda: sdk.put_object(Bucket=bucket, Key="limited/large", Body=iter([BODY]), **jpeg),
            lambda: sdk.upload_part(**upload, PartNumber=1, Body=BODY[: MIB + 1]),
        ],
    }

    for code, calls in refusals.items():
        for call in calls:
            with pytest.raises(CosServiceError) as refused:
                call()
            assert refused.value.get_error_code() == code
    assert [row["Key"] for row in sdk.list_multipart_uploads(Bucket=bucket)["Upload"]] == ["limited/parts"]
    assert door.cos.open_uploads("limited/large") == set()
    with pytest.raises(FileNotFoundError):
        door.cos.read("limited/large")

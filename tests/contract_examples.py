"""The documents in ``openapi/examples``, rendered by the code that answers with them.

``python -m tests.contract_examples`` writes them anew; ``test_contracts_api.py`` compares.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway.domain.batch import Batch, BatchFile, BatchId
from gateway.domain.errors import (
    CosAnswer,
    KeyNotAllowed,
    OffsetMismatch,
    PartsMissing,
    StorageSlowDown,
    TokenExpired,
    UploadLost,
)
from gateway.domain.notices import Notice, NoticeKind
from gateway.domain.objects import (
    Appended,
    Bucket,
    ETag,
    ObjectAddress,
    OpenUpload,
    PartsPage,
    Person,
    StoredPart,
    UploadId,
    UploadsPage,
)
from gateway.domain.policy import Destination
from gateway.domain.task import BodyMode, Task, TaskError, TaskId, TaskResult, TaskState
from gateway.hooks.sender import event_document
from gateway.transfer.batches import BatchView
from gateway.transfer.uploads import UploadsQuery
from gateway.web.batch_routes import batch_facts, file_document
from gateway.web.cos_keys import IssuedKey
from gateway.web.key_routes import key_document
from gateway.web.object_routes import appended_document
from gateway.web.problems import problem
from gateway.web.task_document import part_document, task_document
from gateway.web.upload_routes import upload_parts_document, uploads_document

FOLDER: Final = Path(__file__).parents[1] / "openapi" / "examples"
_TICKET: Final = "t.teVJbyUoJaVZWQWt11ujbaJbws839SFgZtg_IZkRFfXymjdJte0o9EfWhvUHxrR7fywQFBVhuE4uggr4pUNkptrajTxe"
_REQUEST_ID: Final = "cf62297d4c3da24a4f0991d45ce5cf1b"
_COS: Final = CosAnswer(404, "NoSuchUpload", "NjM1YTQzYzZfOTBmYzBiMDlfMTcyZV8zZjM=")

_WAITING: Final = Task(
    id=TaskId("lOp7KyrHDdZQ3KRwD0kblg"),
    owner="alice",
    at=ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), "films/holiday.mp4"),
    size=10_000_000,
    part_size=4_194_304,
    slice_size=1_048_576,
    async_limit=3,
    upload_id=UploadId("17953750062324373f4f2b24ab273866003a368f646ca26ed3d114fb9a9d6f1df097da8ba2"),
    client_ref="holiday-1",
    version=2,
    created_at=1_795_375_005.497,
    updated_at=1_795_375_005.508,
    expires_at=1_795_979_805.508,
)
_KEY: Final = IssuedKey(
    "AKID5b1d1b0f8c6f4c8e9f2d0a7c3e4b6a98",
    "8b5fd1e0c4a79263be0f1d2c3a4958677685940a",
    "t.DJug0QeVJbyUoJaVZWQWt11ujbaJbws839SFgZtgIZkRFfXymjdJte0o9EfWhvUHxrR7fywQFBVhuE4uggr4pUNkptrajTxe",
    1_795_375_005,
    1_795_376_805,
    Destination("files", _WAITING.at.bucket, ""),
)
_PERSON: Final = Person("qcs::cam::uin/100000000001:uin/100000000001", "100000000001")
_OPEN_UPLOAD: Final = OpenUpload(
    _WAITING.at.key,
    _WAITING.upload_id or UploadId(""),
    "STANDARD",
    _PERSON,
    _PERSON,
    "2026-11-22T19:16:45.000Z",
    _WAITING.id,
)
_UPLOADING: Final = replace(
    _WAITING,
    state=TaskState.UPLOADING,
    mode=BodyMode.PARTS,
    stored_count=2,
    contiguous_count=1,
    loaded=5_805_696,
    next_offset=4_194_304,
    speed=2_097_152.0,
    version=5,
    updated_at=1_795_375_006.093,
)
_COMPLETING: Final = replace(
    _UPLOADING,
    state=TaskState.COMPLETING,
    stored_count=3,
    contiguous_count=3,
    loaded=10_000_000,
    next_offset=10_000_000,
    version=7,
)
_SUCCESS: Final = replace(
    _COMPLETING,
    state=TaskState.SUCCESS,
    version=8,
    result=TaskResult(
        location="https://files-1250000000.cos.ap-guangzhou.myqcloud.com/films/holiday.mp4",
        etag=ETag('"0fbbd5d049f69b3335930d3af686094c-3"'),
        version_id=None,
        crc64=6_352_315_824_189_503_670,
        size=10_000_000,
        crc64_verified=True,
    ),
)
_LOST: Final = UploadLost(
    "COS answered 404 NoSuchUpload: somebody may have canceled the upload; a restart sends everything again", cos=_COS
)
_FAILED: Final = replace(_UPLOADING, state=TaskState.ERROR, version=6, error=TaskError.of(_LOST))
_PAUSED: Final = replace(_UPLOADING, state=TaskState.PAUSED, version=6)
_CANCELED: Final = replace(
    _WAITING, state=TaskState.CANCELED, version=4, updated_at=_UPLOADING.updated_at, expires_at=_UPLOADING.expires_at
)
_FALLEN: Final = replace(_UPLOADING, stored_count=1, loaded=4_194_304, version=6, speed=0.0)
PARTS: Final = (
    StoredPart(1, 4_194_304, ETag('"33f154aa17c425a753744ce2377d2686"'), 6_128_441_658_124_205_485),
    StoredPart(2, 4_194_304, ETag('"43f9c312faca6c4028397e5db6ecf5d1"'), 15_475_407_803_989_182_093),
    StoredPart(3, 1_611_392, ETag('"00d6758046c1dbf21d063d3e85761d00"'), 3_235_378_673_009_597_209),
)


def _rendered(task: Task) -> dict[str, Any]:
    """The task as it is rendered the moment it changed: a document that is looked at late shows no speed."""
    document = task_document(replace(task, updated_at=time.time()), None if task.is_final else _TICKET)
    return {**document, "updated_at": task.updated_at}


def _listed(task: Task) -> dict[str, Any]:
    """The same, as lists and websockets tell it."""
    return {name: value for name, value in _rendered(task).items() if name not in ("upload_id", "ticket")}


_EVENT: Final = Notice("evt_5f0c6d0d9a3e4f4b8f7f3f6f0a1b2c3d", NoticeKind.SUCCESS, _SUCCESS.updated_at, _SUCCESS)


def answers() -> Mapping[str, Any]:
    """What the gateway says, by file name."""
    waiting, uploading, success = _rendered(_WAITING), _rendered(_UPLOADING), _rendered(_SUCCESS)
    moving = _listed(_UPLOADING)
    return {
        "task-waiting": waiting,
        "task-uploading": uploading,
        "task-completing": _rendered(_COMPLETING),
        "task-success": success,
        "task-paused": _rendered(_PAUSED),
        "task-error": _rendered(_FAILED),
        "task-canceled": _rendered(_CANCELED),
        "tasks": {"tasks": [moving], "next_cursor": None},
        "part": part_document(PARTS[0]),
        "parts": {"parts": [part_document(part) for part in (PARTS[0], PARTS[2])], "next_cursor": None},
        "problem-offset-mismatch": problem(
            OffsetMismatch("Expected byte 4194304.", next_offset=4_194_304), _REQUEST_ID
        ),
        "problem-parts-missing": problem(
            PartsMissing("5805696 bytes are stored, expected 10000000.", missing=[[2, 2]], next_offset=4_194_304),
            _REQUEST_ID,
        ),
        "problem-token-expired": problem(TokenExpired(), _REQUEST_ID),
        "problem-storage-slow-down": problem(
            StorageSlowDown("COS answered 503 SlowDown", cos=CosAnswer(503, "SlowDown", _COS.request_id)), _REQUEST_ID
        ),
        "event-task-success": event_document(_EVENT, success),
        "progress-snapshot": {"type": "snapshot", "tasks": [moving, _listed(_SUCCESS)], "more": False},
        "progress-task": {"type": "task", "task": moving},
        "progress-part-lost": {"type": "part_lost", "task": _listed(_FALLEN)},
        "appended": appended_document(Appended(4096, ETag('"9a0364b9e99bb480dd25e1f0284c8555"'), None)),
        "batch": _batch(),
        "key": key_document(_KEY),
        "uploads": uploads_document(
            _WAITING.at.bucket.name,
            UploadsQuery(prefix="films/", delimiter="/", limit=2),
            UploadsPage((_OPEN_UPLOAD,), ("films/summer/",), "films/summer/", ""),
            str,
        ),
        "upload-parts": upload_parts_document(
            _WAITING.at,
            _OPEN_UPLOAD.upload_id,
            PartsPage(
                tuple(replace(part, crc64=None) for part in PARTS[:1]),
                None,
                "STANDARD",
                _PERSON,
                _PERSON,
                ("2026-11-22T19:16:46.000Z",),
            ),
            str,
        ),
        "progress-batch": {"type": "batch", "batch": _batch_totals()},
        "livez": {"status": "live"},
        "readyz": {"status": "ready", "redis": "ok", "cos_state": "unknown"},
        "version": {"version": "0.1.0", "python": "3.12.11"},
    }


def _batch() -> Mapping[str, Any]:
    """A batch of which one file moves and the other could not be created."""
    task = replace(_UPLOADING, batch_id="Yk9wXlq1u3uQW0a7pZ2n5g")
    refused = TaskError.of(KeyNotAllowed("The key lies outside the prefix that the token and the destination allow."))
    files = (BatchFile(task.id), BatchFile(None, refused))
    batch = Batch(BatchId("Yk9wXlq1u3uQW0a7pZ2n5g"), "alice", 3, task.created_at, files)
    view = BatchView(batch, {task.id: task})
    files_told = [file_document(index, file, view, _listed) for index, file in enumerate(files)]
    return {**batch_facts(view, None), "files": files_told}


def _batch_totals() -> Mapping[str, Any]:
    document = _batch()
    return {name: document[name] for name in ("id", "size", "loaded", "percent", "speed")}


def requests() -> Mapping[str, Any]:
    """What callers say, by file name."""
    return {
        "create-task": {
            "key": "films/holiday.mp4",
            "size": 10_000_000,
            "content_type": "video/mp4",
            "client_ref": "holiday-1",
        },
        "create-task-options": {
            "key": "films/holiday.mp4",
            "bucket": "files",
            "part_size": 8_388_608,
            "storage_class": "STANDARD_IA",
            "cache_control": "max-age=86400",
            "forbid_overwrite": True,
            "meta": {"album": "summer"},
            "headers": {"x-cos-tagging": "a=b"},
        },
        "create-batch": {
            "files": [
                {"key": "films/holiday.mp4", "size": 10_000_000, "content_type": "video/mp4"},
                {"key": "elsewhere/cat.jpg", "size": 70_000},
            ],
            "file_parallel_limit": 3,
        },
        "create-task-fingerprint": {
            "key": "films/holiday.mp4",
            "content_type": "video/mp4",
            "fingerprint": {
                "size": 10_000_000,
                "part_size": 4_194_304,
                "parts_md5": [part.etag.strip('"') for part in PARTS],
            },
        },
        "complete-task": {
            "size": 10_000_000,
            "parts": [{"number": part["number"], "etag": part["etag"]} for part in map(part_document, PARTS)],
            "crc64": "6352315824189503670",
        },
    }


def _write() -> None:
    for name, document in {**answers(), **requests()}.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _write()

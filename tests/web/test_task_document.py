import json
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.errors import CosAnswer, StorageDenied
from gateway.domain.objects import ETag, StoredPart
from gateway.domain.task import BodyMode, Task, TaskError, TaskResult, TaskState
from gateway.web.sealing import Sealer
from gateway.web.task_document import (
    SPEED_IS_STALE_SECONDS,
    TaskDocuments,
    listed_document,
    part_document,
    task_document,
)
from tests.web.sample_tasks import MIB, new_task

DOCUMENTS = TaskDocuments(Sealer({"a": "s" * 40}, "a"))


def uploading(**changes: Any) -> Task:
    now = time.time()
    task = replace(new_task("t1"), state=TaskState.UPLOADING, mode=BodyMode.PARTS, updated_at=now)
    return replace(task, **changes)


def test_a_document_is_json_with_every_member_also_when_nothing_is_known() -> None:
    unknown = replace(new_task("t1"), size=None, upload_id=None)
    document = json.loads(json.dumps(task_document(unknown, None)))

    assert {name for name, value in document.items() if value is None} == {
        *("size", "percent", "hash_percent", "part_count", "upload_id", "batch_id", "client_ref", "result", "error"),
        "ticket",
    }
    assert document.keys() == task_document(uploading(), "t").keys()


@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ({"loaded": 0}, 0.0),
        ({"loaded": 50 * MIB}, 0.5),
        ({"loaded": 100 * MIB - 1}, 0.9999),
        ({"loaded": 100 * MIB}, 1.0),
        ({"size": 0}, 0.0),
        ({"size": 0, "state": TaskState.SUCCESS}, 1.0),
        ({"size": None}, None),
    ],
)
def test_percent_is_a_fraction_that_is_one_only_at_the_end(changes: dict[str, Any], percent: float | None) -> None:
    assert task_document(uploading(**changes), None)["percent"] == percent


def test_speed_is_told_while_bytes_flow_only() -> None:
    stale = time.time() - SPEED_IS_STALE_SECONDS - 1

    assert task_document(uploading(speed=1234.5), None)["speed"] == 1234
    assert task_document(uploading(speed=1234.5, updated_at=stale), None)["speed"] == 0
    assert task_document(uploading(speed=1234.5, state=TaskState.PAUSED), None)["speed"] == 0


def test_a_ticket_belongs_to_tasks_that_can_still_move() -> None:
    assert DOCUMENTS.of(uploading())["ticket"]
    for state in TaskState:
        final = state in (TaskState.SUCCESS, TaskState.CANCELED)
        assert (DOCUMENTS.of(uploading(state=state))["ticket"] is None) == final


def test_s6_lists_leave_out_the_ticket_and_the_upload() -> None:
    task = uploading(client_ref="mine", speed=1.0)
    whole = DOCUMENTS.of(task)

    assert set(whole) - set(listed_document(task)) == {"ticket", "upload_id"}
    assert {**whole, **listed_document(task)} == whole


def test_the_tickets_of_tasks_that_have_ended_are_kept_no_longer() -> None:
    documents = TaskDocuments(Sealer({"a": "s" * 40}, "a"))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(1000):
            task = new_task(f"task {n}")
            for told in (task, replace(task, mode=BodyMode.CONTENT), replace(task, state=TaskState.CANCELED)):
                documents.of(told)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert kept < 100_000


def test_a_crc_is_text_since_javascript_s_numbers_do_not_hold_it() -> None:
    part = StoredPart(3, MIB, ETag('"e"'), 2**64 - 1)
    result = TaskResult("https://b/k", ETag('"e-1"'), None, 2**64 - 1, 5, True)
    document = task_document(uploading(state=TaskState.SUCCESS, result=result), None)

    assert part_document(part) == {"number": 3, "size": MIB, "etag": '"e"', "crc64": "18446744073709551615"}
    assert part_document(replace(part, crc64=None))["crc64"] is None
    assert document["result"] == {
        "location": "https://b/k",
        "bucket": "b-1250000000",
        "key": "alice/t1",
        "etag": '"e-1"',
        "version_id": None,
        "crc64": "18446744073709551615",
        "crc64_verified": True,
        "size": 5,
    }


def test_an_error_tells_what_cos_said() -> None:
    error = TaskError.of(StorageDenied("COS says no.", cos=CosAnswer(403, "AccessDenied", "r1")))
    document = task_document(uploading(state=TaskState.ERROR, error=error), None)

    assert document["error"] == {
        "code": "storage_denied",
        "title": "COS denies the gateway access",
        "detail": "COS says no.",
        "retryable": False,
        "cos": {"status": 403, "code": "AccessDenied", "request_id": "r1"},
    }

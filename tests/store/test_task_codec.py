"""A task survives the way into a hash and back, and what is not known is left alone."""

import dataclasses
from dataclasses import replace

import pytest

from gateway.domain.objects import ETag, StoredPart, UploadId
from gateway.domain.task import BodyMode, Intent, Task, TaskError, TaskResult, TaskState
from gateway.store.task_codec import (
    decode_part,
    decode_task,
    difference,
    encode_new_task,
    encode_part,
    encode_task,
)
from tests.store.conftest import START, TTL_SECONDS, new_task

FULL = new_task(
    size=123, state=TaskState.UPLOADING, mode=BodyMode.CONTENT, intent=Intent.COMPLETE, stored_count=3,
    contiguous_count=2, loaded=9, next_offset=8, tail_size=1, writer=4, batch_id="batch", client_ref="mine",
    content="c0ffee", hash_percent=0.5,
    object_headers={"Content-Type": "text/plain", "x-cos-meta-名": "值 \x00 \"'"}, part_headers={"a": "1"},
    result=TaskResult("https://h/k", ETag('"e-2"'), "v", 2**64 - 1, 5, False), version=7,
    error=TaskError("upload_lost", "t", "d", True, {"status": 404, "code": "NoSuchUpload", "request_id": "r"}),
)  # fmt: skip


def _back(fields: dict[str, str], now: float = START) -> Task:
    return decode_task(FULL.id, fields, now, TTL_SECONDS)


def test_every_fact_of_a_task_survives() -> None:
    assert _back(encode_new_task(FULL)) == replace(FULL, expires_at=FULL.updated_at + TTL_SECONDS)


def test_the_full_task_leaves_nothing_at_its_default() -> None:
    """So that a new field of Task that is not encoded fails the test above."""
    for member in dataclasses.fields(Task):
        if member.name not in {"speed", "expires_at"} and member.default is not dataclasses.MISSING:
            assert getattr(FULL, member.name) != member.default, member.name


def test_defaults_are_not_stored_but_the_state_always_is() -> None:
    fields = encode_task(new_task(size=None, upload_id=None))

    assert set(fields) == {
        "owner", "bucket", "region", "key", "part_size", "slice_size", "async_limit", "created_at", "updated_at",
        "state",
    }  # fmt: skip


def test_only_differences_are_written() -> None:
    after = replace(
        FULL, state=TaskState.PAUSED, error=None, upload_id=UploadId("other"), writer=0, updated_at=START + 9
    )

    assert difference(encode_task(FULL), encode_task(after)) == (
        {"state": "paused", "upload_id": "other", "updated_at": repr(START + 9)},
        ["writer", "error"],
    )
    assert difference(encode_task(FULL), encode_task(FULL)) == ({}, [])


def test_what_a_newer_version_wrote_is_passed_over() -> None:
    fields = encode_new_task(FULL) | {"of_tomorrow": "x", "ops": " a=1"}
    fields["result"] = fields["result"].replace("{", '{"of_tomorrow":[1],', 1)
    fields["error"] = fields["error"].replace("{", '{"of_tomorrow":[1],', 1)

    assert _back(fields) == replace(FULL, expires_at=FULL.updated_at + TTL_SECONDS)


@pytest.mark.parametrize(
    ("state", "age_seconds", "speed"),
    [("uploading", 10, 5.0), ("uploading", 10.1, 0.0), ("paused", 0, 0.0), ("completing", 0, 0.0)],
)
def test_speed_counts_while_bytes_flow(state: str, age_seconds: float, speed: float) -> None:
    fields = encode_new_task(FULL) | {"speed": "5", "state": state}

    assert _back(fields, FULL.updated_at + age_seconds).speed == speed


@pytest.mark.parametrize("crc64", [None, 0, 2**64 - 1])
def test_a_part_survives(crc64: int | None) -> None:
    part = StoredPart(7, 5 << 30, ETag('"an etag with spaces-2"'), crc64)

    assert decode_part(7, encode_part(part, "attempt")) == part

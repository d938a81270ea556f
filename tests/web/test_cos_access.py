"""The COS door asks for every operation, before any handler, whether the key may touch the object that it names."""

from itertools import product
from typing import Any, Final

import pytest

from gateway.domain.objects import Bucket
from gateway.web.cos_call import ACTIONS, Operation
from tests.fakes.cos_caller import CosCaller
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET, RunningCos
from tests.web.cos_calls import REQUESTS, DoorKey
from tests.web.rest import PREFIX, Rest, running_rest

OF_AN_OBJECT: Final = [operation for operation in Operation if operation is not Operation.LIST_UPLOADS]
OUTSIDE: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "key": ({}, {"prefix": PREFIX + "mine/"}, PREFIX + "theirs/file"),
    "token": ({"prefix": PREFIX + "mine/"}, {}, PREFIX + "theirs/file"),
    "destination": ({}, {}, "elsewhere/file"),
}
"""What draws the line: a token's claims, what its key asked for, and an object's key beyond the line."""


async def key_of(rest: Rest, claims: dict[str, Any], **asked: Any) -> DoorKey:
    async with rest.as_caller("mallory", **claims) as client:
        answer = await client.post("/v1/keys", json=asked)
        assert answer.status_code == 200, answer.text
        return DoorKey(rest, answer.json())


def opened_at_cos(cos: RunningCos, key: str, bucket: Bucket = BUCKET) -> str:
    """An upload that another program has begun straight at COS."""
    answer = CosCaller(cos.port, bucket, cos.key).call("POST", key, {"uploads": ""})
    return answer.text("UploadId") or ""


def test_s2_every_operation_has_a_request_and_its_actions() -> None:
    assert set(REQUESTS) == set(ACTIONS) == set(Operation)
    assert all(ACTIONS.values())


@pytest.mark.promise(26)
@pytest.mark.parametrize("line", OUTSIDE)
@pytest.mark.parametrize("operation", OF_AN_OBJECT)
async def test_s2_no_operation_reaches_cos_outside_of_what_the_key_is_for(
    rest: Rest, cos: RunningCos, operation: Operation, line: str
) -> None:
    claims, asked, outside = OUTSIDE[line]
    key = await key_of(rest, claims, bucket="files", **asked)
    upload_id = opened_at_cos(cos, outside)
    cos.clear_journal()

    for presigned in (False, True):
        answer = await key.ask(operation, outside, upload_id, presigned=presigned)
        assert answer.status == 403
        assert answer.code == (None if operation is Operation.HEAD_OBJECT else "AccessDenied")

    assert cos.journal() == []
    async with rest.as_caller("mallory") as client:
        assert (await client.get("/v1/tasks")).json()["tasks"] == []


@pytest.mark.parametrize("operation", Operation)
async def test_s2_no_operation_reaches_cos_without_its_actions(
    rest: Rest, cos: RunningCos, operation: Operation
) -> None:
    upload_id = opened_at_cos(cos, PREFIX + "actions")
    for missing in ACTIONS[operation]:
        allowed = {action.value for action in {a for row in ACTIONS.values() for a in row} - {missing}}
        key = await key_of(rest, {"actions": ["keys", *allowed]}, bucket="files")
        cos.clear_journal()

        for presigned in (False, True):
            answer = await key.ask(operation, PREFIX + "actions", upload_id, presigned=presigned)
            assert answer.status == 403
        assert cos.journal() == []


@pytest.mark.parametrize(("operation", "presigned"), list(product(Operation, (False, True))))
async def test_s2_inside_the_same_requests_reach_cos(
    rest: Rest, cos: RunningCos, operation: Operation, *, presigned: bool
) -> None:
    """Or the refusals above would tell nothing."""
    name = f"{PREFIX}inside/{operation}{presigned}"
    key = await key_of(rest, {"prefix": PREFIX}, bucket="files", prefix=PREFIX + "inside/")
    upload_id = opened_at_cos(cos, name)
    if operation is Operation.LIST_UPLOADS:  # COS is asked for nobody who has none
        await key.ask(Operation.INITIATE_UPLOAD, name)
    cos.clear_journal()

    answer = await key.ask(operation, name, upload_id, presigned=presigned)

    assert answer.status != 403
    assert cos.journal(bucket=BUCKET.name) != []


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("PUT", {"partNumber": "none", "uploadId": "u"}),
        ("POST", {"uploadId": "u"}),
        ("POST", {"append": "", "position": "none"}),
        ("GET", {"uploadId": ""}),
        ("GET", {"uploadId": "u", "max-parts": "none"}),
        ("DELETE", {"uploadId": "u"}),
        ("POST", {"uploads": ""}),
        ("PUT", {}),
        ("HEAD", {}),
    ],
)
async def test_s2_who_may_not_touch_the_key_is_not_told_what_else_is_wrong(
    rest: Rest, method: str, query: dict[str, str]
) -> None:
    key = await key_of(rest, {}, bucket="files")

    answer = await key.call(method, "elsewhere/file", query, b"no list")

    assert (answer.status, answer.code) == (403, None if method == "HEAD" else "AccessDenied")


@pytest.mark.parametrize("operation", Operation)
async def test_s17_before_redis_told_who_was_revoked_nothing_is_changed(
    rest: Rest, cos: RunningCos, operation: Operation
) -> None:
    key = await key_of(rest, {}, bucket="files")
    cos.clear_journal()
    async with running_rest("unix:///nowhere/redis.sock", cos) as blind:
        answer = await DoorKey(blind, key.document).ask(operation, PREFIX + "blind", "an upload")

    reads = REQUESTS[operation][0] in ("GET", "HEAD")
    assert reads or (answer.status, answer.code) == (503, "ServiceUnavailable")
    assert reads or cos.journal() == []


@pytest.mark.parametrize("operation", Operation)
async def test_s2_no_operation_reaches_another_bucket_than_the_key_s(
    rest: Rest, cos: RunningCos, operation: Operation
) -> None:
    for claims, asked in (({"buckets": ["files"]}, None), ({}, "files")):
        key = await key_of(rest, claims, bucket=asked)
        elsewhere = DoorKey(rest, {**key.document, "bucket": OTHER_BUCKET.name, "region": OTHER_BUCKET.region})
        upload_id = opened_at_cos(cos, PREFIX + "k", OTHER_BUCKET)
        cos.clear_journal()

        for presigned in (False, True):
            answer = await elsewhere.ask(operation, PREFIX + "k", upload_id, presigned=presigned)
            assert answer.status == 403
        named = await key.ask(operation, PREFIX + "k", upload_id)
        assert named.status == 404 or "{upload}" not in str(REQUESTS[operation])
        assert cos.journal(bucket=OTHER_BUCKET.name) == []

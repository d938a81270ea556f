"""Lists and options at every door: when they are read, what they count as, and what they hold until their end."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest

from gateway.web.cos_call import Operation
from tests.fakes.local_cos import RunningCos
from tests.web.cos_calls import REQUESTS, DoorKey
from tests.web.rest import PREFIX, Rest, running_rest

MIB: Final = 1 << 20
LIST: Final = REQUESTS[Operation.COMPLETE_UPLOAD][2]
Answered = tuple[int, str | None]
"""Status and code."""


class Body:
    """A body whose second half comes when it is told to; it knows whether anybody ``began`` to read it."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.began.set()
        yield self._content[:1]
        await self.go_on.wait()
        yield self._content[1:]


async def _post(rest: Rest, path: str, body: Body, owner: str = "alice", **claims: Any) -> Answered:
    async with rest.as_caller(owner, **claims) as client:
        answer = await client.post(path, content=aiter(body), headers={"content-type": "application/json"})
    return answer.status_code, answer.json().get("code")


async def _key(rest: Rest, owner: str = "alice", **claims: Any) -> DoorKey:
    async with rest.as_caller(owner, **claims) as client:
        return DoorKey(rest, (await client.post("/v1/keys", json={"bucket": "files"})).json())


async def _complete_at_cos_door(key: DoorKey, at: str, upload_id: str, body: Body) -> Answered:
    answer = await key.call("POST", at, {"uploadId": upload_id}, aiter(body))
    return answer.status, answer.code


async def _task(rest: Rest, key: str) -> dict[str, Any]:
    async with rest.as_caller() as client:
        created = {"key": PREFIX + key, "size": 2 * MIB, "part_size": MIB}
        found: dict[str, Any] = (await client.post("/v1/tasks", json=created)).json()
        return found


async def create(rest: Rest, **claims: Any) -> tuple[Body, Awaitable[Answered]]:
    body = Body(json.dumps({"key": PREFIX + "kept", "size": 1}).encode())
    return body, _post(rest, "/v1/tasks", body, **claims)


async def create_batch(rest: Rest, **claims: Any) -> tuple[Body, Awaitable[Answered]]:
    body = Body(json.dumps({"files": [{"key": PREFIX + "kept", "size": 1}]}).encode())
    return body, _post(rest, "/v1/batches", body, **claims)


async def issue_key(rest: Rest, **claims: Any) -> tuple[Body, Awaitable[Answered]]:
    body = Body(b'{"bucket": "files"}')
    return body, _post(rest, "/v1/keys", body, **claims)


async def complete(rest: Rest, **claims: Any) -> tuple[Body, Awaitable[Answered]]:
    task = await _task(rest, "kept")
    body = Body(b'{"parts": [{"number": 1}]}')
    return body, _post(rest, f"/v1/tasks/{task['id']}/complete", body, **claims)


async def complete_at_cos_door(rest: Rest, **claims: Any) -> tuple[Body, Awaitable[Answered]]:
    task, body = await _task(rest, "kept"), Body(LIST)
    if "actions" in claims:
        claims["actions"] = [*claims["actions"], "keys"]
    return body, _complete_at_cos_door(await _key(rest, **claims), task["key"], task["upload_id"], body)


Begin = Callable[..., Awaitable[tuple[Body, Awaitable[Answered]]]]
DOORS: Final[tuple[Begin, ...]] = (create, create_batch, issue_key, complete, complete_at_cos_door)
doors = pytest.mark.parametrize("begin", DOORS, ids=lambda begin: begin.__name__)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.kept_body.WAIT_SECONDS", 0.01)


@doors
async def test_s6_a_list_holds_memory_and_counts_as_a_body_while_it_comes(rest: Rest, begin: Begin) -> None:
    body, answered = await begin(rest)
    answer = asyncio.ensure_future(answered)
    await body.began.wait()

    assert rest.gateway.memory.callers.used_bytes > 0
    assert rest.gateway.bodies_count == 1

    body.go_on.set()
    status, code = await answer
    assert status < 500
    assert code not in ("rate_limited", "too_many_uploads")
    assert rest.gateway.memory.callers.used_bytes == rest.gateway.bodies_count == 0


@doors
async def test_s6_without_memory_no_list_is_read(rest: Rest, begin: Begin) -> None:
    body, answered = await begin(rest)
    held = rest.gateway.memory.callers.try_take(rest.gateway.memory.callers.limit_bytes, "mallory")
    assert held is not None

    assert await answered in ((503, "overloaded"), (503, "SlowDown"))
    assert not body.began.is_set()

    held.release()


@doors
async def test_s6_whoever_holds_their_share_already_is_told_so(rest: Rest, begin: Begin) -> None:
    body, answered = await begin(rest)
    budget = rest.gateway.memory.callers
    held = budget.try_take(budget.limit_bytes * 3 // 4, "alice")
    assert held is not None

    assert await answered in ((429, "rate_limited"), (503, "SlowDown"))
    assert not body.began.is_set()

    held.release()


@doors
async def test_s6_beyond_the_bodies_that_a_subject_may_have_no_list_is_read(
    redis_url: str, cos: RunningCos, begin: Begin
) -> None:
    async with running_rest(redis_url, cos, bodies_per_subject_count=1) as rest:
        body, answered = await begin(rest)
        first, its_answer = await create(rest)
        waiting = asyncio.ensure_future(its_answer)
        await first.began.wait()

        assert await answered in ((429, "too_many_uploads"), (503, "SlowDown"))
        assert not body.began.is_set()

        first.go_on.set()
        await waiting


@doors
async def test_s6_without_its_action_no_list_is_read(rest: Rest, begin: Begin) -> None:
    body, answered = await begin(rest, actions=["read"])

    assert (await answered)[0] == 403
    assert not body.began.is_set()


@pytest.mark.parametrize("whose", ["nobody's", "another's"])
async def test_s6_no_list_is_read_for_a_task_that_is_not_theirs(rest: Rest, whose: str) -> None:
    task = await _task(rest, "not-theirs")
    task_id = task["id"] if whose == "another's" else "A" * 22
    body, at_cos_door = Body(b"{}"), Body(LIST)

    assert await _post(rest, f"/v1/tasks/{task_id}/complete", body, owner="mallory") == (404, "task_not_found")
    upload_id = task["upload_id"] if whose == "another's" else "0123456789abcdef"
    key = await _key(rest, "mallory")
    assert await _complete_at_cos_door(key, task["key"], upload_id, at_cos_door) == (404, "NoSuchUpload")

    assert not body.began.is_set()
    assert not at_cos_door.began.is_set()


async def test_s6_a_list_is_held_until_a_late_verdict_has_been_told(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, complete_wait_seconds=0.1) as rest:
        budget, key = rest.gateway.memory.callers, await _key(rest)
        begun = await key.call("POST", PREFIX + "late", {"uploads": ""})
        upload_id = begun.text("UploadId") or ""
        part = await key.call("PUT", PREFIX + "late", {"partNumber": "1", "uploadId": upload_id}, bytes(MIB))
        assert part.status == 200
        cos.fault("stall", operation="CompleteMultipartUpload")
        listed = LIST.replace(b"<ETag>e</ETag>", b"<ETag>%s</ETag>" % (part.etag or "").encode())
        completing = asyncio.create_task(key.call("POST", PREFIX + "late", {"uploadId": upload_id}, listed))
        try:
            await cos.until(lambda journal: any(row["operation"] == "CompleteMultipartUpload" for row in journal))
            await asyncio.sleep(0.3)  # beyond the time that a verdict is waited for: the answer has begun
            assert budget.used_bytes > 0
        finally:
            await asyncio.to_thread(cos.clear_faults)
            answer = await completing

        assert answer.status == 200
        assert answer.text("Key") == PREFIX + "late"
        assert budget.used_bytes == 0

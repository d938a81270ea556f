"""``/v1/tasks`` as a front end meets it: whole gateway, real Redis, local COS."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.domain.checksums import crc64
from gateway.domain.parts import MIB
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET, RunningCos
from tests.fakes.redis_server import send_command
from tests.transfer.kit import random_bytes
from tests.web.rest import Rest, running_rest

KEY = "rest/tasks/file.bin"
DATA = random_bytes(3 * MIB + 5)
PARTS = [DATA[at : at + MIB] for at in range(0, len(DATA), MIB)]


async def create(client: httpx.AsyncClient, size: int | None = len(DATA), **options: Any) -> dict[str, Any]:
    told = {"key": KEY, "part_size": MIB, **({} if size is None else {"size": size}), **options}
    answer = await client.post("/v1/tasks", json=told)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def put_parts(client: httpx.AsyncClient, task_id: str, *numbers: int) -> list[httpx.Response]:
    return [await client.put(f"/v1/tasks/{task_id}/parts/{n}", content=PARTS[n - 1]) for n in numbers]


async def test_a_created_task_is_told_with_its_place_and_version(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    key = "rest/created.bin"
    answer = await alice.post("/v1/tasks", json={"key": key, "size": len(DATA), "client_ref": "row 7"})
    task = answer.json()

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/tasks/{task['id']}"
    assert answer.headers["etag"] == f'"{task["version"]}"'
    assert (task["state"], task["bucket"], task["region"]) == ("waiting", BUCKET.name, BUCKET.region)
    assert (task["key"], task["size"], task["part_size"], task["part_count"]) == (key, len(DATA), 4 * MIB, 1)
    assert (task["loaded"], task["next_offset"], task["client_ref"]) == (0, 0, "row 7")
    assert key in cos.open_uploads(BUCKET)
    again = await alice.get(answer.headers["location"])
    assert (again.status_code, again.json(), again.headers["etag"]) == (200, task, answer.headers["etag"])


async def test_a_small_file_s_task_opens_no_upload(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    assert (await create(alice, MIB, key="rest/small.bin"))["upload_id"] is None
    assert cos.journal(key="rest/small.bin") == []


async def test_a_bucket_may_be_named_by_its_alias_or_by_its_name(alice: httpx.AsyncClient) -> None:
    for name in ("other", OTHER_BUCKET.name):
        assert (await create(alice, 1, bucket=name, key="anywhere"))["bucket"] == OTHER_BUCKET.name


async def test_parts_are_acknowledged_listed_and_completed(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    task_id = (await create(alice))["id"]
    answers = await put_parts(alice, task_id, 4, 1, 3, 2)
    receipts = [answer.json() for answer in answers]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.headers["etag"] for answer in answers] == [part["etag"] for part in receipts]
    assert receipts[1] == {
        "number": 1,
        "size": MIB,
        "etag": f'"{hashlib.md5(PARTS[0], usedforsecurity=False).hexdigest()}"',
        "crc64": str(crc64(PARTS[0])),
    }
    listed = await alice.get(f"/v1/tasks/{task_id}/parts")
    assert listed.json() == {"parts": sorted(receipts, key=lambda part: part["number"]), "next_cursor": None}

    done = await alice.post(f"/v1/tasks/{task_id}/complete", json={"size": len(DATA), "crc64": str(crc64(DATA))})
    assert (done.status_code, done.json()["state"]) == (200, "success")
    assert done.json()["result"]["crc64"] == str(crc64(DATA))
    assert cos.read(BUCKET, KEY) == DATA
    again = await alice.post(f"/v1/tasks/{task_id}/complete")
    assert again.json()["result"] == done.json()["result"]


async def test_parts_are_listed_in_pages(alice: httpx.AsyncClient) -> None:
    task_id = (await create(alice))["id"]
    await put_parts(alice, task_id, 1, 2, 3, 4)

    numbers: list[list[int]] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = (await alice.get(f"/v1/tasks/{task_id}/parts", params=query)).json()
        numbers.append([part["number"] for part in page["parts"]])
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert numbers == [[1, 2], [3, 4]]


async def test_the_same_part_again_is_the_same_answer_and_no_second_upload(
    alice: httpx.AsyncClient, cos: RunningCos
) -> None:
    task_id = (await create(alice))["id"]
    cos.clear_journal()
    first, again = await put_parts(alice, task_id, 1, 1)

    assert again.json() == first.json()
    assert len(cos.journal("UploadPart")) == 1


async def test_content_answers_with_the_task(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    task_id = (await create(alice))["id"]
    half = await alice.put(
        f"/v1/tasks/{task_id}/content",
        content=DATA[: 2 * MIB],
        headers={"Content-Range": f"bytes 0-{2 * MIB - 1}/{len(DATA)}"},
    )
    assert (half.status_code, half.json()["state"], half.json()["next_offset"]) == (200, "uploading", 2 * MIB)
    assert half.headers["etag"] == f'"{half.json()["version"]}"'

    rest = await alice.put(
        f"/v1/tasks/{task_id}/content",
        content=DATA[2 * MIB :],
        headers={"Content-Range": f"bytes {2 * MIB}-{len(DATA) - 1}/{len(DATA)}"},
    )
    assert (rest.status_code, rest.json()["state"]) == (200, "success")
    assert cos.read(BUCKET, KEY) == DATA


async def test_a_body_without_a_length_is_no_part_but_may_be_content(alice: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield DATA

    task_id = (await create(alice))["id"]
    part = await alice.put(f"/v1/tasks/{task_id}/parts/1", content=chunks())
    content = await alice.put(f"/v1/tasks/{task_id}/content", content=chunks())

    assert (part.status_code, part.json()["code"]) == (411, "length_required")
    assert (content.status_code, content.json()["state"]) == (200, "success")


@pytest.mark.parametrize("header", ["Content-MD5", "x-cos-hash-crc64ecma"])
async def test_a_digest_is_held_against_the_part(alice: httpx.AsyncClient, header: str) -> None:
    def said(data: bytes) -> dict[str, str]:
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return {header: md5 if header == "Content-MD5" else str(crc64(data))}

    path = f"/v1/tasks/{(await create(alice))['id']}/parts/1"
    wrong = await alice.put(path, content=PARTS[0], headers=said(PARTS[1]))
    right = await alice.put(path, content=PARTS[0], headers=said(PARTS[0]))

    assert (wrong.status_code, wrong.json()["code"], wrong.json()["retryable"]) == (400, "digest_mismatch", True)
    assert right.status_code == 200


async def test_a_task_is_paused_restarted_and_cancelled(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    task = await create(alice, key="rest/cancelled.bin")
    path = f"/v1/tasks/{task['id']}"
    await put_parts(alice, task["id"], 1)
    states = []
    for verb in ("pause", "pause", "restart", "restart", "pause", "cancel", "cancel"):
        answer = await alice.post(f"{path}/{verb}")
        assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
        states.append((answer.status_code, answer.json()["state"]))

    assert states == [
        *((200, "paused"), (200, "paused"), (200, "waiting"), (200, "waiting")),
        *((200, "paused"), (200, "canceled"), (200, "canceled")),
    ]
    assert "rest/cancelled.bin" not in cos.open_uploads(BUCKET)
    assert (await alice.post(f"{path}/restart")).json()["code"] == "illegal_transition"


async def test_a_version_in_if_match_guards_a_move(alice: httpx.AsyncClient) -> None:
    task = await create(alice, 1)
    path = f"/v1/tasks/{task['id']}/pause"
    stale = await alice.post(path, headers={"If-Match": f'"{task["version"] + 1}"'})
    fresh = await alice.post(path, headers={"If-Match": f'"{task["version"]}"'})

    assert (stale.status_code, stale.json()["code"], stale.json()["version"]) == (
        412,
        "version_mismatch",
        task["version"],
    )
    assert fresh.json()["state"] == "paused"


async def test_tasks_are_listed_newest_first_by_state_and_in_pages(alice: httpx.AsyncClient) -> None:
    ids = [(await create(alice, 1, key=f"rest/list/{n}"))["id"] for n in range(5)]
    await alice.post(f"/v1/tasks/{ids[2]}/pause")

    async def listed(**query: str) -> list[str]:
        page = (await alice.get("/v1/tasks", params=query)).json()
        return [task["id"] for task in page["tasks"]]

    assert await listed() == ids[::-1]
    assert await listed(state="paused") == [ids[2]]
    assert await listed(state="paused,waiting", limit="2") == ids[4:2:-1]
    first = (await alice.get("/v1/tasks", params={"limit": "3"})).json()
    assert await listed(limit="3", cursor=first["next_cursor"]) == [ids[1], ids[0]]


async def test_a_cursor_is_of_use_to_nobody_else(rest: Rest, alice: httpx.AsyncClient) -> None:
    for number in range(2):
        await create(alice, 1, key=f"rest/cursor/{number}")
    cursor = (await alice.get("/v1/tasks?limit=1")).json()["next_cursor"]
    async with rest.as_caller("bob") as bob:
        answer = await bob.get("/v1/tasks", params={"cursor": cursor})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")


async def test_the_same_idempotency_key_is_the_same_task(alice: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    told = {"key": KEY, "size": 1}
    first, again = [await alice.post("/v1/tasks", json=told, headers=headers) for _ in range(2)]
    other = await alice.post("/v1/tasks", json={**told, "size": 2}, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


async def test_a_ticket_that_is_none_by_its_length_is_refused_even_where_none_is_needed(
    alice: httpx.AsyncClient,
) -> None:
    task = await create(alice)
    answer = await alice.get(f"/v1/tasks/{task['id']}", headers={"Upload-Ticket": "x" * 5121})

    assert (answer.status_code, answer.json()["code"]) == (400, "ticket_invalid")


async def test_a_task_that_redis_lost_goes_on_with_its_ticket(
    alice: httpx.AsyncClient, redis_url: str, cos: RunningCos
) -> None:
    task = await create(alice)
    await put_parts(alice, task["id"], 1, 2)
    ticket = {"Upload-Ticket": (await alice.get(f"/v1/tasks/{task['id']}")).json()["ticket"]}
    send_command(redis_url, "FLUSHALL")

    path = f"/v1/tasks/{task['id']}"
    assert (await alice.get(path)).json()["code"] == "task_not_found"
    assert (await alice.get(path, headers=ticket)).json()["stored_parts"] == 2
    await put_parts(alice, task["id"], 3, 4)
    assert (await alice.post(f"{path}/complete")).json()["state"] == "success"
    assert cos.read(BUCKET, KEY) == DATA


@pytest.mark.promise(2)
async def test_a_small_file_s_parts_are_brought_back_by_the_ticket_that_came_with_them(
    alice: httpx.AsyncClient, redis_url: str, cos: RunningCos
) -> None:
    """Its upload opens at its first part; also who sends that again has a ticket that knows it."""
    task = await create(alice, MIB, key="rest/small-parts.bin")
    answers = [*await put_parts(alice, task["id"], 1), *await put_parts(alice, task["id"], 1)]
    path = f"/v1/tasks/{task['id']}"

    for answer in answers:
        send_command(redis_url, "FLUSHALL")
        ticket = {"Upload-Ticket": answer.headers["upload-ticket"]}
        assert (await alice.get(path, headers=ticket)).json()["stored_parts"] == 1
    assert (await alice.post(f"{path}/complete")).json()["state"] == "success"
    assert cos.read(BUCKET, "rest/small-parts.bin") == PARTS[0]
    large = await create(alice)
    assert "upload-ticket" not in (await put_parts(alice, large["id"], 1))[0].headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/tasks", {"GET", "HEAD", "POST"}),
        ("POST", "/v1/tasks/x", {"GET", "HEAD"}),
        ("GET", "/v1/tasks/x/pause", {"POST"}),
        ("POST", "/v1/tasks/x/parts/1", {"PUT"}),
        ("POST", "/v1/tasks/x/content", {"PUT"}),
    ],
)
async def test_a_wrong_method_hears_of_the_right_ones(
    alice: httpx.AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = await alice.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.promise(29)
@pytest.mark.parametrize("path", ["/v1/tasks/", "/v1/files/", "/v1/objects", "/livez/", "/v1/tasks/x/parts/"])
async def test_a_path_that_is_only_nearly_right_is_not_there(alice: httpx.AsyncClient, path: str) -> None:
    answer = await alice.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_completion_that_cos_takes_long_over_is_202_and_then_told(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, complete_wait_seconds=0.2) as rest, rest.as_caller() as alice:
        task_id = (await create(alice))["id"]
        await put_parts(alice, task_id, 1, 2, 3, 4)
        cos.fault("padded", operation="CompleteMultipartUpload", seconds=1)
        slow = await alice.post(f"/v1/tasks/{task_id}/complete")

        assert (slow.status_code, slow.json()["state"]) == (202, "completing")
        async with asyncio.timeout(10):
            while (again := await alice.post(f"/v1/tasks/{task_id}/complete")).status_code == 202:
                assert again.json()["state"] == "completing"
        assert again.json()["state"] == "success"

"""``/v1/batches`` as a front end meets it: whole gateway, real Redis, local COS."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from gateway.domain.parts import MIB
from tests.fakes.local_cos import BUCKET, RunningCos, running_local_cos
from tests.transfer.kit import random_bytes
from tests.web.rest import Rest, running_rest
from tests.web.serving import running


@pytest.fixture(scope="module")
def cos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCos]:
    with running_local_cos(tmp_path_factory.mktemp("cos")) as cos:
        yield cos


@pytest.fixture
async def rest(redis_url: str, cos: RunningCos) -> AsyncIterator[Rest]:
    async with running_rest(redis_url, cos) as rest:
        yield rest


@pytest.fixture
async def alice(rest: Rest) -> AsyncIterator[httpx.AsyncClient]:
    async with rest.as_caller() as client:
        yield client


async def create(client: httpx.AsyncClient, *files: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/batches", json={"files": files, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/batches/{answer.json()['id']}"
    batch: dict[str, Any] = answer.json()
    return batch


async def test_each_file_has_its_place_and_its_own_end(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    data = random_bytes(2 * MIB)
    batch = await create(
        alice,
        {"key": "rest/b/1", "size": len(data)},
        {"key": "elsewhere/2", "size": 1},
        {"key": "rest/b/3", "unknown_member": 1},
        {"key": "rest/b/4", "size": "many"},
        {"key": "rest/b/5", "size": 10},
    )
    one = batch["files"][0]["task"]["id"]
    await alice.put(f"/v1/tasks/{one}/content", content=data)
    now = (await alice.get(f"/v1/batches/{batch['id']}")).json()

    assert [file["index"] for file in batch["files"]] == [0, 1, 2, 3, 4]
    assert [file["error"] and file["error"]["code"] for file in now["files"]] == [
        None,
        "key_not_allowed",
        "unknown_field",
        "invalid_field",
        None,
    ]
    assert now["files"][0]["result"]["size"] == len(data)
    assert now["files"][0]["task"]["batch_id"] == batch["id"]
    assert (now["size"], now["loaded"]) == (len(data) + 10, len(data))
    assert 0.99 < now["percent"] < 1
    assert cos.read(BUCKET, "rest/b/1") == data
    assert batch["files"][4]["task"]["ticket"]
    assert not {"ticket", "upload_id"} & now["files"][4]["task"].keys()
    listed = (await alice.get("/v1/tasks", params={"batch": batch["id"]})).json()["tasks"]
    assert {task["key"] for task in listed} == {"rest/b/1", "rest/b/5"}
    assert not any({"ticket", "upload_id"} & task.keys() for task in listed)


async def test_bodies_over_the_limit_are_told_to_wait(alice: httpx.AsyncClient) -> None:
    batch = await create(
        alice, *({"key": f"rest/turn/{n}", "size": 2 * MIB, "part_size": MIB} for n in range(3)), file_parallel_limit=2
    )
    ids = [file["task"]["id"] for file in batch["files"]]
    part = bytes(MIB)
    answers = [await alice.put(f"/v1/tasks/{task_id}/parts/1", content=part) for task_id in ids]
    await alice.post(f"/v1/tasks/{ids[0]}/pause")
    after = await alice.put(f"/v1/tasks/{ids[2]}/parts/1", content=part)

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (answers[2].json()["code"], answers[2].json()["retryable"]) == ("task_waiting", True)
    assert int(answers[2].headers["retry-after"]) > 0
    assert after.status_code == 200


async def test_a_whole_batch_is_paused_restarted_and_canceled(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    batch = await create(alice, *({"key": f"rest/all/{n}", "size": 2 * MIB} for n in range(3)))
    states = []
    for move in ("pause", "restart", "cancel", "cancel"):
        answer = await alice.post(f"/v1/batches/{batch['id']}/{move}")
        states.append((answer.status_code, {file["task"]["state"] for file in answer.json()["files"]}))

    assert states == [(200, {"paused"}), (200, {"waiting"}), (200, {"canceled"}), (200, {"canceled"})]
    assert not any(key.startswith("rest/all/") for key in cos.open_uploads(BUCKET))


async def test_a_repeated_create_is_the_same_batch(alice: httpx.AsyncClient) -> None:
    body = {"files": [{"key": "rest/once", "size": 5}]}
    headers = {"Idempotency-Key": "k1"}
    answers = [await alice.post("/v1/batches", json=body, headers=headers) for _ in range(2)]
    other = await alice.post("/v1/batches", json={**body, "file_parallel_limit": 1}, headers=headers)

    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


async def test_a_thousand_files_are_one_request_and_no_more_are(alice: httpx.AsyncClient) -> None:
    files = [{"key": f"rest/many/{n}", "size": 1} for n in range(1001)]
    batch = await create(alice, *files[:1000])
    refused = await alice.post("/v1/batches", json={"files": files})
    pages = [(await alice.get(f"/v1/batches/{batch['id']}")).json()]
    while pages[-1]["next_cursor"] is not None:
        assert len(pages[-1]["files"]) == 100
        query = {"cursor": pages[-1]["next_cursor"]}
        pages.append((await alice.get(f"/v1/batches/{batch['id']}", params=query)).json())

    assert (batch["count"], batch["next_cursor"], len(pages)) == (1000, None, 10)
    assert [file["index"] for page in pages for file in page["files"]] == list(range(1000))
    assert {page["size"] for page in pages} == {1000}
    assert [file["task"]["key"] for file in batch["files"]] == [file["key"] for file in files[:1000]]
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_field")


async def test_s6_pages_are_as_long_as_they_are_asked_to_be(alice: httpx.AsyncClient) -> None:
    batch = await create(alice, *({"key": f"rest/paged/{n}", "size": 1} for n in range(3)))
    path = f"/v1/batches/{batch['id']}"
    first = (await alice.get(path, params={"limit": 2})).json()
    rest = (await alice.get(path, params={"cursor": first["next_cursor"]})).json()
    past = (await alice.get(path, params={"cursor": "2"})).json()

    assert [[file["index"] for file in page["files"]] for page in (first, rest, past)] == [[0, 1], [2], []]
    assert {(page["count"], page["size"]) for page in (first, rest, past)} == {(3, 3)}
    assert (rest["next_cursor"], past["next_cursor"]) == (None, None)
    for query in ({"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"cursor": "-1"}, {"page": 1}):
        answer = await alice.get(path, params=query)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")


@pytest.mark.parametrize("body", [{}, {"files": []}, {"files": [1]}, {"files": [{}], "file_parallel_limit": 0}])
async def test_a_batch_of_nothing_is_refused(alice: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await alice.post("/v1/batches", json=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_field")


@pytest.mark.parametrize("path", ["", "/pause", "/restart", "/cancel"])
async def test_anothers_batch_is_not_there(rest: Rest, alice: httpx.AsyncClient, path: str) -> None:
    batch = await create(alice, {"key": "rest/private", "size": 5})
    async with rest.as_caller("bob") as bob:
        url = f"/v1/batches/{batch['id']}{path}"
        answer = await (bob.post(url) if path else bob.get(url))

    assert (answer.status_code, answer.json()["code"]) == (404, "batch_not_found")


async def test_a_watcher_hears_of_the_batch_as_it_grows(rest: Rest, alice: httpx.AsyncClient) -> None:
    async with running(rest.gateway.public) as address:
        token = alice.headers["authorization"].removeprefix("Bearer ")
        offered = Subprotocol(f"bearer.{token}")
        async with connect(f"ws://{address}/v1/progress", subprotocols=[offered]) as socket:
            batch = await create(
                alice, {"key": "rest/heard/1", "size": 70_000}, {"key": "rest/heard/2", "size": 30_000}
            )
            for file in batch["files"]:
                await alice.put(f"/v1/tasks/{file['task']['id']}/content", content=bytes(file["task"]["size"]))
            heard: list[dict[str, Any]] = []
            async with asyncio.timeout(10):
                while not heard or heard[-1]["percent"] != 1:
                    message = json.loads(await socket.recv())
                    heard += [message["batch"]] if message["type"] == "batch" else []

    assert {told["id"] for told in heard} == {batch["id"]}
    assert (heard[-1]["size"], heard[-1]["loaded"]) == (100_000, 100_000)
    assert [told["loaded"] for told in heard] == sorted(told["loaded"] for told in heard)

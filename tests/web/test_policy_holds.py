"""A token's policy holds for every call about what another token of the same subject began, at REST's door."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gateway.config_values import BucketSetting
from gateway.domain.parts import MIB
from gateway.web.cos_call import Operation
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET, RunningCos
from tests.fakes.redis_server import send_command
from tests.transfer.kit import random_bytes
from tests.web.cos_calls import DoorKey
from tests.web.rest import PREFIX, Rest, running_rest
from tests.web.rest_calls import CALLS, WEBSOCKET, RestCall, operations
from tests.web.serving import running

DATA: Final = random_bytes(2 * MIB)
KEY: Final = PREFIX + "theirs/secret"
LINES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "the token's prefix": ({"prefix": PREFIX + "mine/"}, PREFIX),
    "the token's bucket": ({"buckets": ["other"]}, PREFIX),
    "the destination's prefix": ({}, PREFIX + "mine/"),
}
"""What draws the line: the claims of a token, and the prefix that the gateway takes in the bucket ``files``."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a token without restrictions began: half of a file, and a batch."""

    task: dict[str, Any]
    batch: dict[str, Any]

    def target(self, call: RestCall) -> str:
        return call.target(task=self.task["id"], batch=self.batch["id"], upload=self.task["upload_id"], key=KEY)

    def json(self, call: RestCall) -> Any:
        return None if call.json is None else json.loads(json.dumps(call.json).replace("{key}", KEY))

    async def now(self, app: httpx.AsyncClient) -> list[Any]:
        """Everything that somebody else could have changed."""
        answers = [await app.get(f"/v1/tasks/{self.task['id']}"), await app.get(f"/v1/batches/{self.batch['id']}")]
        assert [answer.status_code for answer in answers] == [200, 200]
        return [{**answer.json(), "ticket": None} for answer in answers]


async def begin(app: httpx.AsyncClient) -> Begun:
    created = await app.post("/v1/tasks", json={"key": KEY, "size": len(DATA), "part_size": MIB, "slice_size": MIB})
    task = created.json()
    part = await app.put(f"/v1/tasks/{task['id']}/parts/1", content=DATA[:MIB])
    batch = await app.post("/v1/batches", json={"files": [{"key": KEY + " 2", "size": 1}]})
    assert (created.status_code, part.status_code, batch.status_code) == (201, 200, 201)
    return Begun(task, batch.json())


async def outcome(client: httpx.AsyncClient, address: str, call: RestCall, begun: Begun, **headers: str) -> str:
    """The code of what *call* is refused with; else what it answers."""
    if call.method == WEBSOCKET:
        return await heard(client, address, begun.target(call))
    target, document = begun.target(call), begun.json(call)
    answer = await client.request(call.method, target, json=document, content=call.content, headers=headers)
    if call.method == "HEAD":
        return {403: "key_not_allowed", 400: "unknown_destination"}.get(answer.status_code, "")
    return str(answer.json().get("code", answer.text))


async def heard(client: httpx.AsyncClient, address: str, path: str) -> str:
    """The first message of a websocket, or the code that it is refused with."""
    bearer = client.headers["authorization"].removeprefix("Bearer ")
    protocols = [Subprotocol("gateway.v1"), Subprotocol(f"bearer.{bearer}")]
    try:
        async with connect(f"ws://{address}{path}", subprotocols=protocols) as socket:
            return str(await socket.recv())
    except InvalidStatus as refused:
        return str(json.loads(refused.response.body or b"")["code"])


@asynccontextmanager
async def scene(redis_url: str, cos: RunningCos, line: str) -> AsyncIterator[tuple[Rest, Rest, str]]:
    """A gateway that takes everything; one, at an address, where *line* is drawn; both before one Redis and one COS."""
    cos.clear_faults()
    async with AsyncExitStack() as stack:
        wide = await stack.enter_async_context(running_rest(redis_url, cos))
        files = BucketSetting("files", BUCKET.name, BUCKET.region, LINES[line][1])
        other = BucketSetting("other", OTHER_BUCKET.name, OTHER_BUCKET.region, "")
        drawn = await stack.enter_async_context(running_rest(redis_url, cos, buckets=(files, other)))
        yield wide, drawn, await stack.enter_async_context(running(drawn.gateway.public))


def expected(call: RestCall, line: str) -> str:
    by_name = call.refused == "key_not_allowed"
    return "unknown_destination" if by_name and line == "the token's bucket" else call.refused


async def test_s7_every_operation_is_among_the_calls(rest: Rest) -> None:
    assert {(call.method, call.path) for call in CALLS} == operations(rest.gateway)
    assert len({(call.method, call.path) for call in CALLS}) == len(CALLS)


@pytest.mark.promise(25, 26)
@pytest.mark.parametrize("line", LINES)
async def test_s7_what_lies_beyond_the_line_is_as_if_it_were_not_there(
    redis_url: str, cos: RunningCos, line: str
) -> None:
    async with scene(redis_url, cos, line) as (wide, drawn, address), wide.as_caller("app") as app:
        begun = await begin(app)
        before = await begun.now(app)
        cos.clear_journal()
        async with drawn.as_caller("app", **LINES[line][0]) as narrow:
            told = [(call, await outcome(narrow, address, call, begun)) for call in CALLS]
            for call in CALLS:
                if call.takes_a_ticket:
                    ticket = {"Upload-Ticket": begun.task["ticket"]}
                    told.append((call, await outcome(narrow, address, call, begun, **ticket)))

        for call, answered in told:
            assert answered == expected(call, line) or not call.refused, call
            assert not any(secret in answered for secret in (KEY, begun.task["id"], begun.task["upload_id"])), call
        assert await begun.now(app) == before
        assert [entry for entry in cos.journal() if entry["operation"] != "ListMultipartUploads"] == []


@pytest.mark.parametrize("line", LINES)
async def test_s7_no_ticket_brings_back_what_lies_beyond_the_line(redis_url: str, cos: RunningCos, line: str) -> None:
    async with scene(redis_url, cos, line) as (wide, drawn, address), wide.as_caller("app") as app:
        begun = await begin(app)
        send_command(redis_url, "FLUSHALL")
        cos.clear_journal()
        async with drawn.as_caller("app", **LINES[line][0]) as narrow:
            for call in CALLS:
                if call.takes_a_ticket:
                    told = await outcome(narrow, address, call, begun, **{"Upload-Ticket": begun.task["ticket"]})
                    assert told == "task_not_found", call

        assert cos.journal() == []
        assert (await app.get("/v1/tasks")).json()["tasks"] == []


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
async def test_s7_inside_the_same_calls_find_it(redis_url: str, cos: RunningCos, call: RestCall) -> None:
    """Or the refusals above would tell nothing."""
    async with scene(redis_url, cos, "the token's prefix") as (wide, drawn, address), wide.as_caller("app") as app:
        begun = await begin(app)
        async with drawn.as_caller("app", prefix=PREFIX + "theirs/", buckets=["files"]) as narrow:
            told = await outcome(narrow, address, call, begun)

        assert told not in {"task_not_found", "batch_not_found", "key_not_allowed", "unknown_destination"}
        if not call.refused:
            assert KEY in told


# --- what may be moved on: sizes and types

NARROWER: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "a size": ({"size": 2 * MIB}, {"max_size": 2 * MIB - 1}, "file_too_large"),
    "no size": ({}, {"max_size": MIB}, "file_too_large"),
    "a type": ({"size": 2 * MIB, "content_type": "text/html"}, {"types": ["image/*"]}, "type_not_allowed"),
    "no type": ({}, {"types": ["image/*"]}, "type_not_allowed"),
    "an option": ({"size": 2 * MIB, "acl": "public-read"}, {"options": ["overwrite"]}, "option_not_allowed"),
}
"""What a file was said to be, a token that would not have let it begin, and what that token hears."""


@pytest.mark.parametrize("mode", ["parts", "content"])
@pytest.mark.parametrize("row", NARROWER)
async def test_s7_size_and_type_are_asked_again_of_whoever_moves_a_file_on(rest: Rest, row: str, mode: str) -> None:
    options, claims, code = NARROWER[row]
    async with rest.as_caller("app") as app, rest.as_caller("app", **claims) as narrow:
        task = (await app.post("/v1/tasks", json={"key": KEY, "part_size": MIB, **options})).json()
        one = f"/v1/tasks/{task['id']}"
        if mode == "parts":
            stored = [await app.put(f"{one}/parts/{number}", content=DATA[:MIB]) for number in (1, 2)]
        else:
            first, more = f"bytes 0-{MIB - 1}/{options.get('size', '*')}", f"bytes {MIB}-{MIB}/*"
            stored = [
                await app.put(f"{one}/content", content=data, headers={"Content-Range": said})
                for data, said in ((DATA[:MIB], first), (b"x", more))
            ]
        assert {answer.status_code for answer in stored} == {200}

        refused = [
            await narrow.put(f"{one}/parts/2", content=DATA[MIB:]),
            await narrow.put(
                f"{one}/content", content=DATA[MIB:], headers={"Content-Range": f"bytes {MIB}-{2 * MIB - 1}/*"}
            ),
            await narrow.post(f"{one}/complete"),
            await narrow.post(f"{one}/restart"),
        ]
        told = [answer.json()["code"] for answer in refused]
        assert told.pop(0 if mode == "content" else 1) in (code, "task_mode")
        assert told == [code] * 3

        assert (await narrow.get(one)).status_code == 200
        assert (await narrow.post(f"{one}/pause")).status_code == 200
        assert (await narrow.post(f"{one}/restart")).json()["code"] == code
        assert (await narrow.post(f"{one}/cancel")).json()["state"] == "canceled"


@pytest.mark.parametrize("claims", [{"forbid_overwrite": True}, {"options": ["acl"]}])
async def test_s7_a_token_that_may_replace_nothing_ends_no_task_that_would(
    rest: Rest, cos: RunningCos, claims: dict[str, Any]
) -> None:
    async with rest.as_caller("app") as app, rest.as_caller("app", **claims) as narrow:
        assert (await app.post(f"/v1/files?key={KEY}", content=b"stands")).status_code == 201
        tasks = [(await app.post("/v1/tasks", json={"key": KEY, "size": 8})).json()["id"] for _ in range(2)]
        await app.put(f"/v1/tasks/{tasks[1]}/parts/1", content=b"replaces")
        answers = [
            await narrow.put(f"/v1/tasks/{tasks[0]}/content", content=b"replaces"),
            await narrow.post(f"/v1/tasks/{tasks[1]}/complete"),
        ]

    assert [answer.json()["code"] for answer in answers] == ["option_not_allowed", "object_exists"]
    assert cos.read(BUCKET, KEY) == b"stands"


async def test_s7_what_was_completed_stays_so_for_a_token_that_would_not_have_let_it_begin(rest: Rest) -> None:
    async with rest.as_caller("app") as app, rest.as_caller("app", max_size=1, types=["image/*"]) as narrow:
        task = (await app.post("/v1/tasks", json={"key": KEY, "size": 10})).json()
        await app.put(f"/v1/tasks/{task['id']}/content", content=b"0123456789")

        assert (await narrow.post(f"/v1/tasks/{task['id']}/complete")).json()["state"] == "success"


# --- Idempotency-Keys


async def test_s7_an_idempotency_key_brings_nothing_of_another_bucket(rest: Rest) -> None:
    """Two tokens without a common bucket: what they ask for is the same text, and means two places."""
    once = {"Idempotency-Key": "once"}
    async with rest.as_caller("app", buckets=["other"]) as first, rest.as_caller("app", buckets=["files"]) as second:
        for path, document in (
            ("/v1/tasks", {"key": PREFIX + "same", "size": 1}),
            ("/v1/batches", {"files": [{"key": PREFIX + "same", "size": 1}]}),
        ):
            answers = [await client.post(path, json=document, headers=once) for client in (first, second, first)]

            assert [answer.status_code for answer in answers] == [201, 422, 201]
            assert answers[1].json()["code"] == "idempotency_conflict"
            assert answers[0].json()["id"] == answers[2].json()["id"]
            once = {"Idempotency-Key": "twice"}


# --- batches, and what is told of them


@pytest.mark.promise(25)
async def test_s7_a_batch_shows_counts_and_moves_only_what_lies_inside(rest: Rest) -> None:
    files = [{"key": PREFIX + name, "size": size} for name, size in (("u1/a", 10), ("u2/b", 200), ("u1/c", 30))]
    async with rest.as_caller("app") as app, rest.as_caller("app", prefix=PREFIX + "u1/") as narrow:
        batch = (await app.post("/v1/batches", json={"files": [*files, {"key": "/bad", "size": 1}]})).json()
        one = f"/v1/batches/{batch['id']}"

        seen = (await narrow.get(one)).json()
        assert [(file["index"], file["task"]["key"]) for file in seen["files"]] == [
            (0, PREFIX + "u1/a"),
            (2, PREFIX + "u1/c"),
        ]
        assert seen["size"] == 40
        for move, state in (("pause", "paused"), ("restart", "waiting"), ("cancel", "canceled")):
            moved = (await narrow.post(f"{one}/{move}")).json()
            assert [file["task"]["state"] for file in moved["files"]] == [state] * 2
            everything = (await app.get(one)).json()["files"]
            assert [file["task"] and file["task"]["state"] for file in everything] == [state, "waiting", state, None]
        listed = (await narrow.get("/v1/tasks", params={"batch": batch["id"]})).json()["tasks"]
        assert {task["key"] for task in listed} == {PREFIX + "u1/a", PREFIX + "u1/c"}


async def test_s7_a_websocket_tells_nothing_of_what_lies_outside(rest: Rest) -> None:
    files = [{"key": PREFIX + name, "size": size} for name, size in (("u2/b", 200), ("u1/a", 10))]
    async with (
        rest.as_caller("app") as app,
        rest.as_caller("app", prefix=PREFIX + "u1/") as narrow,
        running(rest.gateway.public) as address,
    ):
        bearer = narrow.headers["authorization"].removeprefix("Bearer ")
        async with connect(f"ws://{address}/v1/progress", subprotocols=[Subprotocol(f"bearer.{bearer}")]) as socket:
            assert json.loads(await socket.recv())["tasks"] == []
            batch = (await app.post("/v1/batches", json={"files": files})).json()
            for file in batch["files"]:
                await app.put(f"/v1/tasks/{file['task']['id']}/content", content=bytes(file["task"]["size"]))
            heard: list[dict[str, Any]] = []
            while not any(told.get("batch", {}).get("percent") == 1 for told in heard):
                heard.append(json.loads(await socket.recv()))

    assert {told["task"]["key"] for told in heard if told["type"] == "task"} == {PREFIX + "u1/a"}
    assert {told["batch"]["size"] for told in heard if told["type"] == "batch"} == {10}


async def test_s7_a_listing_goes_on_behind_many_tasks_that_lie_outside(rest: Rest) -> None:
    names = ["u1/first", *(f"u2/{n}" for n in range(30)), "u1/last"]
    async with rest.as_caller("app") as app, rest.as_caller("app", prefix=PREFIX + "u1/") as narrow:
        for name in names:
            assert (await app.post("/v1/tasks", json={"key": PREFIX + name, "size": 1})).status_code == 201
        found, pages, cursor = list[str](), 0, dict[str, str]()
        while True:
            page = (await narrow.get("/v1/tasks", params={"limit": 1, **cursor})).json()
            found += [task["key"].removeprefix(PREFIX) for task in page["tasks"]]
            pages += 1
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}

    assert found == ["u1/last", "u1/first"]
    assert 3 <= pages <= 6, "ten tasks are looked at for a page of one"


@pytest.mark.parametrize(
    ("claims", "code"), [({"max_size": MIB}, "EntityTooLarge"), ({"types": ["image/*"]}, "AccessDenied")]
)
async def test_s7_size_and_type_are_asked_again_at_the_cos_door(rest: Rest, claims: dict[str, Any], code: str) -> None:
    async with rest.as_caller("app") as app, rest.as_caller("app", **claims) as narrow:
        wide, narrower = [DoorKey(rest, (await one.post("/v1/keys", json={})).json()) for one in (app, narrow)]
        upload_id = (await wide.ask(Operation.INITIATE_UPLOAD, KEY)).text("UploadId") or ""
        for number in ("1", "2"):
            query = {"partNumber": number, "uploadId": upload_id}
            assert (await wide.call("PUT", KEY, query, DATA[:MIB])).status == 200

        for operation in (Operation.UPLOAD_PART, Operation.COMPLETE_UPLOAD):
            assert (await narrower.ask(operation, KEY, upload_id)).code == code
        assert (await narrower.ask(Operation.LIST_PARTS, KEY, upload_id)).status == 200
        assert (await narrower.ask(Operation.ABORT_UPLOAD, KEY, upload_id)).status == 204


# --- before anybody knows who was revoked


async def test_s17_before_redis_told_who_was_revoked_nothing_is_changed(cos: RunningCos) -> None:
    nothing = Begun({"id": "t" * 22, "upload_id": "u", "ticket": ""}, {"id": "b" * 22})
    cos.clear_journal()
    async with running_rest("unix:///nowhere/redis.sock", cos) as blind, blind.as_caller("app") as app:
        for call in CALLS:
            if call.method not in ("GET", "HEAD", WEBSOCKET):
                assert await outcome(app, "", call, nothing) == "state_store_unavailable", call

    assert cos.journal() == []


@pytest.mark.parametrize("claims", [{"iat": None}, {"exp": int(time.time()) + 90_000}, {"iat": 1}])
async def test_s17_tokens_without_an_age_or_an_end_in_sight_are_not_taken(rest: Rest, claims: dict[str, Any]) -> None:
    async with rest.as_caller("app", **claims) as app:
        answer = await app.get("/v1/tasks")

    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")

"""What a caller spends at both doors: refusals come before the work, and what COS is asked has a bound."""

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest

from gateway.domain.parts import MIB
from gateway.web.cos_call import Operation
from tests.fakes.cos_caller import CosCaller
from tests.fakes.local_cos import BUCKET, RunningCos
from tests.web.cos_calls import DoorKey
from tests.web.rest import PREFIX, Rest, running_rest

KEY: Final = PREFIX + "costs"
NO_TASK: Final = "/v1/tasks/AAAAAAAAAAAAAAAAAAAAAA"
JSON: Final = {"content-type": "application/json"}
OF_AN_UPLOAD: Final = (
    Operation.UPLOAD_PART,
    Operation.LIST_PARTS,
    Operation.COMPLETE_UPLOAD,
    Operation.ABORT_UPLOAD,
)


class Unread:
    """A body that notes whether anybody asked for it."""

    def __init__(self) -> None:
        self.was_read = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.was_read = True
        yield b"{}"


async def key_of(rest: Rest, owner: str = "alice") -> DoorKey:
    async with rest.as_caller(owner) as client:
        return DoorKey(rest, (await client.post("/v1/keys", json={"bucket": "files"})).json())


@pytest.mark.parametrize(
    ("method", "path", "limits", "code"),
    [
        ("POST", NO_TASK + "/complete", {}, "task_not_found"),
        ("POST", NO_TASK + "/complete", {"unknown_ids_per_minute_count": 1}, "rate_limited"),
        ("POST", "/v1/tasks", {"creates_per_subject_rate": 0.05}, "rate_limited"),
        ("POST", "/v1/batches", {"creates_per_subject_rate": 0.05}, "rate_limited"),
        ("POST", "/v1/tasks", {"requests_per_subject_rate": 0.05}, "rate_limited"),
        ("POST", "/v1/batches", {"requests_per_subject_rate": 0.05}, "rate_limited"),
        ("POST", "/v1/keys", {"requests_per_subject_rate": 0.05}, "rate_limited"),
        ("POST", "/v1/files", {"requests_per_subject_rate": 0.05}, "rate_limited"),
        ("PUT", NO_TASK + "/parts/1", {"requests_per_subject_rate": 0.05}, "rate_limited"),
        ("PUT", "/v1/objects/" + KEY, {"requests_per_subject_rate": 0.05}, "rate_limited"),
    ],
)
async def test_s8_what_is_refused_is_refused_before_its_body_is_read(
    redis_url: str, cos: RunningCos, method: str, path: str, limits: dict[str, Any], code: str
) -> None:
    async with running_rest(redis_url, cos, **limits) as rest, rest.as_caller() as client:
        if code == "rate_limited":  # the one that there is
            await client.post(path if "unknown_ids_per_minute_count" in limits else "/v1/tasks", json={"key": KEY})
        body = Unread()
        answer = await client.request(method, path, content=body, headers=JSON)

    assert answer.json()["code"] == code
    assert not body.was_read


async def test_s8_the_list_of_an_unknown_upload_is_not_read(rest: Rest) -> None:
    key, body = await key_of(rest), Unread()
    answer = await key.call("POST", KEY, {"uploadId": "unknown"}, body)

    assert answer.code == "NoSuchUpload"
    assert not body.was_read


async def test_s8_a_list_of_another_subjects_task_is_not_read(rest: Rest, alice: httpx.AsyncClient) -> None:
    task = (await alice.post("/v1/tasks", json={"key": KEY, "size": 3 * MIB, "part_size": MIB})).json()
    body = Unread()
    async with rest.as_caller("bob") as bob:
        answer = await bob.post(f"/v1/tasks/{task['id']}/complete", content=body, headers=JSON)

    assert (answer.status_code, body.was_read) == (404, False)


async def test_s8_a_long_list_is_paid_for_at_both_doors(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, requests_per_subject_rate=2) as rest, rest.as_caller() as client:
        key = await key_of(rest, "bob")
        async with rest.as_caller("bob") as bob:
            for caller in (client, bob):
                await caller.post("/v1/tasks", json={"key": KEY, "size": 3 * MIB, "part_size": MIB})
            task = (await client.get("/v1/tasks")).json()["tasks"][0]
            theirs = (await bob.get("/v1/uploads")).json()["uploads"][0]["upload_id"]
        rows = [{"number": number, "etag": f'"{number:032x}"'} for number in range(1, 5001)]
        path = f"/v1/tasks/{task['id']}/complete"
        dear = [(await client.post(path, json={"parts": rows})).json()["code"] for _ in range(2)]
        part = "<Part><PartNumber>{}</PartNumber><ETag>e</ETag></Part>"
        listed = "".join(part.format(number) for number in range(1, 5001))
        xml = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        at_cos = [(await key.call("POST", KEY, {"uploadId": theirs}, xml)).code for _ in range(2)]

    assert dear == ["parts_missing", "rate_limited"]
    assert at_cos == ["InvalidPart", "SlowDown"]


async def test_s8_a_batch_is_paid_for_by_its_files(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, requests_per_subject_rate=1) as rest, rest.as_caller() as client:
        files = [{"key": f"{KEY}/{number}", "size": 1} for number in range(60)]
        batch = (await client.post("/v1/batches", json={"files": files})).json()["id"]
        codes = [(await client.get(f"/v1/batches/{batch}")).status_code for _ in range(5)]

    assert codes[0] == 200
    assert codes[-1] == 429


@pytest.mark.parametrize("row", [*OF_AN_UPLOAD, "GET", "DELETE"])
async def test_s11_after_too_many_unknown_uploads_cos_is_asked_no_more(
    redis_url: str, cos: RunningCos, row: Any
) -> None:
    async with running_rest(redis_url, cos, unknown_ids_per_minute_count=6) as rest, rest.as_caller() as client:
        key = await key_of(rest)

        async def ask(upload_id: str) -> tuple[int, str | None]:
            if row in ("GET", "DELETE"):
                path = f"/v1/uploads/{upload_id}" + ("/parts" if row == "GET" else "")
                answer = await client.request(row, path, params={"key": KEY})
                return answer.status_code, answer.json()["code"]
            told = await key.ask(row, KEY, upload_id)
            return told.status, told.code

        cos.clear_journal()
        told = [await ask(f"unknown{number}") for number in range(10)]

    known, refused = ("task_not_found", "rate_limited") if row in ("GET", "DELETE") else ("NoSuchUpload", "SlowDown")
    assert told == [(404, known)] * 6 + [(503 if refused == "SlowDown" else 429, refused)] * 4
    assert len(cos.journal("ListParts")) == 6


async def test_s11_what_is_there_is_found_all_the_same(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, unknown_ids_per_minute_count=1) as rest, rest.as_caller() as client:
        task = (await client.post("/v1/tasks", json={"key": KEY, "size": 3 * MIB, "part_size": MIB})).json()
        url = "/v1/uploads/{}/parts"
        codes = [(await client.get(url.format(name), params={"key": KEY})).status_code for name in ("a", "b")]
        assert codes == [404, 429]

        assert (await client.get(url.format(task["upload_id"]), params={"key": KEY})).status_code == 200


async def test_s11_cos_is_asked_once_for_one_unknown_upload(rest: Rest, cos: RunningCos) -> None:
    key = await key_of(rest)
    cos.clear_journal()
    for _ in range(10):
        assert (await key.ask(Operation.LIST_PARTS, KEY, "unknown once")).code == "NoSuchUpload"

    assert len(cos.journal("ListParts")) == 1


@pytest.mark.parametrize("row", ["GET uploads", "GET parts", "HEAD", Operation.LIST_UPLOADS, Operation.HEAD_OBJECT])
async def test_s11_what_only_looks_at_cos_has_a_rate(redis_url: str, cos: RunningCos, row: Any) -> None:
    async with running_rest(redis_url, cos, looks_per_subject_rate=0.25) as rest, rest.as_caller() as client:
        task = (await client.post("/v1/tasks", json={"key": KEY, "size": 3 * MIB, "part_size": MIB})).json()
        key = await key_of(rest)

        async def ask() -> int:
            if row == "GET uploads":
                return (await client.get("/v1/uploads")).status_code
            if row == "GET parts":
                path = f"/v1/uploads/{task['upload_id']}/parts"
                return (await client.get(path, params={"key": KEY})).status_code
            if row == "HEAD":
                return (await client.head(f"/v1/objects/{KEY}/none")).status_code
            return (await key.ask(row, KEY)).status

        cos.clear_journal()
        codes = [await ask() for _ in range(7)]

        assert 429 not in codes[:5]
        assert 503 not in codes[:5]
        assert set(codes[5:]) <= {429, 503}
        assert len(cos.journal()) == 5
        assert (await client.get(f"/v1/tasks/{task['id']}")).status_code == 200


async def opened(client: httpx.AsyncClient, *keys: str) -> None:
    for key in keys:
        assert (await client.post("/v1/tasks", json={"key": key, "size": 3 * MIB, "part_size": MIB})).status_code == 201


def theirs_at_cos(cos: RunningCos, keys: list[str]) -> None:
    """Uploads that other programs have open."""
    caller = CosCaller(cos.port, BUCKET, cos.key)
    for key in keys:
        assert caller.call("POST", key, {"uploads": ""}).text("UploadId")


async def test_s11_a_list_begins_at_the_callers_own_uploads(
    redis_url: str, cos: RunningCos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for upload in cos.app.uploads.all(BUCKET.name):
        cos.app.uploads.close(upload)
    monkeypatch.setattr("gateway.transfer.uploads.MAX_LIST", 10)  # of COS's rows on a page
    theirs_at_cos(cos, [f"{PREFIX}a{number:03}" for number in range(150)])
    theirs_at_cos(cos, [f"{PREFIX}n{number:03}" for number in range(150)])
    async with running_rest(redis_url, cos) as rest, rest.as_caller("erin") as erin, rest.as_caller("dave") as dave:
        mine = [PREFIX + name for name in ("m", "m", "mm", "z", "页")]
        await opened(erin, *mine)
        cos.clear_journal()
        assert (await dave.get("/v1/uploads")).json()["uploads"] == []
        assert cos.journal("ListMultipartUploads") == []

        whole = (await erin.get("/v1/uploads")).json()
        assert ([row["key"] for row in whole["uploads"]], whole["next_cursor"]) == (mine, None)
        assert len(cos.journal("ListMultipartUploads")) <= 3

        seen: list[str] = []
        cursor: dict[str, str] = {}
        for _ in range(10):
            page = (await erin.get("/v1/uploads", params={"limit": "1", **cursor})).json()
            seen += [row["key"] for row in page["uploads"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == mine


@pytest.mark.parametrize("bad", ["signature", "key", "form"])
async def test_s11_bad_signatures_are_counted_as_bad_tokens_are(rest: Rest, bad: str) -> None:
    good, other = await key_of(rest), await key_of(rest, "bob")
    assert (await good.ask(Operation.HEAD_OBJECT, KEY)).status == 404
    forged = {**other.document, "tmp_secret_key": "0" * 32}
    if bad == "key":
        forged["tmp_secret_id"] = "AKIDsomebodyelses"
    stranger = DoorKey(rest, forged)

    async def ask(key: DoorKey) -> Any:
        return await (key.post(KEY, b"x") if bad == "form" else key.ask(Operation.LIST_PARTS, KEY, "x"))

    codes = [(await ask(stranger)).code for _ in range(20)]

    assert set(codes) == {"InvalidAccessKeyId" if bad == "key" else "SignatureDoesNotMatch"}
    assert (await ask(stranger)).code == "SlowDown"
    assert (await other.ask(Operation.HEAD_OBJECT, KEY)).status == 503, "never seen before"
    assert (await good.ask(Operation.HEAD_OBJECT, KEY)).status == 404, "known to be good"
    async with rest.as_caller("carol") as carol:
        assert (await carol.get("/v1/tasks")).status_code == 429, "tokens are counted with them"


async def test_s8_opening_a_socket_on_all_tasks_costs_what_its_snapshot_loads(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, requests_per_subject_rate=1) as rest, rest.as_caller() as client:
        token = client.headers["authorization"].removeprefix("Bearer ")
        statuses = [await opened_socket(rest, token) for _ in range(3)]

    assert statuses == [101, 101, 429]


async def opened_socket(rest: Rest, token: str) -> int:
    """The status that a handshake for all tasks is answered with; an open socket is left at once."""
    scope = {
        "type": "websocket",
        "path": "/v1/progress",
        "raw_path": b"/v1/progress",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "subprotocols": ["gateway.v1", f"bearer.{token}"],
        "extensions": {"websocket.http.response": {}},
        "state": {},
        "root_path": "",
        "scheme": "ws",
    }
    coming: list[dict[str, Any]] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]
    status: list[int] = []

    async def receive() -> Any:
        return coming.pop(0) if coming else {"type": "websocket.disconnect", "code": 1001}

    async def send(message: Any) -> None:
        if message["type"] in ("websocket.accept", "websocket.http.response.start"):
            status.append(message.get("status", 101))

    await rest.gateway.public(scope, receive, send)
    return status[0]

"""A body whose client pauses keeps nothing of what it sent, unless a lease covers it."""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

import httpx
import pytest
from starlette.types import ASGIApp, Message

from gateway.cos.signing import Credentials, authorization
from tests.fakes.local_cos import BUCKET, RunningCos
from tests.web.rest import PREFIX, Rest, running_rest

SECONDS: Final = 5.0
SIZE: Final = 4 << 20
SENT: Final = 200_000
Head = tuple[str, str, dict[str, str], dict[str, str]]
"""Method, path, query and headers."""


@pytest.fixture
async def spent(redis_url: str, cos: RunningCos) -> AsyncIterator[Rest]:
    """A gateway whose budget somebody else holds: every body streams."""
    async with running_rest(redis_url, cos) as rest:
        budget = rest.gateway._engine.budget
        lease = budget.try_take(budget.limit_bytes, "somebody else")
        assert lease is not None
        yield rest


async def create(client: httpx.AsyncClient, key: str) -> str:
    answer = await client.post("/v1/tasks", json={"key": key, "size": SIZE, "part_size": SIZE})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def rest_head(way: str, client: httpx.AsyncClient) -> Head:
    key = f"{PREFIX}{way}.bin"
    headers = {"authorization": client.headers["authorization"], "content-type": "application/octet-stream"}
    match way:
        case "part":
            return "PUT", f"/v1/tasks/{await create(client, key)}/parts/1", {}, headers
        case "content":
            return "PUT", f"/v1/tasks/{await create(client, key)}/content", {}, headers
        case "file":
            return "POST", "/v1/files", {"key": key}, headers
        case "append":
            return "POST", f"/v1/objects/{key}", {"append": "", "position": "0"}, headers
        case _:
            return "PUT", f"/v1/objects/{key}", {}, headers


async def cos_head(way: str, client: httpx.AsyncClient, app: ASGIApp) -> Head:
    issued = (await client.post("/v1/keys", json={})).json()
    key = Credentials(issued["tmp_secret_id"], issued["tmp_secret_key"])
    path = f"/{PREFIX}{way}.bin"

    def signed(method: str, query: dict[str, str], length: int) -> Head:
        headers = {
            "host": BUCKET.host,
            "x-cos-security-token": issued["session_token"],
            "content-length": str(length),
        }
        now = int(time.time())
        told = authorization(key, method, path, query, headers, start=now - 60, end=now + 600)
        return method, path, query, {**headers, "authorization": told}

    if way.startswith("object"):
        return signed("PUT", {}, SIZE)
    method, path, query, headers = signed("POST", {"uploads": ""}, 0)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{BUCKET.host}") as asking:
        begun = await asking.request(method, path, params=query, headers=headers)
    upload_id = begun.text.partition("<UploadId>")[2].partition("</UploadId>")[0]
    return signed("PUT", {"partNumber": "1", "uploadId": upload_id}, SIZE)


def scope_of(head: Head) -> dict[str, Any]:
    method, path, query, headers = head
    told: Mapping[str, str] = {"host": "127.0.0.1", "content-length": str(SIZE), **headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": str(httpx.QueryParams(query)).encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in told.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "state": {},
    }


@pytest.mark.parametrize(
    "way", ["part", "content", "file", "object", "append", "object-at-cos-door", "part-at-cos-door"]
)
async def test_f1_a_body_that_waits_for_its_client_keeps_no_piece(way: str, spent: Rest) -> None:
    async with spent.as_caller() as client:
        at_cos = way.endswith("at-cos-door")
        app = spent.gateway.cos if at_cos else spent.gateway.public
        head = await cos_head(way, client, app) if at_cos else await rest_head(way, client)
    piece = random.Random(way).randbytes(SENT)
    ours = sys.getrefcount(piece)
    waits, over = asyncio.Event(), asyncio.Event()
    answer, given = bytearray(), False

    async def receive() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": piece, "more_body": True}
        waits.set()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answer.extend(message.get("body", b""))

    serving = asyncio.ensure_future(app(scope_of(head), receive, send))
    async with asyncio.timeout(SECONDS):
        await asyncio.wait([asyncio.create_task(waits.wait()), serving], return_when=asyncio.FIRST_COMPLETED)
        assert not serving.done(), answer.decode()
        while sys.getrefcount(piece) > ours:  # noqa: ASYNC110 -- nothing tells when a reference goes
            await asyncio.sleep(0.005)
        over.set()
        with suppress(Exception):
            await serving
    assert b"body_incomplete" in answer or b"IncompleteBody" in answer or json.loads(answer)["retryable"]

"""A body that says of itself that it is a piece of a file is never stored as the file, at any door (report 2)."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.fakes.local_cos import BUCKET, RunningCos
from tests.web.doors import COS_DOORS, DOORS, Doors, doors_of, outcome
from tests.web.rest import PREFIX, Rest, running_rest

DATA = b"five!"
TAKE_PIECES = frozenset({"task_content", "batch"})
"""Doors whose bytes go to ``PUT /v1/tasks/{id}/content``."""


@pytest.fixture
async def doors(rest: Rest) -> AsyncIterator[Doors]:
    async with doors_of(rest) as doors:
        yield doors


def say_range(doors: Doors, content_range: str) -> None:
    """Whatever carries the file's bytes has this Content-Range."""

    async def hook(request: httpx.Request) -> None:
        if DATA in await request.aread():
            request.headers["content-range"] = content_range

    for client in (doors.rest, doors.cos):
        client.event_hooks = {"request": [hook]}


@pytest.mark.parametrize("door", sorted(DOORS.keys() - TAKE_PIECES))
@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-4/15", "bytes 5-9/15", "bytes 10-14/15", "bytes 0-4/*", "bytes */5", "bytes 0-5/6", "items 0-4/5", "5"],
)
async def test_a_piece_is_refused(doors: Doors, cos: RunningCos, door: str, content_range: str) -> None:
    key = f"{PREFIX}pieces/{door}-{content_range.replace('/', '_').replace('*', 'x')}"
    say_range(doors, content_range)

    ended = await outcome(doors, door, key, {}, DATA)

    assert (ended.status, ended.code) == (400, "InvalidArgument" if door in COS_DOORS else "invalid_range")
    assert key not in cos.keys(BUCKET)


@pytest.mark.parametrize("door", sorted(DOORS))
async def test_the_whole_is_stored(doors: Doors, cos: RunningCos, door: str) -> None:
    key = f"{PREFIX}pieces/whole-{door}"
    say_range(doors, "bytes 0-4/5")

    assert (await outcome(doors, door, key, {}, DATA)).is_good
    assert cos.read(BUCKET, key) == DATA


@pytest.mark.parametrize("door", ["form_file", "cos_form"])
async def test_a_form_s_file_has_the_size_that_its_range_says(doors: Doors, cos: RunningCos, door: str) -> None:
    key = f"{PREFIX}pieces/size-{door}"
    say_range(doors, "bytes 0-5/6")

    assert (await outcome(doors, door, key, {}, DATA)).status == 400
    assert key not in cos.keys(BUCKET)


async def test_a_piece_in_a_body_of_unknown_length_is_refused(doors: Doors, cos: RunningCos) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield DATA

    for said in ("bytes 0-4/5", "bytes 0-4/15"):  # nobody could tell whether it is the whole before it is stored
        headers = {"content-range": said}
        answer = await doors.rest.put(f"/v1/objects/{PREFIX}pieces/chunked", content=chunks(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_range")
    assert f"{PREFIX}pieces/chunked" not in cos.keys(BUCKET)


async def test_a_page_of_an_allowed_origin_reads_the_refusal(redis_url: str, cos: RunningCos) -> None:
    origin = "https://app.example"
    async with running_rest(redis_url, cos, allowed_origins=(origin,)) as rest, doors_of(rest) as doors:
        headers = {"content-range": "bytes 0-4/15", "origin": origin}
        answer = await doors.rest.put(f"/v1/objects/{PREFIX}pieces/cors", content=DATA, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == origin

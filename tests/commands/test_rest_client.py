"""Against a real socket that says what each test wrote down."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.commands.rest_client import Refused, RestClient, Unreachable, delay_seconds

RETRY = {"code": "overloaded", "title": "Busy", "retryable": True}


def _answer(status: int, document: Any, *lines: str) -> bytes:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(raw)}", "Connection: close", *lines]
    return "\r\n".join([*head, "", ""]).encode() + raw


@asynccontextmanager
async def _gateway(*answers: bytes) -> AsyncIterator[tuple[RestClient, list[bytes], list[str]]]:
    """A client before a server that gives *answers* in turn, and hangs up once none is left."""
    left, asked, waits = list(answers), [], list[str]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
        asked.append(head + await reader.readexactly(length))
        writer.write(left.pop(0) if left else b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = RestClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "the-token", waits.append)
    try:
        yield client, asked, waits
    finally:
        await client.aclose()
        server.close()


async def test_what_may_help_is_tried_again_with_the_whole_body_after_the_time_it_asks_for() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"

    async with _gateway(_answer(503, RETRY, "Retry-After: 1"), _answer(200, {"id": "x"})) as (client, asked, waits):
        document = await client.call("PUT", "/a", body=body, headers={"Content-Length": "3"})

    assert document == {"id": "x"}
    assert [request.partition(b"\r\n\r\n")[2] for request in asked] == [b"abc", b"abc"]
    assert all(b"Authorization: Bearer the-token\r\n" in request for request in asked)
    assert waits == ["overloaded: again in 1 s"]


@pytest.mark.parametrize("code", ["invalid_key", "task_paused", "task_error"])
async def test_what_only_a_person_can_mend_is_told_at_once(code: str) -> None:
    answer = _answer(409, {"code": code, "title": "No", "retryable": code.startswith("task")})
    async with _gateway(answer) as (client, asked, _):
        with pytest.raises(Refused) as caught:
            await client.call("POST", "/a")

    assert (caught.value.code, caught.value.status, len(asked)) == (code, 409, 1)


async def test_a_connection_that_breaks_is_made_again_once_the_gateway_was_there() -> None:
    async with _gateway(_answer(200, {}), b"", _answer(200, {"id": "y"})) as (client, asked, _):
        await client.call("GET", "/a")
        assert await client.call("GET", "/b") == {"id": "y"}

    assert len(asked) == 3


async def test_a_gateway_that_never_answered_is_not_waited_for() -> None:
    async with _gateway() as (client, asked, _):
        with pytest.raises(Unreachable):
            await client.call("GET", "/a")

    assert len(asked) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://a.example", "nonsense", "http://a b"])
async def test_an_address_where_no_gateway_is_is_told_in_words(url: str) -> None:
    client = RestClient(url, "t")
    with pytest.raises(Unreachable, match="no "):
        await client.call("GET", "/a")
    await client.aclose()


async def test_what_is_no_gateway_s_answer_is_told_as_such() -> None:
    async with _gateway(_answer(404, b"<html>nginx</html>")) as (client, _, _):
        with pytest.raises(Refused, match="status_404"):
            await client.call("GET", "/a")
    async with _gateway(_answer(200, b"<html>hello</html>")) as (client, _, _):
        with pytest.raises(Refused, match="no_gateway"):
            await client.call("GET", "/a")


def test_waits_double_to_half_a_minute_and_differ() -> None:
    sure: Callable[[int], float] = lambda attempts: delay_seconds(attempts, 0.0)  # noqa: E731
    assert [sure(attempts) for attempts in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert delay_seconds(3, 1.0) == 2

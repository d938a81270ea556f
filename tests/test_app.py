"""The composition root, built and run without a server."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from gateway.app import Gateway
from gateway.config import Settings, load_settings
from gateway.config_values import BucketSetting, ListenAddress

SECRET = "0123456789abcdef0123456789abcdef"
ANY = ListenAddress("127.0.0.1", 0)


def settings(redis_url: str = "unix:///nowhere", **given: Any) -> Settings:
    told = {
        "buckets": (BucketSetting("files", "files-1250000000", "ap-guangzhou", ""),),
        "cos_endpoint": "http://127.0.0.1:1",
        "cos_secret_id": "AKID0000",
        "cos_secret_key": "secret00",
        "redis_url": redis_url,
        "token_secret": SECRET,
        "listen": ANY,
        "cos_listen": None,
        "admin_listen": ANY,
    }
    return load_settings(**{**told, **given})


async def ask(app: Any, port: int, path: str = "/livez") -> int:
    """The status of a GET that came in on *port*."""
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "server": ("127.0.0.1", port),
        "client": ("127.0.0.1", 5),
        "http_version": "1.1",
        "scheme": "http",
    }
    await app(scope, receive, send)
    status: int = answers[0]["status"]
    return status


async def test_a_gateway_starts_and_stops_while_redis_is_away() -> None:
    """Then it is not ready, and becomes so when Redis comes: nobody has to start it again."""
    gateway = Gateway(settings("unix:///nowhere/redis.sock"))
    async with asyncio.timeout(10), gateway.running():
        assert await ask(gateway.public, 81, "/readyz") == 503
        assert await ask(gateway.public, 81, "/livez") == 200


async def test_work_beside_requests_that_fails_is_told_and_does_not_break_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(settings("unix:///nowhere/redis.sock"))
    failed = asyncio.Event()

    async def look() -> None:
        failed.set()
        raise ZeroDivisionError

    monkeypatch.setattr(gateway._admission, "run", look)
    async with asyncio.timeout(10), gateway.running():
        await failed.wait()

    assert "ZeroDivisionError" in caplog.text

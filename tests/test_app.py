"""The composition root: which door is behind which port, and that what runs beside requests starts and ends."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from starlette.types import Message

from gateway.app import Dispatcher, Gateway, _bind, create, run
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


async def test_each_port_has_its_door(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(redis_url, listen=ListenAddress("127.0.0.1", 81), admin_listen=ListenAddress("127.0.0.1", 82))
    for name, value in given.effective(reveal=True).items():
        monkeypatch.setenv(name, value)
    app = create()

    assert isinstance(app, Dispatcher)
    assert (await ask(app, 81), await ask(app, 82)) == (200, 200)
    assert (await ask(app, 81, "/metrics"), await ask(app, 82, "/metrics")) == (404, 200)
    assert (await ask(app, 81, "/v1/tasks"), await ask(app, 82, "/v1/tasks")) == (401, 404)
    with pytest.raises(KeyError):
        await ask(app, 83)


class Lifespan:
    """A server's side of ASGI's lifespan."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self._started = False

    async def receive(self) -> Message:
        if not self._started:
            self._started = True
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        await self.said.put(message["type"])


async def test_what_runs_beside_requests_runs_as_long_as_the_server(redis_url: str) -> None:
    gateway, lifespan = Gateway(settings(redis_url)), Lifespan()
    before = asyncio.all_tasks()
    living = asyncio.create_task(Dispatcher(gateway, {})({"type": "lifespan"}, lifespan.receive, lifespan.send))
    async with asyncio.timeout(10):
        assert await lifespan.said.get() == "lifespan.startup.complete"
        assert len(asyncio.all_tasks() - before) > 3
        lifespan.stop.set()
        assert await lifespan.said.get() == "lifespan.shutdown.complete"
        await living
    await asyncio.sleep(0)

    assert asyncio.all_tasks() - before == set()


async def test_a_gateway_starts_and_stops_while_redis_is_away() -> None:
    """Then it is not ready, and becomes so when Redis comes: nobody has to start it again."""
    gateway = Gateway(settings("unix:///nowhere/redis.sock"))
    async with asyncio.timeout(10), gateway.running():
        assert await ask(gateway.public, 81, "/readyz") == 503
        assert await ask(gateway.public, 81, "/livez") == 200


def test_port_0_becomes_the_port_that_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0")
    for listener, name in zip(_bind(settings()), ("GATEWAY_LISTEN", "GATEWAY_ADMIN_LISTEN"), strict=True):
        with closing(listener):
            assert os.environ[name] == f"127.0.0.1:{listener.getsockname()[1]}"
            assert listener.getsockname()[1] > 0


@contextmanager
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        yield other.getsockname()[1]


def test_a_taken_port_is_told_at_once() -> None:
    with taken_port() as port, pytest.raises(OSError, match="in use"):
        run(settings(listen=ListenAddress("127.0.0.1", port)))


async def test_a_failure_at_the_start_is_not_served_over(redis_url: str) -> None:
    """Without its background work a gateway would never end a paused body: better no gateway at all."""

    class Broken(Gateway):
        def running(self) -> Any:
            raise RuntimeError("the bus did not start")

    lifespan = Lifespan()
    with pytest.raises(RuntimeError, match="bus"):
        await Dispatcher(Broken(settings(redis_url)), {})({"type": "lifespan"}, lifespan.receive, lifespan.send)

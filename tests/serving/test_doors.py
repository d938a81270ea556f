"""Which door is behind which port, and that what runs beside requests starts and ends with the server."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from gateway.app import Gateway
from gateway.config_values import ListenAddress
from gateway.serving.doors import Doors
from tests.test_app import ask, settings


async def test_each_port_has_its_door(redis_url: str) -> None:
    given = settings(redis_url, listen=ListenAddress("127.0.0.1", 81), admin_listen=ListenAddress("127.0.0.1", 82))
    doors = Doors.of(Gateway(given))

    assert (await ask(doors, 81), await ask(doors, 82)) == (200, 200)
    assert (await ask(doors, 81, "/metrics"), await ask(doors, 82, "/metrics")) == (404, 200)
    assert (await ask(doors, 81, "/v1/tasks"), await ask(doors, 82, "/v1/tasks")) == (401, 404)
    with pytest.raises(KeyError):
        await ask(doors, 83)


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
    living = asyncio.create_task(Doors(gateway, {})({"type": "lifespan"}, lifespan.receive, lifespan.send))
    async with asyncio.timeout(10):
        assert await lifespan.said.get() == "lifespan.startup.complete"
        assert len(asyncio.all_tasks() - before) > 3
        lifespan.stop.set()
        assert await lifespan.said.get() == "lifespan.shutdown.complete"
        await living
    await asyncio.sleep(0)

    assert asyncio.all_tasks() - before == set()


async def test_a_failure_at_the_start_is_not_served_over(redis_url: str) -> None:
    """Without its background work a gateway would never end a paused body: better no gateway at all."""

    class Broken(Gateway):
        def running(self) -> Any:
            raise RuntimeError("the bus did not start")

    lifespan = Lifespan()
    with pytest.raises(RuntimeError, match="bus"):
        await Doors(Broken(settings(redis_url)), {})({"type": "lifespan"}, lifespan.receive, lifespan.send)

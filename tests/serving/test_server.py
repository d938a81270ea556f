"""What a client sees of the way out is shown from outside: tests/system/test_drain.py and test_workers.py."""

import asyncio
import functools
import socket
import time
from typing import Any, cast

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from gateway.serving import server as serving_server
from gateway.serving.server import Server, WayOut
from gateway.web.drain import Drain
from gateway.web.http_edge import HttpEdge


@pytest.mark.parametrize(("limit", "bodies"), [(60, 55), (10, 8), (1, 0.8), (0, 0)])
def test_a_fifth_of_the_time_but_never_more_than_5_s_is_kept_for_the_end(limit: float, bodies: float) -> None:
    assert WayOut(0, limit).bodies_seconds == pytest.approx(bodies)


class Scene:
    """A server whose application answers when the test says so."""

    def __init__(self, way_out: WayOut, make: type[Server] = Server, hangs_seconds: float = 0.0) -> None:
        self._hangs_seconds = hangs_seconds
        self.begun, self.may_answer, self.ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.drain = Drain()
        self.gave_up: list[int] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config(
            self.answer,
            interface="asgi3",
            http=cast(Any, functools.partial(HttpEdge, drain=self.drain)),
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.server = make(config, self.drain, way_out, on_ready=self.ready.set, give_up=self.gave_up.append)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        comes_too_late = self.drain.refuses
        self.begun.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            assert self.drain.ends
            time.sleep(self._hangs_seconds)  # noqa: ASYNC251 -- a defect: the event loop stands still
        await send(
            {"type": "http.response.start", "status": 503 if self.drain.ends or comes_too_late else 200, "headers": []}
        )
        await send({"type": "http.response.body", "body": b""})


async def status_of(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).status_code


async def test_a_request_that_ends_in_time_holds_the_drain_and_no_longer() -> None:
    scene = Scene(WayOut(0, 30))
    async with asyncio.timeout(20):
        serving = asyncio.create_task(scene.server.serve([scene.socket]))
        await scene.ready.wait()
        asked = asyncio.create_task(status_of(scene.url))
        await scene.begun.wait()
        scene.server.drain()
        assert scene.drain.is_unready
        scene.may_answer.set()

        assert await asked == 200
        await serving
    assert not scene.drain.ends


async def test_one_that_does_not_is_ended_before_the_limit() -> None:
    scene = Scene(WayOut(0, 1))
    async with asyncio.timeout(20):
        serving = asyncio.create_task(scene.server.serve([scene.socket]))
        await scene.ready.wait()
        asked = asyncio.create_task(status_of(scene.url))
        await scene.begun.wait()
        began = time.monotonic()
        scene.server.drain()

        assert await asked == 503
        await serving
    assert 0.7 < time.monotonic() - began < 3
    assert scene.gave_up == []


@pytest.mark.promise(22)
async def test_a_process_that_hangs_past_its_limit_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_server, "OVERTIME_SECONDS", 0.1)
    scene = Scene(WayOut(0, 0.2), hangs_seconds=0.6)
    async with asyncio.timeout(20):
        serving = asyncio.create_task(scene.server.serve([scene.socket]))
        await scene.ready.wait()
        asked = asyncio.create_task(status_of(scene.url))
        await scene.begun.wait()
        scene.server.drain()
        await asyncio.gather(serving, asked, return_exceptions=True)

    assert scene.gave_up == [1]


async def test_a_drain_waits_until_a_sender_that_was_refused_early_has_seen_it() -> None:
    """Its connection, closed while bytes come, would be reset and the answer lost."""
    scene = Scene(WayOut(0, 30))
    scene.may_answer.set()
    async with asyncio.timeout(20):
        serving = asyncio.create_task(scene.server.serve([scene.socket]))
        await scene.ready.wait()
        reader, writer = await asyncio.open_connection(*scene.socket.getsockname())
        writer.write(b"PUT / HTTP/1.1\r\nHost: here\r\nContent-Length: 5000000\r\n\r\n" + bytes(1000))
        assert await reader.read(12) == b"HTTP/1.1 200"
        scene.server.drain()
        await asyncio.wait({serving}, timeout=0.7)
        assert not serving.done()
        writer.close()
        await serving


async def test_a_server_that_retires_stays_ready_for_those_it_has_and_takes_nobody_new() -> None:
    scene = Scene(WayOut(5, 30))
    async with asyncio.timeout(20):
        serving = asyncio.create_task(scene.server.serve([scene.socket]))
        await scene.ready.wait()
        asked = asyncio.create_task(status_of(scene.url))
        await scene.begun.wait()
        scene.server.retire()
        async with asyncio.timeout(2):  # sooner than the time of notice ends
            await nobody_listens(scene.url)
        assert not asked.done()
        scene.may_answer.set()
        assert await asked == 200
        await serving

    assert not scene.drain.is_unready


async def nobody_listens(url: str) -> None:
    """Return once connections to *url* are refused."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # the listener closed while we waited in its queue
        writer.close()
        await asyncio.sleep(0.02)


class CrowdedServer(Server):
    """Clients connect when it is about to close its listeners, and wait in the kernel's queue."""

    crowd: tuple[socket.socket, ...] = ()
    crowded: asyncio.Event

    async def on_tick(self, counter: int) -> bool:
        if self.should_exit and not self.crowd:
            address = self.servers[0].sockets[0].getsockname()
            self.crowd = tuple(socket.create_connection(address) for _ in range(20))
            self.crowded.set()
        return await super().on_tick(counter)


async def test_who_waits_to_be_accepted_when_the_listeners_close_is_served() -> None:
    scene = Scene(WayOut(0, 30), CrowdedServer)
    scene.may_answer.set()
    async with asyncio.timeout(20):
        serving = asyncio.create_task(scene.server.serve([scene.socket]))
        await scene.ready.wait()
        server = cast(CrowdedServer, scene.server)
        server.crowded = asyncio.Event()
        server.drain()
        await server.crowded.wait()
        for connection in server.crowd:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        for connection in server.crowd:
            with connection:
                assert (await asyncio.to_thread(connection.recv, 12)) == b"HTTP/1.1 200"
        await serving
    with pytest.raises(httpx.ConnectError):
        await status_of(scene.url)

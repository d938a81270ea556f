import asyncio
import json
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import jwt
import pytest
from starlette.applications import Starlette
from starlette.types import Message, Scope
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.domain.task import PauseRequested, Task
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_address import connect as connect_redis
from gateway.store.task_store import RedisTaskStore
from gateway.telemetry import Metrics
from gateway.transfer.memory_budget import MemoryBudget
from gateway.transfer.ports import ProgressBus, TaskStore
from gateway.web.admission import Admission
from gateway.web.auth import Authenticator
from gateway.web.gate import Gate
from gateway.web.problems import exception_handlers
from gateway.web.progress_fanout import Sources, Timing
from gateway.web.progress_socket import ProgressSockets
from gateway.web.progress_watch import Render
from tests.fakes.store import MemoryTaskStore
from tests.web.sample_tasks import grow, new_task, told
from tests.web.serving import running

SECRET = "a secret of thirty-two bytes, or more"
AUDIENCE = "upload-gateway"


def token(subject: str = "alice", **claims: Any) -> str:
    return jwt.encode({"sub": subject, "exp": time.time() + 600, "aud": AUDIENCE, **claims}, SECRET)


def gate(
    store: TaskStore, bus: ProgressBus, render: Render = told, timing: Timing | None = None, **options: Any
) -> Gate:
    sources = Sources(store, bus, render, MemoryBudget(32 << 20), timing=timing or Timing())
    sockets = ProgressSockets(Admission(Authenticator.with_secret(SECRET, AUDIENCE)), sources, **options)
    app = Starlette(routes=sockets.routes(), exception_handlers=exception_handlers())
    return Gate(app, allowed_hosts={"127.0.0.1"}, metrics=Metrics())


class Scene:
    """The two routes behind a gate, a store in memory, and clients."""

    def __init__(self, timing: Timing | None = None, **options: Any) -> None:
        self.store = MemoryTaskStore()
        self.gate = gate(self.store, self.store.bus, timing=timing, **options)
        self.address = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Scene"]:
        async with running(self.gate) as self.address:
            yield self

    def connect(self, path: str = "/v1/progress", bearer: str | None = None, **options: Any) -> connect:
        protocols = options.pop("protocols", ["gateway.v1", f"bearer.{bearer or token()}"])
        return connect(f"ws://{self.address}{path}", subprotocols=protocols, **options)

    async def refused(self, *arguments: Any, **options: Any) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as caught:
            await self.connect(*arguments, **options)
        response = caught.value.response
        return response.status_code, json.loads(response.body or b"")["code"]


def snapshot_of(*tasks: Task) -> dict[str, Any]:
    """A snapshot of one message."""
    return {"type": "snapshot", "tasks": list(map(told, tasks)), "more": False}


async def hear(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(5):  # long before the next snapshot is due
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def hear_until(socket: ClientConnection, version: int) -> list[dict[str, Any]]:
    """The ``task`` messages up to the one of *version*."""
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["version"] != version:
        message = await hear(socket)
        if message["type"] == "task":
            heard.append(message["task"])
    return heard


async def closing(socket: ClientConnection) -> int:
    """The code that the server closes *socket* with."""
    with suppress(ConnectionClosed):
        async for _ in socket:
            pass
    assert socket.close_code is not None
    return socket.close_code


async def test_a_watcher_hears_a_snapshot_and_then_each_change() -> None:
    async with Scene().running() as scene, scene.connect() as socket:
        assert await hear(socket) == snapshot_of()

        task = await scene.store.create(new_task("t1"))
        assert await hear(socket) == {"type": "task", "task": told(task)}

        paused = await scene.store.apply(task, PauseRequested())
        assert await hear(socket) == {"type": "task", "task": told(paused)}


async def test_f5_a_websocket_holds_no_message_once_it_has_been_sent() -> None:
    class Document(dict[str, object]):
        """A dictionary that can be referred to weakly."""

    def render(task: Task) -> dict[str, object]:
        document = Document(told(task))
        rendered.append(weakref.ref(document))
        return document

    rendered, scene = list[weakref.ref[Document]](), Scene(render=render)
    for number in range(20):
        await scene.store.create(new_task(f"t{number}"))
    async with scene.running(), scene.connect() as socket:
        for number in range(20, 23):  # once the next is heard, the one before is over
            await hear(socket)
            await scene.store.create(new_task(f"t{number}"))
        await hear(socket)

        assert len(rendered) == 23
        assert [document["id"] for known in rendered[:-1] if (document := known()) is not None] == []


async def test_a_burst_of_changes_becomes_few_messages_and_the_last_state_arrives() -> None:
    async with Scene().running() as scene, scene.connect() as socket:
        await hear(socket)
        task = await scene.store.create(new_task("t1"))
        for number in range(1, 81):
            task = await grow(scene.store, task, number)

        heard = await hear_until(socket, task.version)

        assert len(heard) <= 3
        assert [message["loaded"] for message in heard] == sorted(message["loaded"] for message in heard)


async def test_a_task_sends_at_most_four_messages_a_second() -> None:
    async with Scene().running() as scene, scene.connect() as socket:
        await hear(socket)
        task = await scene.store.create(new_task("t1"))

        async def keep_growing() -> None:
            last = task
            for number in range(1, 61):
                last = await grow(scene.store, last, number)
                await asyncio.sleep(0.015)

        growing = asyncio.create_task(keep_growing())
        version, arrivals = 0, list[float]()
        while version < task.version + 60:
            version = (await hear(socket))["task"]["version"]
            arrivals.append(time.monotonic())
        await growing

        assert min(b - a for a, b in pairwise(arrivals)) > 0.15
        assert len(arrivals) <= 4 * (arrivals[-1] - arrivals[0]) + 2


async def test_bytes_that_flow_through_another_process_are_told_within_a_second(redis_url: str) -> None:
    here, there = connect_redis(redis_url), connect_redis(redis_url)
    bus, scene = RedisProgressBus(here), Scene()
    scene.gate = gate(RedisTaskStore(here, ttl_seconds=3600), bus)
    elsewhere = RedisTaskStore(there, ttl_seconds=3600)
    await bus.start()
    async with scene.running(), scene.connect() as socket:
        assert (await hear(socket))["type"] == "snapshot"
        task = await elsewhere.create(new_task("t1", created_at=time.time()))
        began = time.monotonic()
        grown = await grow(elsewhere, task, 1)

        assert (await hear_until(socket, grown.version))[-1] == told(grown)
        assert time.monotonic() - began < 1
    await bus.aclose()
    await here.aclose()
    await there.aclose()


async def test_only_the_callers_own_tasks_are_told() -> None:
    async with Scene().running() as scene, scene.connect() as socket:
        await hear(socket)
        await scene.store.create(new_task("foreign", owner="bob"))
        mine = await scene.store.create(new_task("mine"))

        assert await hear(socket) == {"type": "task", "task": told(mine)}


async def test_s7_nothing_is_told_of_what_the_token_does_not_cover() -> None:
    """Also where another websocket of the same subject is told of it by the same watch."""
    narrow = token(prefix="alice/in")
    async with (
        Scene(Timing(gap=0.01)).running() as scene,
        scene.connect() as wide,
        scene.connect(bearer=narrow) as socket,
        scene.connect(bearer=token(prefix="alice/in", jti="another")) as like_it,
    ):
        outside = await scene.store.create(new_task("outside"))
        inside = await scene.store.create(new_task("inside"))
        await grow(scene.store, outside, 1)
        grown = await grow(scene.store, inside, 1)

        for watching in (socket, like_it):
            assert await hear(watching) == snapshot_of()
            assert {task["id"] for task in await hear_until(watching, grown.version)} == {"inside"}
        await hear(wide)
        assert {task["id"] for task in await hear_until(wide, grown.version)} == {"inside", "outside"}
        assert await scene.refused("/v1/tasks/outside/progress", bearer=narrow) == (404, "task_not_found")
        async with scene.connect(bearer=narrow) as late:
            assert await hear(late) == snapshot_of(grown)


async def test_s6_a_snapshot_of_many_tasks_comes_in_several_messages_with_nothing_between() -> None:
    async with Scene(Timing(gap=0.01)).running() as scene:
        tasks = [await scene.store.create(new_task(f"t{n}", created_at=1000.0 + n)) for n in range(250)]
        async with scene.connect() as socket:
            await grow(scene.store, tasks[0], 1)
            pages = [await hear(socket) for _ in range(3)]

    assert [(len(page["tasks"]), page["more"]) for page in pages] == [(100, True), (100, True), (50, False)]
    assert [task["id"] for page in pages for task in page["tasks"]] == [f"t{n}" for n in reversed(range(250))]


async def test_one_task_can_be_watched_alone() -> None:
    async with Scene().running() as scene:
        task = await scene.store.create(new_task("t1"))
        async with scene.connect("/v1/tasks/t1/progress") as socket:
            assert await hear(socket) == snapshot_of(task)
            await scene.store.create(new_task("t2"))
            grown = await grow(scene.store, task, 1)

            assert (await hear_until(socket, grown.version))[-1] == told(grown)


async def test_an_overseer_may_watch_anothers_task() -> None:
    async with Scene().running() as scene:
        task = await scene.store.create(new_task("t1", owner="bob"))
        async with scene.connect("/v1/tasks/t1/progress", token(actions=["read", "all_tasks"])) as socket:
            await hear(socket)
            grown = await grow(scene.store, task, 1)

            assert (await hear_until(socket, grown.version))[-1] == told(grown)


async def test_the_token_is_never_the_selected_subprotocol() -> None:
    async with Scene().running() as scene:
        async with scene.connect() as socket:
            assert socket.subprotocol == "gateway.v1"
        async with scene.connect(protocols=[f"bearer.{token()}"]) as socket:
            assert socket.subprotocol is None
            assert (await hear(socket))["type"] == "snapshot"


async def test_whoever_may_not_watch_is_told_so_before_the_websocket_opens() -> None:
    async with Scene().running() as scene:
        await scene.store.create(new_task("t1", owner="bob"))
        expired = token(exp=time.time() - 60)

        assert await scene.refused(protocols=None) == (401, "unauthenticated")
        assert await scene.refused(f"/v1/progress?token={token()}", protocols=None) == (401, "unauthenticated")
        assert await scene.refused(bearer="junk") == (401, "token_invalid")
        assert await scene.refused(bearer=expired) == (401, "token_expired")
        assert await scene.refused(bearer=token(actions=["read"])) == (403, "forbidden")
        assert await scene.refused(origin="https://evil.example") == (403, "origin_not_allowed")
        assert await scene.refused("/v1/tasks/t1/progress") == (404, "task_not_found")
        assert await scene.refused("/v1/tasks/unknown/progress") == (404, "task_not_found")


async def test_a_subject_may_hold_so_many_websockets_and_a_closed_one_makes_room() -> None:
    async with Scene(per_subject_count=2).running() as scene, scene.connect() as first:
        await hear(first)
        async with scene.connect() as second:
            await hear(second)
            assert await scene.refused() == (429, "rate_limited")
            async with scene.connect(bearer=token("bob")) as other:
                assert (await hear(other))["type"] == "snapshot"
        async with asyncio.timeout(5):
            while True:
                try:
                    async with scene.connect() as third:
                        assert (await hear(third))["type"] == "snapshot"
                        return
                except InvalidStatus:
                    await asyncio.sleep(0)


async def test_a_process_holds_so_many_websockets() -> None:
    async with Scene(total_count=1).running() as scene, scene.connect() as first:
        await hear(first)

        assert await scene.refused(bearer=token("bob")) == (503, "overloaded")


async def test_a_snapshot_comes_again_and_again() -> None:
    async with Scene(Timing(snapshot=0.05)).running() as scene, scene.connect() as socket:
        assert [(await hear(socket))["type"] for _ in range(3)] == ["snapshot"] * 3


async def test_changes_that_may_have_been_lost_bring_a_fresh_snapshot() -> None:
    async with Scene().running() as scene, scene.connect() as socket:
        await hear(socket)
        bus, scene.store.bus = scene.store.bus, type(scene.store.bus)()
        task = await scene.store.create(new_task("t1"))  # told to nobody
        bus.lose()

        assert await hear(socket) == snapshot_of(task)


async def test_without_redis_the_websocket_does_not_open() -> None:
    async with Scene().running() as scene:
        scene.store.down = True

        assert await scene.refused() == (503, "state_store_unavailable")


async def test_a_redis_outage_is_outlived_and_followed_by_a_snapshot() -> None:
    async with Scene(Timing(gap=0.01, retry=0.02)).running() as scene, scene.connect() as socket:
        await hear(socket)
        task = await scene.store.create(new_task("t1"))
        await hear_until(socket, task.version)
        scene.store.down = True
        scene.store.bus.tell(task)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await socket.recv()

        scene.store.down = False

        assert await hear(socket) == snapshot_of(task)


async def test_the_end_of_the_token_closes_with_4401() -> None:
    async with Scene().running() as scene, scene.connect(bearer=token(exp=time.time() + 0.3)) as socket:
        assert await closing(socket) == 4401


async def test_a_few_messages_from_the_client_are_ignored_and_a_flood_closes_with_1008() -> None:
    async with Scene().running() as scene, scene.connect() as socket:
        await hear(socket)
        for _ in range(5):
            await socket.send("hello")
        task = await scene.store.create(new_task("t1"))
        assert (await hear(socket))["task"]["id"] == task.id

        await asyncio.sleep(1.1)  # the allowance is per second
        for _ in range(5):
            await socket.send("hello")
        grown = await grow(scene.store, task, 1)
        await hear_until(socket, grown.version)

        for _ in range(6):
            await socket.send("hello")

        assert await closing(socket) == 1008


async def test_a_message_over_four_kib_closes_with_1009() -> None:
    async with Scene().running() as scene, scene.connect() as socket:
        await hear(socket)
        await socket.send("x" * 5000)

        assert await closing(socket) == 1009


class SlowReader:
    """An ASGI client whose network takes a message only when it is told to."""

    def __init__(self) -> None:
        self.may_take = asyncio.Semaphore(0)
        self.arrived: asyncio.Queue[Message] = asyncio.Queue()
        self.in_flight = 0
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.scope: Scope = {
            "type": "websocket",
            "path": "/v1/progress",
            "raw_path": b"/v1/progress",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "subprotocols": [f"bearer.{token()}"],
        }

    def say(self, message: Message) -> None:
        """The client sends this."""
        self._incoming.put_nowait(message)

    async def receive(self) -> Message:
        return await self._incoming.get()

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            self.in_flight += 1
            assert self.in_flight == 1
            try:
                await self.may_take.acquire()
            finally:
                self.in_flight -= 1
        self.arrived.put_nowait(message)

    async def take(self) -> dict[str, Any]:
        self.may_take.release()
        message: dict[str, Any] = json.loads((await self.arrived.get())["text"])
        return message


async def test_a_slow_reader_gets_the_latest_and_never_a_backlog() -> None:
    scene, reader = Scene(), SlowReader()
    serving = asyncio.create_task(scene.gate(reader.scope, reader.receive, reader.send))
    assert (await reader.arrived.get())["type"] == "websocket.accept"
    task = await scene.store.create(new_task("t1"))
    for number in range(1, 51):
        task = await grow(scene.store, task, number)

    assert (await reader.take())["type"] == "snapshot"
    heard = [await reader.take()]
    while heard[-1] != {"type": "task", "task": told(task)}:
        heard.append(await reader.take())
    assert len(heard) <= 2

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_message_over_four_kib_is_too_big_also_where_the_server_let_it_in() -> None:
    for message in ({"text": "é" * 2049}, {"bytes": b"x" * 4097}):
        scene, reader = Scene(), SlowReader()
        reader.say({"type": "websocket.receive", **message})

        await scene.gate(reader.scope, reader.receive, reader.send)

        assert (await reader.arrived.get())["type"] == "websocket.accept"
        assert (await reader.arrived.get())["code"] == 1009


async def test_a_client_that_vanishes_ends_its_websocket() -> None:
    class Vanished(SlowReader):
        async def send(self, message: Message) -> None:
            if message["type"] == "websocket.send":
                raise OSError("the connection is gone")
            await super().send(message)

    scene, reader = Scene(), Vanished()

    await scene.gate(reader.scope, reader.receive, reader.send)

    assert [(await reader.arrived.get())["type"]] == ["websocket.accept"]
    assert reader.arrived.empty()


async def test_a_reader_that_takes_nothing_is_closed_with_4408() -> None:
    scene, reader = Scene(Timing(unsent=0.05)), SlowReader()

    await scene.gate(reader.scope, reader.receive, reader.send)

    assert (await reader.arrived.get())["type"] == "websocket.accept"
    closed = await reader.arrived.get()
    assert (closed["type"], closed["code"]) == ("websocket.close", 4408)

"""One process that serves, and its way out: drained when the service ends, retired when another worker takes over.

uvicorn closes its listeners at the first signal and ends by the second; here readiness goes off first. Where large
bodies are still to end, whoever comes meanwhile is told to come again; else the listeners close, and a proxy before us
takes a request elsewhere without a word to its client.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Final, cast

import uvicorn

from gateway.web.drain import Drain
from gateway.web.edge_protocol import EdgeConnection

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.02
RESERVE_SHARE: Final = 0.2
MOST_RESERVE_SECONDS: Final = 5.0
"""Of the time to the end, what is kept for answering those who are ended, and for what they leave to COS and Redis."""
CLOSE_SECONDS: Final = 0.5
"""Before the limit, for what comes after the last request: closing connections, and the interpreter's own end."""
OVERTIME_SECONDS: Final = 1.0
SMALL_BODY_SECONDS: Final = 0.1
"""A body that takes longer is worth keeping the listeners open for: to answer that we are busy ending."""
SETTLE_SECONDS: Final = 1.0
"""For requests that came, or whose connections did, just before the listeners closed."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class WayOut:
    """How long the way out may take.

    ``notice_seconds``: how long requests are still taken. ``limit_seconds``: when the process is gone.
    """

    notice_seconds: float
    limit_seconds: float

    @property
    def bodies_seconds(self) -> float:
        """How long a request under way may go on."""
        return self.limit_seconds - min(MOST_RESERVE_SECONDS, RESERVE_SHARE * self.limit_seconds)


class Server(uvicorn.Server):
    """uvicorn's server with a way out of our own.

    Args:
        on_ready: called once connections are taken.
        give_up: called with an exit code when the limit has passed and the process still lives.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        way_out: WayOut,
        *,
        on_ready: Callable[[], None] = lambda: None,
        give_up: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._way_out = way_out
        self._on_ready = on_ready
        self._give_up = give_up
        self._retires = False
        self._was_signaled = False
        self._last_resort: threading.Timer | None = None

    def drain(self) -> None:
        """The service ends: not ready from now on, and gone within the limit. Safe in a signal handler."""
        self._drain.is_unready = self._drain.closes = True
        self.should_exit = True

    def retire(self) -> None:
        """Another worker takes over, or none can: take no more connections, and go when those there are have ended."""
        if not self.should_exit:
            self._drain.closes = True
            self._retires = self.should_exit = True

    # --- uvicorn's own

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends the process there and then."""
        del frame
        if self._was_signaled:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self._was_signaled = True  # a parent's order may come besides, when the whole group is signaled
        self.drain()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a process that was asked to end, and did, has not failed."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._last_resort is not None:
                self._last_resort.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def main_loop(self) -> None:
        await super().main_loop()
        ticking = asyncio.create_task(self._tick())
        try:
            await self._wind_down()
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        """Keep the Date of answers right."""
        counter = 0
        while True:
            counter += 1
            await self.on_tick(counter)
            await asyncio.sleep(TICK_SECONDS)

    async def _wind_down(self) -> None:
        began, way_out = time.monotonic(), self._way_out
        self._begin()
        await self._until(began + min(way_out.notice_seconds, way_out.bodies_seconds), self._is_deserted)
        if not await self._has_long_bodies():
            await self._take_the_last()
            await self._until(min(time.monotonic() + SETTLE_SECONDS, began + way_out.bodies_seconds), self._is_settled)
        self._stop_taking()
        await self._until(began + way_out.bodies_seconds, self._is_quiet)
        self._end_requests()
        await self._until(began + max(way_out.bodies_seconds, way_out.limit_seconds - CLOSE_SECONDS), self._is_quiet)

    def _begin(self) -> None:
        told = {"retires": self._retires, "requests": len(self.server_state.tasks)}
        log.info("the process is on its way out", extra=told)
        self._drain.set_limit(self._way_out.limit_seconds)
        if self._retires:
            for server in self.servers:
                server.close()
        self._last_resort = threading.Timer(self._way_out.limit_seconds + OVERTIME_SECONDS, self._give_up, (1,))
        self._last_resort.daemon = True
        self._last_resort.start()

    async def _take_the_last(self) -> None:
        """Close the listeners, and take whoever waits in their queues: the kernel would break those connections."""
        loop, last = asyncio.get_running_loop(), []
        queues = [socket.socket(fileno=os.dup(one.fileno())) for server in self.servers for one in server.sockets]
        for server in self.servers:
            server.close()
        for queue in queues:
            queue.setblocking(False)
            with queue, contextlib.suppress(OSError):  # BlockingIOError: nobody is left
                while True:
                    last.append(queue.accept()[0])
        for connection in last:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        """What serves a connection, made as uvicorn does."""
        make = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _has_long_bodies(self) -> bool:
        """Whether a body is being taken that takes longer than those of small files."""
        begun = self._bodies()
        if begun:
            await asyncio.sleep(SMALL_BODY_SECONDS)
        return bool(begun & self._bodies())

    def _bodies(self) -> set[object]:
        return {one.body_under_way for one in self._edge_connections() if one.body_under_way is not None}

    def _edge_connections(self) -> list[EdgeConnection]:
        return [one for one in list(self.server_state.connections) if isinstance(one, EdgeConnection)]

    def _stop_taking(self) -> None:
        """Refuse what comes from now on; progress sockets close with 1012, and their watchers come back elsewhere."""
        self._drain.refuses = True
        for connection in list(self.server_state.connections):
            if not isinstance(connection, EdgeConnection):
                connection.shutdown()

    def _end_requests(self) -> None:
        """Each is told what ``Drain.ended`` says; a sequential body keeps what came of it."""
        late = list(self.server_state.tasks)
        if not late:
            return
        log.warning("requests that did not end in time are ended", extra={"requests": len(late)})
        self._drain.ends = True
        for task in late:
            task.cancel()

    async def _until(self, moment: float, is_over: Callable[[], bool]) -> None:
        while time.monotonic() < moment and not is_over():  # noqa: ASYNC110 -- uvicorn's sets tell nobody
            await asyncio.sleep(LOOK_SECONDS)

    def _is_deserted(self) -> bool:
        """Whether nobody is left to notice: only a worker that takes no connections can know."""
        return self._retires and not self.server_state.connections

    def _is_settled(self) -> bool:
        """Whether every request was answered whose connection came before the listeners closed."""
        return not any(one.is_active for one in self._edge_connections())

    def _is_quiet(self) -> bool:
        """Whether every request was answered, and whoever was refused early has seen it."""
        return not self.server_state.tasks and not any(one.is_lingering for one in self._edge_connections())

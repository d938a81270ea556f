"""The parent of several workers: it starts them, replaces those that die or hang, and passes signals on.

SIGTERM or SIGINT drains them all, the second kills them. SIGHUP replaces them one by one: each goes only once its
successor takes connections. uvicorn's own supervisor hears no SIGTERM while it does so, and its workers outlive it.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from gateway.config import Settings
from gateway.serving.server import OVERTIME_SECONDS
from gateway.serving.worker import DRAIN, RETIRE
from gateway.telemetry import forget_worker

log = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
HUNG_SECONDS: Final = 30.0
"""Without a beat for this long, on a machine where the parent itself gets to run, a worker is killed and replaced."""
LEAST_LIFE_SECONDS: Final = 10.0
MOST_PAUSE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0


class Worker:
    """One worker's process, and the channel to it. ``start`` makes it.

    ``ready``: it took connections. ``serves``: it did when whoever started it looked, who from then on is not in charge
    of it any more. ``leaves``: it was told to.
    """

    def __init__(self, process: Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self.pid = process.pid
        self.ready = asyncio.Event()
        self.ended = asyncio.create_task(process.wait())
        self.serves = self.leaves = False
        self.born_at = self.heard_at = time.monotonic()
        asyncio.get_running_loop().add_reader(channel, self._hear)
        self.ended.add_done_callback(lambda _: self._close())

    @classmethod
    async def start(cls, listeners: list[int]) -> "Worker":
        """A new process on the shared *listeners*."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.serving.worker", *map(str, (theirs.fileno(), *listeners))),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *listeners),
            )
        return cls(process, ours)

    async def becomes_ready(self) -> bool:
        """Whether it takes connections before it ends, and soon enough."""
        waiting = asyncio.create_task(self.ready.wait())
        await asyncio.wait({waiting, self.ended}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self.serves = self.ready.is_set() and not self.ended.done()
        return self.serves

    def order(self, order: bytes) -> None:
        """Have it drain or retire."""
        self.leaves = True
        with contextlib.suppress(OSError):
            self._channel.send(order)

    def kill(self) -> None:
        """End it there and then."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _hear(self) -> None:
        try:
            said = self._channel.recv(64)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said:
            self.heard_at = time.monotonic()
            self.ready.set()
        else:
            asyncio.get_running_loop().remove_reader(self._channel)

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()


class Workers:
    """Keeps as many workers as the settings say.

    Args:
        listeners: what they share.
        folder: where they keep their metrics.
        start: makes one.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: list[socket.socket],
        folder: Path,
        start: Callable[[list[int]], Awaitable[Worker]] = Worker.start,
    ) -> None:
        self._settings = settings
        self._start_worker = start
        self._listeners = listeners
        self._folder = folder
        self._all: set[Worker] = set()
        self._orders: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._beside: set[asyncio.Task[Any]] = set()
        self._ends = False
        self._pause_seconds = 0.0

    async def run(self) -> int:
        """Serve until a signal ends it; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._orders.put_nowait, number)
        first = [await self._start() for _ in range(self._settings.workers)]
        if not all([await worker.becomes_ready() for worker in first]):
            log.error("a worker did not start")
            return await self._kill_all()
        self._do(self._watch())
        restarting: asyncio.Task[None] | None = None
        while await self._orders.get() is signal.SIGHUP:
            if restarting is None or restarting.done():
                restarting = self._do(self._replace_all())
        return await self._drain_all()

    async def _start(self) -> Worker:
        worker = await self._start_worker([listener.fileno() for listener in self._listeners])
        log.info("a worker starts", extra={"worker": worker.pid})
        self._all.add(worker)
        worker.ended.add_done_callback(lambda ended: self._gone(worker, ended.result()))
        return worker

    def _do(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    # --- workers that go

    def _gone(self, worker: Worker, code: int) -> None:
        self._all.discard(worker)
        forget_worker(self._folder, worker.pid)
        if worker.leaves or self._ends:
            log.info("a worker has ended", extra={"worker": worker.pid, "exit_code": code})
        elif worker.serves:
            log.error("a worker has died", extra={"worker": worker.pid, "exit_code": code})
            self._do(self._replace_dead(worker))

    async def _replace_dead(self, dead: Worker) -> None:
        """Start others until one serves."""
        while not self._ends:
            await asyncio.sleep(self._pause_after(dead))
            worker = await self._start()
            if await worker.becomes_ready() or self._ends:
                return
            log.error("a worker did not start, another is tried", extra={"worker": worker.pid})
            worker.kill()
            dead = worker

    def _pause_after(self, dead: Worker) -> float:
        """None after a worker that lived, then doubled while they die young; the longest if it did not even start."""
        if not dead.ready.is_set():
            return MOST_PAUSE_SECONDS
        if time.monotonic() - dead.born_at >= LEAST_LIFE_SECONDS:
            self._pause_seconds = 0.0
        pause, self._pause_seconds = self._pause_seconds, min(max(1.0, 2 * self._pause_seconds), MOST_PAUSE_SECONDS)
        return pause

    async def _watch(self) -> None:
        """Kill workers whose event loop does not turn; they are then replaced like all that die."""
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            if now - looked_at > 2 * _LOOK_SECONDS:  # we did not run ourselves, so they cannot be blamed
                for worker in self._all:
                    worker.heard_at = now
            looked_at = now
            for worker in [worker for worker in self._all if worker.serves and not worker.leaves]:
                if now - worker.heard_at > HUNG_SECONDS:
                    log.error("a worker hangs and is killed", extra={"worker": worker.pid})
                    worker.kill()

    async def _replace_all(self) -> None:
        for old in [worker for worker in self._all if not worker.leaves]:
            new = await self._start()
            if not await new.becomes_ready():
                log.error("the new worker did not start: the others stay as they are", extra={"worker": new.pid})
                new.leaves = True
                new.kill()
                return
            # One that died meanwhile was replaced: then the new one is too many.
            (old if old in self._all else new).order(RETIRE)
        log.info("every worker was replaced")

    # --- the end

    async def _drain_all(self) -> int:
        self._ends = True
        for task in self._beside:
            task.cancel()
        for worker in self._all:
            worker.order(DRAIN)
        for listener in self._listeners:
            listener.close()  # or who comes when no worker listens any more would wait until we end
        ending = asyncio.create_task(self._wait_for_all())
        again = asyncio.create_task(self._orders.get())
        limit = self._settings.drain_seconds + 2 * OVERTIME_SECONDS
        await asyncio.wait({ending, again}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        return 0 if ending.done() else await self._kill_all()

    async def _wait_for_all(self) -> None:
        while self._all:
            await asyncio.wait({worker.ended for worker in self._all})
            await asyncio.sleep(0)  # what is called when they end

    async def _kill_all(self) -> int:
        self._ends = True
        for worker in self._all:
            worker.kill()
        await self._wait_for_all()
        return 1


def serve_with_workers(settings: Settings, listeners: list[socket.socket], folder: Path) -> int:
    """Have workers serve until a signal ends it; the exit code."""
    return asyncio.run(Workers(settings, listeners, folder).run())

"""The parent with workers that really serve is shown by tests/system/test_workers.py; here, with others."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.serving import workers as module
from gateway.serving.workers import Worker, Workers
from tests.test_app import settings

_PROGRAM = """
import os, select, sys, time
end, fate = int(sys.argv[1]), sys.argv[2]
if fate != "breaks":
    os.write(end, b"+")
while fate == "beats" and not select.select([end], [], [], 0.05)[0]:
    os.write(end, b"+")
if fate == "stays":
    time.sleep(60)
if fate in ("lives", "waits"):
    os.read(end, 1)
"""
PAUSE_SECONDS = 0.05


class Made(Worker):
    """A worker whose starter looks at it only when ``looked_at`` is set, or it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        super().__init__(process, channel)
        self.looked_at = asyncio.Event()
        self.judged = asyncio.Event()

    async def becomes_ready(self) -> bool:
        for moment in (self.ready, self.looked_at):
            waiting = asyncio.create_task(moment.wait())
            await asyncio.wait({waiting, self.ended}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        try:
            return await super().becomes_ready()
        finally:
            self.judged.set()


class Maker:
    """Makes workers that say that they are ready, and then live until they hear anything.

    Args:
        fates: of the first ones: "lives", "dies" once it is ready, "waits" to be looked at, "breaks" before it is
            ready, "beats" as it lives, "stays" whatever it hears. The others live.
    """

    def __init__(self, *fates: str) -> None:
        self._fates = fates
        self.made: list[Made] = []
        self._another = asyncio.Event()

    async def start(self, listeners: list[int]) -> Worker:
        del listeners
        fate = self._fates[len(self.made)] if len(self.made) < len(self._fates) else "lives"
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-c", _PROGRAM, str(theirs.fileno()), fate), pass_fds=(theirs.fileno(),)
            )
        worker = Made(process, ours)
        if fate in ("lives", "beats", "stays"):
            worker.looked_at.set()
        self.made.append(worker)
        self._another.set()
        return worker

    async def ready(self, number: int) -> Made:
        """The worker made as *number*, from 0, once it is ready, and known to be unless it waits for that."""
        while len(self.made) <= number:
            self._another.clear()
            await self._another.wait()
        worker = self.made[number]
        await worker.ready.wait()
        if worker.looked_at.is_set():
            await worker.judged.wait()
        return worker

    @property
    def alive(self) -> list[Made]:
        return [worker for worker in self.made if not worker.ended.done()]


@asynccontextmanager
async def served_by(maker: Maker, folder: Path) -> AsyncIterator[None]:
    """A parent that keeps one worker, until SIGTERM at the block's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.timeout(30):
            running = asyncio.create_task(Workers(settings(workers=1), [listener], folder, maker.start).run())
            await maker.ready(0)
            try:
                yield
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                assert await running == 0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAUSE_SECONDS", PAUSE_SECONDS)


async def test_a_worker_that_cannot_start_ends_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", "many")  # what a worker reads, and cannot
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.timeout(30):
            assert await Workers(settings(workers=1), [listener], tmp_path).run() == 1


async def test_a_worker_that_dies_before_its_starter_looks_is_replaced_once(tmp_path: Path) -> None:
    maker = Maker("lives", "dies")
    async with served_by(maker, tmp_path):
        maker.made[0].kill()
        await maker.ready(2)
        await asyncio.sleep(5 * PAUSE_SECONDS)  # in which one too many would begin

        assert len(maker.made) == 3
        assert maker.alive == [maker.made[2]]


async def test_workers_that_die_young_are_replaced_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PAUSE_SECONDS", 30)
    maker = Maker("lives", "dies")
    async with served_by(maker, tmp_path):
        maker.made[0].kill()
        await (await maker.ready(1)).ended  # made at once
        await asyncio.sleep(0.3)

        assert len(maker.made) == 2


async def test_a_worker_that_says_nothing_for_long_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUNG_SECONDS", 0.3)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.1)
    maker = Maker("lives", "beats")
    async with served_by(maker, tmp_path):
        await maker.ready(1)

        assert maker.made[0].ended.result() == -signal.SIGKILL


async def test_no_worker_is_blamed_for_a_machine_that_slept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HUNG_SECONDS", 0.5)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)
    maker = Maker("beats")
    async with served_by(maker, tmp_path):
        await asyncio.sleep(0.1)
        os.kill(maker.made[0].pid, signal.SIGSTOP)
        time.sleep(0.8)  # noqa: ASYNC251 -- the parent sleeps as well
        await asyncio.sleep(0.1)

        assert maker.alive == maker.made[:1]
        os.kill(maker.made[0].pid, signal.SIGCONT)


async def test_a_successor_that_breaks_leaves_the_old_worker_in_charge(tmp_path: Path) -> None:
    maker = Maker("lives", "breaks")
    async with served_by(maker, tmp_path):
        os.kill(os.getpid(), signal.SIGHUP)
        while len(maker.made) < 2:  # noqa: ASYNC110 -- it is never ready
            await asyncio.sleep(0.01)
        await maker.made[1].judged.wait()
        await asyncio.sleep(0.1)

        assert (maker.alive, maker.made[0].leaves) == (maker.made[:1], False)


async def test_a_second_signal_kills_workers_that_do_not_go(tmp_path: Path) -> None:
    maker = Maker("stays")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.timeout(30):
            running = asyncio.create_task(Workers(settings(workers=1), [listener], tmp_path, maker.start).run())
            worker = await maker.ready(0)
            os.kill(os.getpid(), signal.SIGTERM)
            while not worker.leaves:  # noqa: ASYNC110 -- nothing tells when it was ordered to
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

            assert await running == 1
            assert worker.ended.result() == -signal.SIGKILL


async def test_a_worker_that_dies_while_its_successor_starts_is_replaced_once(tmp_path: Path) -> None:
    maker = Maker("lives", "waits")
    async with served_by(maker, tmp_path):
        os.kill(os.getpid(), signal.SIGHUP)
        successor = await maker.ready(1)
        maker.made[0].kill()
        replacement = await maker.ready(2)

        successor.looked_at.set()
        await successor.ended

        assert maker.alive == [replacement]

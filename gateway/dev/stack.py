"""What `dev` runs: a real Redis, the local COS and the gateway, each a process of its own, started and ended in order.

The gateway is the very `serve` of production: only addresses and keys differ.
"""

import asyncio
import fcntl
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_values import ListenAddress
from gateway.dev.child import start_child, stop_child
from gateway.dev.local_redis import running_redis
from gateway.dev.plan import HeldPorts, Plan

_START_SECONDS: Final = 60.0
_STOP_COS_SECONDS: Final = 5.0
_STOP_GATEWAY_SECONDS: Final = 5.0  # beyond its own drain


class StackFailed(Exception):
    """A part of the stack could not start, or ended by itself; the text says which and why."""


@dataclass(frozen=True, slots=True)
class _Running:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    def ended(self) -> StackFailed:
        end = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:]) if self.log.is_file() else ""
        return StackFailed(f"{self.name} ended with code {self.process.returncode}; the end of {self.log}:\n{end}")


@contextmanager
def data_folder(path: Path) -> Iterator[None]:
    """Hold *path* while the block lasts: two Redis servers on the same files would ruin them.

    Raises:
        StackFailed: another `dev` holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackFailed(f"another dev runs on {path}: stop it, or set GATEWAY_DATA_DIR") from None
        yield


async def run_stack(plan: Plan, announce: Callable[[], None], ports: HeldPorts) -> None:
    """Start everything, *announce* once the gateway is ready, and end everything in order on SIGINT or SIGTERM.

    A second signal ends the gateway at once. *ports* gave *plan* its ports.

    Raises:
        StackFailed: a part did not start, or ended by itself.
        RedisServerMissing, RedisServerFailed: there is no Redis to start, or it did not start.
    """
    stop = _Stop()
    settings, data = plan.settings, plan.settings.data_dir
    running: list[_Running] = []
    async with AsyncExitStack() as stack:
        stack.enter_context(data_folder(data))
        stack.enter_context(stop.listening())
        for name in ("listen", "cos_listen", "admin_listen"):
            _require_free(f"GATEWAY_{name.upper()}", getattr(settings, name))
        if plan.local_redis:
            redis = await stack.enter_async_context(running_redis(data / "redis"))
            running.append(_Running("redis-server", redis.process, redis.log))
            settings = settings.model_copy(update={"redis_url": SecretStr(redis.url)})
        if plan.local_cos_port is not None:
            with ports.listeners[plan.local_cos_port] as listener:
                arguments = ("gateway.dev.local_cos", *plan.local_cos_arguments(), "--fd", str(listener.fileno()))
                cos = _python(settings, data / "cos.log", _STOP_COS_SECONDS, *arguments, keep=(listener.fileno(),))
                running.append(await stack.enter_async_context(cos))
        grace_seconds = settings.drain_seconds + settings.drain_notice_seconds + _STOP_GATEWAY_SECONDS
        gateway = await stack.enter_async_context(
            _python(settings, data / "gateway.log", grace_seconds, "gateway", "serve")
        )
        running.append(gateway)
        stop.hurry = gateway.process
        if await _finishes(_ready(plan.reachable), stop, running):
            announce()
            await _finishes(_for_ever(), stop, running)


def _require_free(name: str, at: ListenAddress | None) -> None:
    if at is None:
        return
    with closing(socket.socket(socket.AF_INET6 if ":" in at.host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((at.host, at.port))
        except OSError as error:
            raise StackFailed(f"cannot listen on {at} ({error.strerror}): free it, or set {name}") from None


class _Stop:
    """The first signal asks for an orderly end; the second one kills ``hurry``."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry: asyncio.subprocess.Process | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _signalled(self) -> None:
        if self.asked.is_set() and self.hurry is not None and self.hurry.returncode is None:
            self.hurry.kill()
        self.asked.set()


@asynccontextmanager
async def _python(
    settings: Settings, log: Path, grace_seconds: float, module: str, *arguments: str, keep: Sequence[int] = ()
) -> AsyncIterator[_Running]:
    with log.open("wb") as output:
        process = await start_child(
            *(sys.executable, "-m", module, *arguments), env=settings.child_environment(), stdout=output, keep=keep
        )
    try:
        yield _Running(module, process, log)
    finally:
        await stop_child(process, grace_seconds)


async def _finishes(work: Coroutine[Any, Any, None], stop: _Stop, running: list[_Running]) -> bool:
    """Do *work* to its end (then True) or until it is time to stop (then False).

    Raises:
        StackFailed: something that is *running* ended first.
    """
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.asked.wait())
    ends = {asyncio.create_task(item.process.wait()): item for item in running}
    try:
        finished, _ = await asyncio.wait([working, stopping, *ends], return_when=asyncio.FIRST_COMPLETED)
        if stopping in finished:
            return False
        for end in ends.keys() & finished:
            raise ends[end].ended()
        await working
        return True
    finally:
        for task in (working, stopping, *ends):
            task.cancel()


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _ready(listen: ListenAddress) -> None:
    """Wait until the gateway says that it is ready."""
    try:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                if await _answers_ready(listen):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StackFailed(f"the gateway was not ready within {_START_SECONDS:g} s") from None


async def _answers_ready(listen: ListenAddress) -> bool:
    try:
        reader, writer = await asyncio.open_connection(listen.host, listen.port)
    except OSError:
        return False
    try:
        writer.write(f"GET /readyz HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
    finally:
        writer.close()

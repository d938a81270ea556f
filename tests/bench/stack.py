"""The gateway as the bench runs it: one worker, a Redis of its own, and the sink as its store."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

from gateway.dev.local_redis import RedisServerMissing, find_redis_server
from tests.bench.processes import NotStarted, Server, free_port, running

TOKEN_SECRET = "bench-bench-bench-bench-bench-bench-bench"
_READY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis with append-only persistence on a unix socket."""

    server: Server
    socket_path: Path

    def written(self) -> tuple[int, int]:
        """Bytes so far of its append-only file, and of all that was sent to it."""
        client = redis.Redis(unix_socket_path=str(self.socket_path))
        facts = cast(dict[str, int], client.info("all"))
        client.close()
        return facts["aof_current_size"], facts["total_net_input_bytes"]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is ready, the port of its COS door, and a token for it."""

    server: Server
    cos_port: int
    token: str


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run redis-server, with the append-only file that production has and no rewriting of it.

    Raises:
        NotStarted: there is none on this machine, or it did not come up.
    """
    try:
        program = find_redis_server()
    except RedisServerMissing as missing:
        raise NotStarted(str(missing)) from missing
    home = folder / f"redis-{time.monotonic_ns()}"
    home.mkdir()
    socket_path = home / "redis.sock"
    command = [str(program), "--port", "0", "--unixsocket", str(socket_path), "--dir", str(home), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"]
    with running(command, folder, socket_path=socket_path) as server:
        yield RedisServer(server, socket_path)


@contextmanager
def sink(folder: Path, *, part_delay_ms: float = 0) -> Iterator[Server]:
    """Run the store sink, which answers each part *part_delay_ms* late."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.sink", "--port", str(port), "--delay-ms", str(part_delay_ms)]
    with running(command, folder, port=port) as server:
        yield server


@contextmanager
def local_cos(folder: Path) -> Iterator[Server]:
    """Run our own COS, which checks every signature and keeps objects as files."""
    port = free_port()
    command = [sys.executable, "-m", "gateway.dev.local_cos", "--listen", f"127.0.0.1:{port}"]
    command += ["--data", str(folder / "cos"), "--bucket", "bench-1250000000@ap-guangzhou"]
    key = {"GATEWAY_COS_SECRET_ID": "AKIDbench", "GATEWAY_COS_SECRET_KEY": "bench-bench-bench"}
    with running(command, folder, port=port, env={**os.environ, **key}) as server:
        yield server


@contextmanager
def gateway(
    folder: Path,
    redis_at: RedisServer,
    sink_port: int,
    *,
    settings: Mapping[str, str] | None = None,
    launcher: Sequence[str] = (),
) -> Iterator[Gateway]:
    """Run ``python -m gateway serve`` until the block ends, from when it says it is ready.

    *settings* go on top of the bench's own; the command line stands behind *launcher*.

    Raises:
        NotStarted: it ended, or was not ready within 20 seconds.
    """
    port, cos_port = free_port(), free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_COS_LISTEN": f"127.0.0.1:{cos_port}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        "GATEWAY_REDIS_URL": f"unix://{redis_at.socket_path}",
        "GATEWAY_COS_ENDPOINT": f"http://127.0.0.1:{sink_port}",
        "GATEWAY_COS_SECRET_ID": "AKIDbench",
        "GATEWAY_COS_SECRET_KEY": "bench-bench-bench",
        "GATEWAY_BUCKETS": "main=bench-1250000000@ap-guangzhou/",
        "GATEWAY_BUCKET_OPTIONS": "main=*",
        "GATEWAY_TOKEN_SECRET": TOKEN_SECRET,
        "GATEWAY_WORKERS": "1",
        "GATEWAY_START_SECONDS": "0",  # the sink is no COS that could be looked at
        "GATEWAY_REQUESTS_PER_SUBJECT_RATE": "0",  # the whole load has one token
        "GATEWAY_CREATES_PER_SUBJECT_RATE": "0",
        **(settings or {}),
    }
    command = [sys.executable, "-m", "gateway"]
    with running([*launcher, *command, "serve"], folder, port=port, env=env) as server:
        _await_ready(server)
        token = subprocess.run(
            [*command, "token", "--subject", "bench", "--ttl", "3600"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        yield Gateway(server, cos_port, token.stdout.strip())


def _await_ready(server: Server) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise NotStarted(f"the gateway is not ready: {server.log_tail()}")

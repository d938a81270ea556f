"""A redis-server behind a cable that can be pulled: then its address answers nothing, not even refusals."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.system.processes import Program, redis_server, wait_until
from tests.tools import require_tool

PORT: Final = 6379
_SUBNETS: Final = 1 << 14


class Cable:
    """Between this machine and a network namespace in which one redis-server runs."""

    def __init__(self, folder: Path) -> None:
        number = os.getpid() % _SUBNETS
        here, there = (f"198.18.{number >> 6}.{4 * (number & 63) + end}" for end in (1, 2))
        self._name = f"gwt{os.getpid()}"
        self.url = f"redis://{there}:{PORT}/0"
        _ip("netns", "add", self._name)
        _ip("link", "add", self._name, "type", "veth", "peer", "name", "cable", "netns", self._name)
        _ip("addr", "add", f"{here}/30", "dev", self._name)
        _ip("link", "set", self._name, "up")
        _ip("-n", self._name, "addr", "add", f"{there}/30", "dev", "cable")
        self.plug()
        options = ("--port", str(PORT), "--bind", there, "--protected-mode", "no", "--save", "", "--dir", str(folder))
        inside = ("ip", "netns", "exec", self._name)
        self._redis = Program([*inside, redis_server(), *options], folder / "redis-behind-a-cable.log")
        wait_until(lambda: b"Ready to accept" in self._redis.log.read_bytes(), "redis-server")

    def pull(self) -> None:
        """From now on what is sent there is lost."""
        _ip("-n", self._name, "link", "set", "cable", "down")

    def plug(self) -> None:
        """Back in."""
        _ip("-n", self._name, "link", "set", "cable", "up")

    def close(self) -> None:
        self._redis.stop()
        _ip("netns", "del", self._name)


@contextmanager
def redis_behind_a_cable(folder: Path) -> Iterator[Cable | None]:
    """None where we may not make networks."""
    if not can_make_networks():
        yield None
        return
    cable = Cable(folder)
    try:
        yield cable
    finally:
        cable.close()


def can_make_networks() -> bool:
    """Whether this machine lets us."""
    require_tool("ip")
    if os.geteuid() != 0:
        return False
    name = f"gwt{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, timeout=10).returncode == 0
    return made and subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10).returncode == 0


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)

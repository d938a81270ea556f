"""A start that cannot work ends in seconds, with one line that names the setting and the mend; nothing hangs."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.system.processes import ROOT, LocalCos, Redis, free_port
from tests.system.stack import SECRET

SECONDS: Final = 25
"""Each step on the network has 10; this machine may be slow."""
ROWS: Final[Mapping[str, tuple[Mapping[str, str], str]]] = {
    "Redis is away": ({"REDIS_URL": "redis://:canary@127.0.0.1:1/0"}, "GATEWAY_REDIS_URL: 127.0.0.1:1"),
    "there is no such bucket": ({"BUCKETS": "files=none-1250000000@ap-guangzhou"}, "GATEWAY_BUCKETS: "),
    "the clock is off": ({}, "set it by NTP"),
}
_WRONG_CLOCK: Final = [sys.executable, str(Path(__file__).parent / "wrong_clock.py"), "-1200"]


@dataclass
class Machine:
    """A Redis and a local COS, and commands before them."""

    redis: Redis
    cos: LocalCos

    def start(self, row: str) -> "subprocess.Popen[str]":
        """`serve` with what *row* has wrong."""
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
            "GATEWAY_LISTEN": f"127.0.0.1:{free_port()}",
            "GATEWAY_COS_LISTEN": "",
            "GATEWAY_ADMIN_LISTEN": "",
            "GATEWAY_REDIS_URL": self.redis.url,
            "GATEWAY_COS_ENDPOINT": self.cos.url,
            "GATEWAY_COS_SECRET_ID": LocalCos.SECRET_ID,
            "GATEWAY_COS_SECRET_KEY": LocalCos.SECRET_KEY,
            "GATEWAY_BUCKETS": f"files={LocalCos.BUCKET}@{LocalCos.REGION}",
            "GATEWAY_TOKEN_SECRET": SECRET,
            "GATEWAY_START_SECONDS": "0.1",
            **{f"GATEWAY_{name}": value for name, value in ROWS[row][0].items()},
        }
        argv = [*(_WRONG_CLOCK if row == "the clock is off" else []), sys.executable, "-m", "gateway", "serve"]
        return subprocess.Popen(
            argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("bad-settings")
    redis = Redis(folder)
    try:
        cos = LocalCos(folder)
        yield Machine(redis, cos)
        cos.close()
    finally:
        redis.close()


def _ended(process: "subprocess.Popen[str]") -> tuple[int, list[str]]:
    """The exit code, and the lines that were said."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, (out + err).splitlines()


def test_a_start_that_cannot_work_ends_at_once_with_one_line(machine: Machine) -> None:
    started = {row: machine.start(row) for row in ROWS}
    ended = {row: _ended(process) for row, process in started.items()}

    for row, (code, lines) in ended.items():
        assert (code, len(lines)) == (1, 1), (row, lines)
        assert ROWS[row][1] in lines[0]
        assert "canary" not in lines[0]

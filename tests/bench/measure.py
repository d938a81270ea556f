"""One measured load: who carried it, how long it took, what CPU the server spent, and proof that the bytes arrived."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.doors import Door
from tests.bench.processes import Server, stop

GIB = 1024**3


class LoadFailed(Exception):
    """A load was refused, lost its connection, or its bytes never reached the sink."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server under comparison, and how the load speaks to it."""

    name: str
    door: Door
    server: Server
    token: str = ""
    cos_port: int = 0

    @property
    def arguments(self) -> list[str]:
        """What the load's command line needs to reach it."""
        ports = ["--port", str(self.server.port), "--cos-port", str(self.cos_port)]
        return ["--door", self.door.value, *ports, "--token", self.token]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: wall seconds, file bytes and uploads or parts carried, CPU seconds of the server."""

    seconds: float
    bytes: int
    count: int
    cpu_seconds: float

    @property
    def gib_per_second(self) -> float:
        return self.bytes / GIB / self.seconds

    @property
    def cpu_seconds_per_gib(self) -> float:
        return self.cpu_seconds / self.bytes * GIB

    @property
    def count_per_second(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_ms_each(self) -> float:
        return self.cpu_seconds / self.count * 1000

    def __str__(self) -> str:
        return (
            f"{self.gib_per_second:.3f} GiB/s, {self.cpu_seconds_per_gib:.2f} CPU-s/GiB, "
            f"{self.count_per_second:.0f}/s, {self.cpu_ms_each:.2f} CPU ms each"
        )


class Load:
    """A load generator that runs: its stages, then its figures."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def next_line(self) -> dict[str, Any]:
        """The next document it prints.

        Raises:
            LoadFailed: it ended instead; the text is the end of its complaint.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise LoadFailed(self._process.stderr.read()[-1500:])
        document: dict[str, Any] = json.loads(line)
        return document

    def go_on(self) -> None:
        """Let it leave the stage that it reported last."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def load(*arguments: str) -> Iterator[Load]:
    """Run ``tests.bench.load`` with *arguments*; it has ended when the block has."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.load", *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    try:
        yield Load(process)
    finally:
        stop(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def run_load(contender: Contender, *arguments: str) -> dict[str, Any]:
    """Run one load without stages against *contender* and return its figures."""
    name, *rest = arguments
    with load(name, *contender.arguments, *rest) as running:
        return running.next_line()


def sample(contender: Contender, sink: Server, *arguments: str) -> Sample:
    """Run one load against *contender*, and see that all its bytes reached *sink*.

    Raises:
        LoadFailed: the load failed, or fewer bytes arrived than it sent.
    """
    arrived = _body_bytes(sink)
    measured = timed(contender, *arguments)
    arrived = _body_bytes(sink) - arrived
    if arrived < measured.bytes:
        raise LoadFailed(f"{contender.name}: {measured.bytes} bytes were sent, {arrived} reached the sink")
    return measured


def timed(contender: Contender, *arguments: str) -> Sample:
    """Run one load against *contender*, for a store that checks by itself what arrives. Raises LoadFailed."""
    cpu_seconds = contender.server.cpu_seconds()
    figures = run_load(contender, *arguments)
    cpu_seconds = contender.server.cpu_seconds() - cpu_seconds
    return Sample(figures["seconds"], figures["bytes"], figures["count"], cpu_seconds)


def interleaved(contenders: Sequence[Contender], sink: Server, rounds: int, *arguments: str) -> dict[str, list[Sample]]:
    """Sample every contender in turn, *rounds* times over, and print each sample as it comes."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            samples[contender.name].append(sample(contender, sink, *arguments))
            print(f"  {arguments[0]}, round {number}, {contender.name}: {samples[contender.name][-1]}", flush=True)
    return samples


def middle(samples: Sequence[Sample], figure: Callable[[Sample], float]) -> float:
    """The median of one figure."""
    return median(figure(one) for one in samples)


def _body_bytes(sink: Server) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/-/stats", timeout=10) as answer:
        stats: dict[str, int] = json.load(answer)
    return stats["body_bytes"]

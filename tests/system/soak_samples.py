"""What a process holds, looked at again and again, and the straight line through it."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, sqrt
from pathlib import Path
from statistics import mean
from typing import Final

from tests.system.processes import Program

_ROLLUP: Final = {"resident": "Rss", "proportional": "Pss", "own": "Anonymous"}
"""``own`` is what counts: pages of libraries come and go with other processes of this machine that map them too."""

ALIKE_MOST: Final = 0.99


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: memory in bytes by kind, descriptors, threads."""

    at_seconds: float
    memory: Mapping[str, int]
    descriptor_count: int
    thread_count: int


def look(program: Program) -> Sample:
    """What *program* holds now. Raises FileNotFoundError when it has ended."""
    process = Path(f"/proc/{program.pid}")
    rollup = (process / "smaps_rollup").read_text()
    memory = {kind: 1024 * int(_found(rf"^{name}:\s+(\d+) kB", rollup)) for kind, name in _ROLLUP.items()}
    threads = int(_found(r"^Threads:\s+(\d+)", (process / "status").read_text()))
    return Sample(time.monotonic(), memory, len(os.listdir(process / "fd")), threads)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, pattern
    return match[1]


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line: its mean, its rise per second, and the standard error of the rise."""

    mean: float
    slope: float
    slope_error: float


def fitted(times: Sequence[float], values: Sequence[float]) -> Line:
    """The line of least squares; needs three points.

    Neighbours resemble each other, so that there is less to learn from them than from independent points: the error
    is widened by what the residuals' correlation with their neighbours says (an autoregression of the first order).
    """
    middle, level = mean(times), mean(values)
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (value - level) for at, value in zip(times, values, strict=True)) / spread
    left = [value - level - slope * (at - middle) for at, value in zip(times, values, strict=True)]
    squares = sum(one * one for one in left)
    alike = sum(one * other for one, other in pairwise(left)) / squares if squares else 0.0
    alike = min(max(alike, 0.0), ALIKE_MOST)
    error = sqrt(squares / (len(left) - 2) / spread * (1 + alike) / (1 - alike))
    return Line(level, slope, error)


def quantile(share: float, before: Mapping[str, float], after: Mapping[str, float], histogram: str) -> float:
    """What *share* of the observations between two readings of the metrics stays below, as Prometheus reckons it."""
    counts = []
    for name, count in after.items():
        bound = re.fullmatch(rf'{histogram}_bucket{{le="(.+)"}}', name)
        if bound is not None:
            counts.append((float(bound[1]), count - before.get(name, 0.0)))
    counts.sort()
    wanted, lower, below = share * counts[-1][1], 0.0, 0.0
    for upper, count in counts:
        if count >= wanted and count > below:
            return lower if upper == inf else lower + (upper - lower) * (wanted - below) / (count - below)
        lower, below = upper, count
    return 0.0

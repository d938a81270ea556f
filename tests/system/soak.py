"""``python -m tests.system.soak [--seconds 1800] [--seed N]``: one gateway at work for long; does it grow?

One gateway, one Redis, one COS, and clients that do everything that clients do: for a third of the time, ten minutes
at most, as fast as they can, so that the most memory which they ever need at once is needed early; then at a moderate
pace, while a straight line is laid through the gateway's memory.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.system.cos_door import Door, running_door
from tests.system.processes import LocalCos, wait_until
from tests.system.soak_clients import PREFIX, clients_of
from tests.system.soak_samples import Line, Sample, fitted, look, quantile
from tests.system.soak_tally import Tally

CLIENTS: Final = 6
SAMPLE_SECONDS: Final = 5.0
LEAST_SAMPLES: Final = 12
WARM_UP_SHARE: Final = 1 / 3
WARM_UP_MOST_SECONDS: Final = 600.0
SPAN_SECONDS: Final = 1800.0
"""Growth is told for so long."""
GROWTH_REACH_BYTES: Final = 1e6
LAG_REACH_SECONDS: Final = 0.02
LAG: Final = "gateway_loop_lag_seconds"
LAST_ANSWER_SECONDS: Final = 120.0
REST_SECONDS: Final = 10.0
"""Enough on a busy machine: no body may wait for a client that has gone."""
HELD: Final = ("gateway_bodies_in_flight", "gateway_replay_budget_bytes", "gateway_websockets_open")
MB: Final = 1e6
SETTINGS: Final = {
    "buckets": f"files={LocalCos.BUCKET}@{LocalCos.REGION}/{PREFIX}",
    "log_level": "info",
    "task_ttl_seconds": "120",  # what is left behind expires and is swept while we look
    "sweep_seconds": "30",
}


@dataclass
class Report:
    """What the soak showed. ``busy_share`` is processor time by process, 1 being a whole core."""

    seed: int
    seconds: float
    tally: Tally
    first: Sample
    last: Sample
    samples: list[Sample] = field(default_factory=list)
    hurried_lag_p99_seconds: float = 0.0
    lag_p99_seconds: float = 0.0
    busy_share: Mapping[str, float] = field(default_factory=dict)

    def growth(self, kind: str = "own") -> Line:
        """The line through the memory of one *kind*, in bytes and seconds."""
        return fitted([one.at_seconds for one in self.samples], [one.memory[kind] for one in self.samples])

    def __str__(self) -> str:
        own = self.growth()
        busy = ", ".join(f"{name} {share:.2f}" for name, share in self.busy_share.items())
        lines = [
            f"seed {self.seed}: {self.seconds:.0f} s, {self.tally.stored_bytes / 1e9:.2f} GB stored; "
            f"cores busy: {busy}",
            f"steps: {_counts(self.tally.uploads)}",
            f"answers: {_counts(self.tally.answers)}",
            f"own memory {own.mean / MB:.1f} MB, {_growth(own)} in {SPAN_SECONDS / 60:.0f} minutes, from "
            f"{len(self.samples)} samples (reach: < {GROWTH_REACH_BYTES / MB:g} MB)",
            *(f"{kind} memory {line.mean / MB:.1f} MB, {_growth(line)}" for kind, line in self._others()),
            f"loop lag p99 {self.lag_p99_seconds * 1000:.1f} ms (reach: <= {LAG_REACH_SECONDS * 1000:g} ms), "
            f"in the warm-up {self.hurried_lag_p99_seconds * 1000:.1f} ms",
            f"descriptors {self.first.descriptor_count} at the start, {self.last.descriptor_count} at the end; "
            f"threads {self.first.thread_count}, {self.last.thread_count}",
            *(f"UNEXPECTED {failure}" for failure in self.tally.failures),
        ]
        return "\n".join(lines)

    def _others(self) -> list[tuple[str, Line]]:
        return [(kind, self.growth(kind)) for kind in ("proportional", "resident")]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def _growth(line: Line) -> str:
    return f"{line.slope * SPAN_SECONDS / MB:+.2f} ± {line.slope_error * SPAN_SECONDS / MB:.2f} MB"


class Soak:
    """Clients at work before *door*, and eyes on its gateway."""

    def __init__(self, door: Door, seed: int) -> None:
        self._door = door
        self._gateway = door.stack.gateway
        self._seed = seed

    def run(self, seconds: float, clients: int) -> Report:
        """Work for *seconds*. Whatever was not as expected is in the report."""
        first, before, busy = look(self._gateway.program), self._gateway.metrics(), self._busy()
        report = Report(self._seed, seconds, Tally(), first, first)
        calm, over = threading.Event(), threading.Event()
        with ThreadPoolExecutor(clients) as pool:
            starting = clients_of(self._door, report.tally, self._seed, clients)
            working = [pool.submit(one.run, calm, over) for one in starting]
            try:
                began = first.at_seconds
                self._watch(began, began + min(WARM_UP_MOST_SECONDS, WARM_UP_SHARE * seconds))
                warm = self._gateway.metrics()
                calm.set()
                report.samples = self._watch(began, began + seconds)
            finally:
                over.set()
            for one in working:
                one.result(LAST_ANSWER_SECONDS)
        report.hurried_lag_p99_seconds = quantile(0.99, before, warm, LAG)
        report.lag_p99_seconds = quantile(0.99, warm, self._gateway.metrics(), LAG)
        passed = time.monotonic() - began
        report.busy_share = {name: (spent - busy[name]) / passed for name, spent in self._busy().items()}
        self._await_rest(report.tally)
        report.last = look(self._gateway.program)
        return report

    def _watch(self, began: float, end: float) -> list[Sample]:
        """What is seen until *end*; tell of it each minute, as so long after *began*."""
        samples: list[Sample] = []
        told = time.monotonic()
        pause = min(SAMPLE_SECONDS, (end - told) / LEAST_SAMPLES)
        while time.monotonic() < end:
            time.sleep(pause)
            samples.append(look(self._gateway.program))
            self._gateway.metrics_text()  # as a Prometheus would
            if samples[-1].at_seconds - told >= 60:
                told = samples[-1].at_seconds
                print(_line_of(samples[-1], told - began), file=sys.stderr, flush=True)
        return samples

    def _busy(self) -> dict[str, float]:
        """Processor seconds so far."""
        stack = self._door.stack
        programs = {"gateway": self._gateway.program, "COS": stack.cos.program, "Redis": stack.redis.program}
        return {**{name: one.cpu_seconds for name, one in programs.items()}, "clients": time.process_time()}

    def _await_rest(self, tally: Tally) -> None:
        """When all clients have gone, nothing is held for them."""

        def at_rest() -> bool:
            metrics = self._gateway.metrics()
            held.update({name: metrics[name] for name in HELD})
            return not any(held.values())

        held: dict[str, float] = {}
        try:
            wait_until(at_rest, "rest after the last client", REST_SECONDS)
        except AssertionError as error:
            tally.failed(f"{error}: {held}")
        tally.failures.extend(str(one) for one in self._gateway.log_lines() if one["level"] in ("error", "critical"))


def _line_of(sample: Sample, seconds: float) -> str:
    memory = ", ".join(f"{kind} {size / MB:.1f} MB" for kind, size in sample.memory.items())
    return f"{seconds:.0f} s: {memory}, {sample.descriptor_count} descriptors, {sample.thread_count} threads"


def soak(folder: Path, seconds: float, seed: int, clients: int = CLIENTS) -> Report:
    """One soak over a stack of its own, its files in *folder*."""
    with running_door(folder, **SETTINGS) as door:
        return Soak(door, seed).run(seconds, clients)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 when an answer was unexpected or an object was not its file."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.soak", description="Look whether a gateway grows.")
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gw-soak-") as folder:
        report = soak(Path(folder), given.seconds, given.seed)
    print(report)
    return 1 if report.tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""The burst bench: many bodies at once, what becomes of them, and what somebody else feels meanwhile.

    .venv/bin/python -m tests.bench.burst [--bodies 50 100 200 500 1000] [--only held stalled fast] [--pod small base]

``held``: every client sends half of a 4 MiB part, then all send the rest at once, COS well. ``fast``: they send the
whole at once, COS well. ``stalled``: the same while COS takes nothing for 10 s. With ``--pod`` the gateway runs in a
control group with the memory limit and the replay budget of ``deploy/k8s``. It prints one table and asserts nothing.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.doors import MIB
from tests.bench.load_burst import PART_BYTES, Burst, burst, create_tasks
from tests.bench.processes import Server
from tests.bench.run import allow_many_connections
from tests.bench.stack import Gateway, gateway, redis_server, sink
from tests.system.control_group import control_group

STALL_SECONDS: Final = 10.0
PODS: Final = {"small": (256 * MIB, 64 * MIB), "base": (640 * MIB, 256 * MIB)}
"""Memory limit and replay budget, as in ``deploy/k8s``."""
_SETTLED_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Felt:
    """What somebody else felt: milliseconds, each list sorted."""

    livez: list[float]
    status: list[float]

    def __str__(self) -> str:
        return " | ".join(f"{_at(times, 0.99):.0f} / {times[-1]:.0f}" for times in (self.livez, self.status) if times)


def _at(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


def _peak_bytes(server: Server) -> int:
    """The most memory that the process ever had in RAM; 0 where it is gone."""
    try:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


@contextmanager
def asking(ours: Gateway, task: str) -> Iterator[Callable[[], Felt]]:
    """Ask for /livez and the state of *task*, from another process, until what is given is called."""
    paths = ["/livez", f"/v1/tasks/{task}"]
    command = [sys.executable, "-m", "tests.bench.load_burst", str(ours.server.port), ours.token, *paths]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:

        def felt() -> Felt:
            output, _ = process.communicate(timeout=70)
            told = json.loads(output)
            return Felt(*(told[path] for path in paths))

        yield felt
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _stall(store: Server, seconds: float) -> None:
    store.process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(seconds, store.process.send_signal, (signal.SIGCONT,))
    timer.daemon = True
    timer.start()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one burst came to; ``peak_bytes`` is 0 where the process was killed."""

    answers: Burst
    felt: Felt
    killed: bool
    before_bytes: int
    peak_bytes: int


def measure(kind: str, bodies: int, pod: str | None, stall_seconds: float = STALL_SECONDS) -> Outcome:
    """A gateway of its own under one burst, with a *pod*'s memory if one is named.

    Where this machine lets us make no control group, it has the pod's budget but nothing that would kill it.

    Raises:
        NotStarted: something did not come up.
    """
    limit, budget = PODS.get(pod or "", (0, 0))
    settings = {"GATEWAY_BODIES_PER_SUBJECT_COUNT": "2000"}
    if budget:
        settings["GATEWAY_REPLAY_BUDGET_BYTES"] = str(budget)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="burst-")))
        group = stack.enter_context(control_group("memory", {"limit_in_bytes": limit})) if limit else None
        store = stack.enter_context(sink(folder))
        redis_at = stack.enter_context(redis_server(folder))
        launcher = () if group is None else tuple(group.launcher)
        ours = stack.enter_context(gateway(folder, redis_at, store.port, settings=settings, launcher=launcher))
        tasks = create_tasks(ours.server.port, ours.token, bodies)
        before = _peak_bytes(ours.server)
        felt = stack.enter_context(asking(ours, tasks[0]))
        threading.Event().wait(_SETTLED_SECONDS)

        def at_burst() -> None:
            if kind == "stalled":
                _stall(store, stall_seconds)

        first_bytes = PART_BYTES // 2 if kind == "held" else 0
        came = burst(ours.server.port, ours.token, tasks, first_bytes, at_burst)
        by_kernel = group is not None and group.read("oom_control")["oom_kill"] > 0
        killed = by_kernel or ours.server.process.poll() is not None
        return Outcome(came, felt(), killed, before, _peak_bytes(ours.server))


def row(kind: str, bodies: int, pod: str | None) -> str:
    """One row of the table."""
    found = measure(kind, bodies, pod)
    told = ", ".join(f"{count} x {status or 'broken'}" for status, count in sorted(found.answers.statuses.items()))
    if found.answers.retry_after_missing:
        told += f" ({found.answers.retry_after_missing} without Retry-After)"
    each = (found.peak_bytes - found.before_bytes) / MIB / bodies
    memory = "- | -" if found.killed else f"{found.peak_bytes / MIB:.0f} MiB | {each:.2f}"
    killed = "**yes**" if found.killed else "no"
    cells = (kind, pod or "-", bodies, told, killed, memory, found.felt, f"{found.answers.seconds:.1f}")
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """Run the chosen rows and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--bodies", nargs="+", type=int, default=[50, 100, 200, 500, 1000])
    parser.add_argument("--only", nargs="+", choices=("held", "fast", "stalled"), default=["held", "fast", "stalled"])
    parser.add_argument("--pod", nargs="+", choices=tuple(PODS), default=[None])
    arguments = parser.parse_args()
    allow_many_connections()
    print(
        "| burst | pod | bodies | answers | killed | peak memory | MiB each "
        "| /livez p99 / max ms | status p99 / max ms | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for pod in arguments.pod:
        for kind in arguments.only:
            for bodies in arguments.bodies:
                print(row(kind, bodies, pod), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

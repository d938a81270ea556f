"""The bench: how fast and how lean the gateway is, against nginx, tus and itself.

    .venv/bin/python -m tests.bench.run [--only parts file small sdk doors slow window watch redis] [--rounds 3]

It starts a Redis, the sink, the comparators and the gateway (one worker, plain HTTP, loopback), runs them in turn,
takes medians and prints one table of ratios. It asserts nothing about time: a machine's figures are its own, ratios
of one run travel better. A comparator whose program is missing is skipped with a line that says so.
"""

import argparse
import resource
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.bench.measure import LoadFailed
from tests.bench.processes import NotStarted
from tests.bench.scenarios import SCENARIOS, Row


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| work | against | medians | value | reach | reached |", "|---|---|---|---|---|---|"]
    for row in rows:
        sign = "≤" if row.at_most else "≥"
        reached = "yes" if row.reached else "**no**"
        lines.append(
            f"| {row.work} | {row.against} | {row.measured} | {row.value:.2f} | {sign} {row.bound:g} | {reached} |"
        )
    return "\n".join(lines)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # As Ctrl-C does: every `with` ends the programs that it started.
    raise KeyboardInterrupt


def allow_many_connections() -> None:
    """Let the programs started here hold as many sockets as this machine allows: the slow clients need over 1,000."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Run the chosen scenarios and print their table; 1 when one of them could not be run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="NAME")
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of each contender, interleaved; at least 3 to report"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    allow_many_connections()
    rows: list[Row] = []
    failed = False
    try:
        for name in arguments.only:
            print(f"{name}: {SCENARIOS[name].__doc__}", flush=True)
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                try:
                    rows += SCENARIOS[name](Path(folder), arguments.rounds)
                except (LoadFailed, NotStarted) as reason:
                    failed = True
                    print(f"  not measured: {reason}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        failed = True
    print(f"\n{table(rows)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

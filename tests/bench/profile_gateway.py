"""Where the gateway spends its time under one of the bench's loads.

    .venv/bin/python -m tests.bench.profile_gateway parts|file|stream|small|sdk [--seconds 10] [--stacks FILE]

It samples the gateway with py-spy (on PATH or in ``.venv/bin``, else fetched by ``uvx``) while the load repeats, and
prints the functions by their own time and by their time with all that they call, in % of the samples. The stacks
themselves, one a line with its count, go to FILE: any flame graph tool reads them.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench.doors import Door
from tests.bench.measure import Contender, sample
from tests.bench.stack import gateway, redis_server, sink

_LOADS: Final = {
    "parts": ["parts"],
    "file": ["file"],
    "sdk": ["sdk"],
    "stream": ["stream"],
    "small": ["small", "--connections", "16", "--seconds", "3"],
}
_LINES: Final = 40


def find_py_spy() -> list[str] | None:
    """The command that runs py-spy."""
    beside_python = str(Path(sys.executable).parent)
    program = shutil.which("py-spy") or shutil.which("py-spy", path=beside_python)
    if program:
        return [program]
    uvx = shutil.which("uvx") or shutil.which("uvx", path=beside_python)
    return [uvx, "py-spy"] if uvx else None


def record(py_spy: list[str], load: list[str], seconds: int, stacks: Path) -> None:
    """Repeat *load* on a fresh gateway until py-spy has watched it for *seconds*; its samples go to *stacks*."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        store = stack.enter_context(sink(folder))
        redis_at = stack.enter_context(redis_server(folder))
        ours = stack.enter_context(gateway(folder, redis_at, store.port))
        contender = Contender("gateway", Door.GATEWAY, ours.server, ours.token, ours.cos_port)
        sample(contender, store, *load)
        command = [
            *py_spy,
            "record",
            "--pid",
            str(ours.server.process.pid),
            "--subprocesses",
            "--duration",
            str(seconds),
        ]
        watching = subprocess.Popen(
            [*command, "--rate", "500", "--format", "raw", "--output", str(stacks)], stdout=subprocess.DEVNULL
        )
        while watching.poll() is None:
            print(f"  {load[0]}: {sample(contender, store, *load)}", flush=True)


def print_functions(stacks: Path) -> None:
    """Print the functions that the samples in *stacks* were in, by own time and by time with their callees."""
    own: Counter[str] = Counter()
    cumulated: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        frames, _, samples = line.rpartition(" ")
        # Frames read "function (file:line)" below one "process N"; without the line a function is one row.
        functions = [f"{frame.rpartition(':')[0]})" for frame in frames.split(";") if ":" in frame]
        if functions:
            own[functions[-1]] += int(samples)
            cumulated.update(dict.fromkeys(functions, int(samples)))
    total = sum(own.values()) or 1
    for title, counts in (("own time", own), ("with callees", cumulated)):
        print(f"\n{title}")
        for function, count in counts.most_common(_LINES):
            print(f"{100 * count / total:6.1f} %  {function.replace(str(Path.cwd()), '.')}")


def main() -> int:
    """Read the command line, sample, print; 1 when there is no py-spy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("load", choices=_LOADS)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--stacks", type=Path, help="where the sampled stacks go")
    arguments = parser.parse_args()
    py_spy = find_py_spy()
    if py_spy is None:
        print("py-spy is missing: install it, or uv, beside this Python", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stacks = arguments.stacks or Path(folder) / "stacks"
        record(py_spy, _LOADS[arguments.load], arguments.seconds, stacks)
        print_functions(stacks)
    return 0


if __name__ == "__main__":
    sys.exit(main())

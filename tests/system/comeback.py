"""``python -m tests.system.comeback [--rounds 3]``: how soon parts are stored again, and how soon a gateway is gone.

Redis and COS are lost in several ways while clients go on asking; the time counts from the moment when they answer
again until the first part is acknowledged. Then gateways are told to end: idle, with uploads under way, and with one
that never ends.
"""

import argparse
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final
from uuid import uuid4

import httpx

from tests.system.processes import Program, wait_until
from tests.system.stack import MIB, Caller, Stack, good, read_answer, running_stack

CLIENTS: Final = 4
OUTAGE_SECONDS: Final = 10.0
ASK_SECONDS: Final = 0.05
REDIS_REACH_SECONDS: Final = 2.0
COS_REACH_SECONDS: Final = 5.0
IDLE_REACH_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 10
UPLOADS: Final = 50
HALF_BYTES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of each round, and how many there may be."""

    what: str
    seconds: Sequence[float]
    reach: float

    def __str__(self) -> str:
        told = "yes" if max(self.seconds) <= self.reach else "**no**"
        return f"| {self.what} | {median(self.seconds):.2f} | {max(self.seconds):.2f} | {self.reach:g} | {told} |"


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    return "\n".join(["| what | median s | longest s | reach s | reached |", "|---|---|---|---|---|", *map(str, rows)])


# --- outages: each ends when what was lost answers again


def dies(program: Program, start: Callable[[], None], seconds: float) -> None:
    """Nobody listens."""
    program.kill()
    time.sleep(seconds)
    start()


def stands_still(program: Program, seconds: float) -> None:
    """Connections are taken, and nothing is answered."""
    program.signal(signal.SIGSTOP)
    time.sleep(seconds)
    program.signal(signal.SIGCONT)


def fails(stack: Stack, seconds: float) -> None:
    """COS answers 500."""
    stack.cos.fault("error", operation="UploadPart", status=500, code="InternalError", times=None)
    time.sleep(seconds)
    stack.cos.clear_faults()


def outages(stack: Stack) -> dict[str, tuple[float, Callable[[float], None]]]:
    """By name: the reach in seconds, and what lasts as many seconds as it is given."""
    redis, cos = stack.redis, stack.cos
    return {
        "Redis, killed and started": (REDIS_REACH_SECONDS, lambda s: dies(redis.program, redis.start, s)),
        "Redis, stopped and continued": (REDIS_REACH_SECONDS, lambda s: stands_still(redis.program, s)),
        "COS, killed and started": (COS_REACH_SECONDS, lambda s: dies(cos.program, cos.start, s)),
        "COS, stopped and continued": (COS_REACH_SECONDS, lambda s: stands_still(cos.program, s)),
        "COS, answered 500": (COS_REACH_SECONDS, partial(fails, stack)),
    }


@contextmanager
def asking(clients: Sequence[Caller], stored: Callable[[float], None]) -> Iterator[None]:
    """Each of *clients* sends a part again and again, other bytes each time; *stored* hears when one was taken."""
    over = threading.Event()

    def ask(caller: Caller) -> None:
        task_id = caller.create(f"comeback/{uuid4()}", MIB)["id"]
        for number in count():
            with suppress(httpx.TransportError):
                if caller.put_part(task_id, 1, number.to_bytes(8) + bytes(MIB - 8)).is_success:
                    stored(time.monotonic())
            if over.wait(ASK_SECONDS):
                return

    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(ask, caller) for caller in clients]
        try:
            yield
        finally:
            over.set()
    for one in working:
        one.result()


def seconds_until_stored(stack: Stack, outage: Callable[[float], None], lasting: float) -> float:
    """From the end of one *outage* to the first part that is stored after it."""
    times: list[float] = []
    with asking([stack.caller(f"client {number}") for number in range(CLIENTS)], times.append):
        wait_until(lambda: len(times) >= CLIENTS, "the clients")
        outage(lasting)
        back_at = time.monotonic()
        wait_until(lambda: times[-1] > back_at, "a part", 60)
    return next(at for at in times if at > back_at) - back_at


# --- ends: each signals the gateway, and returns when it may go


def idle(there: Caller, held: ExitStack) -> None:
    """Nobody is there."""
    del held
    there.gateway.program.signal(signal.SIGTERM)


def with_uploads(there: Caller, held: ExitStack) -> None:
    """Bodies are half sent at the signal; the other halves come after it."""
    begun = half_sent(there, held, UPLOADS)
    there.gateway.program.signal(signal.SIGTERM)
    wait_until(lambda: there.gateway.readiness() == 503, "the signal")
    for connection in begun:
        connection.sendall(bytes(HALF_BYTES))
    for connection in begun:
        good(read_answer(connection))


def with_one_that_stands_still(there: Caller, held: ExitStack) -> None:
    """The other half never comes."""
    half_sent(there, held, 1)
    there.gateway.program.signal(signal.SIGTERM)


def ends(limit_seconds: int) -> dict[str, tuple[float, Callable[[Caller, ExitStack], None]]]:
    """By name: the reach in seconds, and what tells a gateway to end that has *limit_seconds* for it."""
    return {
        "end, idle": (IDLE_REACH_SECONDS, idle),
        f"end, after the last of {UPLOADS} uploads": (IDLE_REACH_SECONDS, with_uploads),
        f"end, limit {limit_seconds} s, an upload stands still": (limit_seconds, with_one_that_stands_still),
    }


def half_sent(there: Caller, held: ExitStack, wanted: int) -> list[socket.socket]:
    """Connections, open as long as *held*, on which half of a small file's only part was sent."""
    found = []
    for number in range(wanted):
        task = there.create(f"comeback/end-{number}", 2 * HALF_BYTES)
        head = there.head("PUT", f"/v1/tasks/{task['id']}/parts/1", f"Content-Length: {2 * HALF_BYTES}")
        found.append(held.enter_context(there.connect()))
        found[-1].sendall(head + bytes(HALF_BYTES))
    wait_until(lambda: there.gateway.metrics()["gateway_bodies_in_flight"] == wanted, "the bodies")
    return found


def seconds_until_gone(stack: Stack, end: Callable[[Caller, ExitStack], None], limit_seconds: int) -> float:
    """From when the gateway might go until its process has ended; it has *limit_seconds*."""
    gateway = stack.start_gateway(drain_seconds=str(limit_seconds))
    with ExitStack() as held:
        end(stack.caller("the last", gateway), held)
        might_go_at = time.monotonic()
        assert gateway.program.wait(limit_seconds + DRAIN_SECONDS) == 0
    return time.monotonic() - might_go_at


def measured(
    stack: Stack, rounds: int, lasting: float = OUTAGE_SECONDS, limit_seconds: int = DRAIN_SECONDS
) -> Iterator[Row]:
    """Each row when it is known. *lasting*: seconds of each outage; *limit_seconds*: what an end may take."""
    for name, (reach, outage) in outages(stack).items():
        found = [seconds_until_stored(stack, outage, lasting) for _ in range(rounds)]
        yield Row(f"first part stored: {name}", found, reach)
    for name, (reach, end) in ends(limit_seconds).items():
        yield Row(name, [seconds_until_gone(stack, end, limit_seconds) for _ in range(rounds)], reach)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. It asserts nothing about time: a busy machine's figures are its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.comeback", description="How soon all is well again.")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="gw-comeback-") as folder, running_stack(Path(folder)) as stack:
        for row in measured(stack, given.rounds):
            print(row.what, file=sys.stderr, flush=True)
            rows.append(row)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

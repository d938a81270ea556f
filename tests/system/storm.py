"""``python -m tests.system.storm [--seconds 600] [--seed N]``: everything fails at random, and nothing is lost.

Three gateways before one Redis and one COS, clients that upload without end, and faults at random moments: processes
killed, frozen and started anew, Redis emptied and stopped, COS failing in every way, the network cut. Every other
turn two hostile tenants are there, too: one fills, one bursts. Then calm: every upload must end, every invariant
must hold, and nobody honest may have felt much of the hostile ones. The seed is printed; the same one chooses the same
faults.
"""

import argparse
import copy
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.system.auditor import MEMORY_MOST_BYTES, Auditor, Watched
from tests.system.fault_proxy import Fault, FaultProxy, Harm, Way, running_fault_proxy
from tests.system.hostile_process import Turns
from tests.system.neighbours import FORMULA_BYTES, FULL, MODERATE, REDIS_MOST_BYTES, Felt, Neighbours, Zeal
from tests.system.processes import Gateway
from tests.system.stack import MIB, Stack, body, running_stack, token
from tests.system.steady_client import Refused, SteadyClient

GATEWAYS: Final = 3
MEAN_PAUSE_SECONDS: Final = 1.0
FROZEN_SECONDS: Final = 4.0
REDIS_GONE_SECONDS: Final = 1.5
CUT_SHARE: Final = 0.5
"""Of connections: so many meet a fault of the network."""
CALM_SECONDS: Final = 120.0
TURN_SECONDS: Final = (2.5, 15.0)
"""At least and at most; between them a twelfth of the storm."""
ZEAL: Final[Mapping[str, Zeal | None]] = {"none": None, "moderate": MODERATE, "full": FULL}
DEFAULTS: Final = {"bad_tokens_per_minute_count": "20", "unknown_ids_per_minute_count": "60"}
"""The stack's callers come without; here limits are as operators have them."""
STORAGE_FAULTS: Final[Sequence[tuple[str, Mapping[str, Any]]]] = (
    ("error", {"status": 500, "code": "InternalError"}),
    ("error", {"status": 503, "code": "SlowDown"}),
    ("early_error", {"status": 503, "code": "ServiceUnavailable"}),
    ("reset", {"after_bytes": 100_000}),
    ("lost_answer", {}),
    ("flip", {"after_bytes": 777}),
    ("wrong_crc", {}),
    ("no_crc", {}),
    ("no_etag", {}),
    ("delay", {"seconds": 2}),
    ("stall", {"after_bytes": 100_000, "seconds": 2}),
    ("padded", {"seconds": 1}),
    ("truncated", {}),
    ("error_in_200", {"code": "InternalError"}),
)
STORAGE_CALLS: Final = (
    *("InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject", "ListParts"),
    "AbortMultipartUpload",
)


@dataclass
class Report:
    """What happened."""

    seed: int
    started: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wanted_bytes: int = 0
    """What the clients would send if nothing failed: of a file that they cancel, one part."""
    sent_bytes: int = 0
    """Of a body that broke off or was refused, all of it, though less went out."""
    repeated_count: int = 0
    broken_connections: int = 0
    felt: Felt = field(default_factory=Felt)

    def __str__(self) -> str:
        again = 100 * (self.sent_bytes - self.wanted_bytes) / max(1, self.wanted_bytes)
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        ended = ", ".join(f"{name} {count}" for name, count in sorted(self.ended.items()))
        return (
            f"seed {self.seed}: {sum(self.ended.values())} of {self.started} uploads ended ({ended});\n"
            f"{self.wanted_bytes / MIB:.0f} MiB to send, at most {again:.1f} % again, "
            f"{self.repeated_count} calls repeated;\n"
            f"{sum(self.faults.values())} faults ({faults}), {self.broken_connections} connections broken;\n"
            f"{self.felt}"
        )


class Storm:
    """Clients and faults, until ``run`` has lasted long enough and everything has ended.

    Args:
        zeal: of the hostile tenants; None: there are none.
    """

    def __init__(self, stack: Stack, networks: Sequence[FaultProxy], seed: int, zeal: Zeal | None) -> None:
        self._stack = stack
        self._networks = networks
        self._random = random.Random(seed)
        self._auditor = Auditor(stack, memory_most_bytes=FORMULA_BYTES if zeal else MEMORY_MOST_BYTES)
        self._zeal = zeal
        self._calm = threading.Event()
        self._changing = threading.Lock()
        self._fronts = [behind(network, gateway) for network, gateway in zip(networks, stack.gateways, strict=True)]
        self.report = Report(seed)

    def run(self, seconds: float, clients: int) -> Report:
        """Let it blow for *seconds*. Raises AssertionError when anything was lost, or did not end."""
        for number, network in enumerate(self._networks):
            network.choose = partial(harm, random.Random(f"{self.report.seed} network {number}"))
        began = time.monotonic()
        end = began + seconds
        turns = Turns(began, end, min(max(seconds / 12, TURN_SECONDS[0]), TURN_SECONDS[1]))
        self._neighbours = Neighbours(self._stack, turns, self.report.seed, self._zeal)
        self.report.felt = self._neighbours.felt
        with self._neighbours.around(), ThreadPoolExecutor(clients) as pool:
            working = [pool.submit(self._upload, number, end) for number in range(clients)]
            while time.monotonic() < end:
                self._fault()
                self._calm.wait(self._random.expovariate(1 / MEAN_PAUSE_SECONDS))
            self._be_calm()
            for one in working:
                one.result(CALM_SECONDS)
        self.report.broken_connections = sum(network.broken_count for network in self._networks)
        self._auditor.check()
        self.report.felt.judge()
        return self.report

    def _be_calm(self) -> None:
        for network in self._networks:
            network.choose = None
        self._stack.cos.clear_faults()

    # --- clients

    def _upload(self, number: int, end: float) -> None:
        """One client: files one after the other, each in another way."""
        chance = random.Random(f"{self.report.seed} {number}")
        bearer = token(f"client {number}", seconds=7200)
        callers = [self._stack.caller_with(bearer, front) for front in self._fronts]
        client = SteadyClient(lambda: callers, self._auditor, chance.randrange(1 << 30), CALM_SECONDS)
        serial = 0
        while time.monotonic() < end:
            serial += 1
            kind, size = chance.choice([*_WAYS]), chance.randrange(1, 6 * MIB)
            key = f"storm/{number}/{serial}-{kind}.bin"
            with self._changing:
                self.report.started += 1
                self.report.wanted_bytes += min(size, MIB) if kind == "canceled" else size
            data = body(f"{self.report.seed} {key}", size)
            while (task := self._send(client, kind, key, data)) is None:
                pass
            with self._changing:
                self.report.ended[task["state"]] += 1
        with self._changing:
            self.report.sent_bytes += client.sent_bytes
            self.report.repeated_count += client.repeated_count

    def _send(self, client: SteadyClient, kind: str, key: str, data: bytes) -> dict[str, Any] | None:
        """The task's end; None: Redis lost it while nothing of it was at COS, so that it must be created anew."""
        file = client.create(key, data, size=len(data), part_size=MIB)
        try:
            task = _WAYS[kind](client, file)
        except Refused as refused:
            if refused.code != "task_not_found" or file.receipts or file.task["upload_id"]:
                raise
            self._auditor.forget(file)
            return None
        self._auditor.settle(file, task)
        return task

    # --- faults

    def _fault(self) -> None:
        kinds = (self._kill, self._freeze, self._flush, self._stop_redis, self._kill_cos, *[self._fail_cos] * 4)
        fault = self._random.choice(kinds)
        self.report.faults[fault.__name__.removeprefix("_")] += 1
        fault()

    def _kill(self) -> None:
        number = self._random.randrange(GATEWAYS)
        with self._neighbours.disturbing():  # a start takes one of two cores
            self._stack.gateways[number].program.kill()
            self._stack.gateways[number].restart()

    def _freeze(self) -> None:
        number = self._random.randrange(GATEWAYS)
        program = self._stack.gateways[number].program
        with self._neighbours.disturbing(number):
            program.signal(signal.SIGSTOP)
            self._calm.wait(FROZEN_SECONDS)
            program.signal(signal.SIGCONT)

    def _flush(self) -> None:
        self._auditor.redis_lost_everything()
        with self._neighbours.disturbing():
            self._stack.redis.command("FLUSHALL")

    def _stop_redis(self) -> None:
        with self._neighbours.disturbing():
            self._stack.redis.program.signal(signal.SIGSTOP)
            self._calm.wait(REDIS_GONE_SECONDS)
            self._stack.redis.program.signal(signal.SIGCONT)

    def _kill_cos(self) -> None:
        with self._neighbours.disturbing():
            self._stack.cos.program.kill()
            self._stack.cos.start()

    def _fail_cos(self) -> None:
        action, rule = self._random.choice(STORAGE_FAULTS)
        operation = self._random.choice(STORAGE_CALLS)
        self._stack.cos.fault(action, operation=operation, times=self._random.randrange(1, 5), **rule)


def behind(network: FaultProxy, gateway: Gateway) -> Gateway:
    """*gateway* as one sees it through *network*."""
    seen = copy.copy(gateway)
    seen.port, seen.url = network.port, f"http://127.0.0.1:{network.port}"
    return seen


def harm(chance: random.Random) -> Fault | None:
    """What the next connection to a gateway meets. No flipped bytes: TLS would make a broken connection of them."""
    if chance.random() > CUT_SHARE:
        return None
    way = chance.choice((Way.UP, Way.DOWN))
    after = chance.randrange(2 * MIB) if way is Way.UP else chance.randrange(4000)
    kind = chance.choice((Harm.RST, Harm.FIN, Harm.STALL, Harm.DRIP))
    return Fault(kind, way, after, seconds=chance.uniform(0, 3), bytes_per_second=MIB)


def send_and_cancel(client: SteadyClient, file: Watched) -> dict[str, Any]:
    """A part, then a cancel, then the abort's end."""
    with suppress(Refused):
        client.put_part(file, 1, file.data[:MIB])
    return client.move(file, "cancel")


def send_with_a_pause(client: SteadyClient, file: Watched) -> dict[str, Any]:
    """A part, a pause, a restart, and the rest."""
    with suppress(Refused):
        client.put_part(file, 1, file.data[:MIB])
        client.move(file, "pause")
        client.move(file, "restart")
    return client.send_parts(file)


_WAYS: Final[Mapping[str, Callable[[SteadyClient, Watched], dict[str, Any]]]] = {
    "parts": SteadyClient.send_parts,
    "content": SteadyClient.send_content,
    "canceled": send_and_cancel,
    "paused": send_with_a_pause,
}


def storm(folder: Path, seconds: float, clients: int, seed: int, zeal: Zeal | None) -> Report:
    """One storm over a stack of its own, its files in *folder*."""
    with ExitStack() as stack:
        running = stack.enter_context(running_stack(folder, gateways=0))
        running.redis.command("CONFIG", "SET", "maxmemory", str(REDIS_MOST_BYTES))
        for _ in range(GATEWAYS):
            running.start_gateway(log_level="info", intent_seconds="5", **DEFAULTS)
        networks = [
            stack.enter_context(running_fault_proxy(gateway.port, seed + number))
            for number, gateway in enumerate(running.gateways)
        ]
        return Storm(running, networks, seed, zeal).run(seconds, clients)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.storm", description="Let everything fail at random.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--hostile", choices=ZEAL, default="full", help="how much the two hostile tenants do")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gw-storm-") as folder:
        print(storm(Path(folder), given.seconds, given.clients, given.seed, ZEAL[given.hostile]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

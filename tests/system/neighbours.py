"""The storm's hostile tenants and those whom they must not hurt: processes, what they found, and the verdict on it.

Every other turn the tenants are at work, so that with and without them are compared within one run on one machine.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final, NamedTuple

import httpx

from tests.system.cheap_calls import Call, Honest
from tests.system.hostile_process import Hostile, Turns
from tests.system.processes import ROOT, Gateway, Redis
from tests.system.stack import MIB, Hear, Stack, token

ROLES: Final = ("filler", "burster")
FORMULA_BYTES: Final = (96 + 2 * 256 + 32) * MIB
"""Of one process with the default budgets: README, "Capacity planning"."""
REDIS_MOST_BYTES: Final = 64 * MIB
"""Its maxmemory: so little that a share of it is full within seconds."""
SHARE_BYTES: Final = REDIS_MOST_BYTES // 16
UNFINISHED_BYTES: Final = 3 * SHARE_BYTES // 2
"""Of one subject's unfinished tasks: half a share, and one may take three times what it counts."""
HONEST_BYTES: Final = 12 * MIB
"""All the honest ones, and the server itself; measured without hostile tenants: 3 MiB in half a minute."""
REDIS_SHARES_BYTES: Final = 2 * SHARE_BYTES + len(ROLES) * UNFINISHED_BYTES + HONEST_BYTES
"""Only the filler leaves tails and what has ended."""
SETTLE_SECONDS: Final = 1.0
"""So long after a fault, or a turn of the hostile tenants, a call still belongs to it."""
FEWEST_CALLS: Final = 200
"""On either side; with fewer there is no 99th percentile to speak of."""
SLOWER_MOST: Final = 5.0
SLOWER_LEAST_SECONDS: Final = 0.4
"""The 99th percentile beside hostile tenants may be so many times that without, or so long. Measured on two cores whose
load was 8 to 13: 133 to 363 ms beside 19 to 108, and 61 beside 41 where there were none; before F2 was mended, seconds.
"""
SOMEWHERE: Final = -1
"""The gateway of a call that went to any of them."""
REFUSED_MOST_SHARE: Final = 0.01
UNAVAILABLE_MORE_SHARE: Final = 0.1
"""Of an uploading client's answers: so many more may be 503 in the turns of hostile tenants. COS fails in all turns
alike, but not equally often in each.
"""
_LOOK_SECONDS: Final = 0.25
_END_SECONDS: Final = 30.0


class Zeal(NamedTuple):
    """How much each hostile tenant does: requests a second, 0 for as fast as it is answered; the most of one burst."""

    per_second: float
    bodies: int


MODERATE: Final = Zeal(20, 60)
FULL: Final = Zeal(0, 200)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault that a cheap call may feel at one gateway, or at all (None), between two moments."""

    gateway: int | None
    began: float
    ended: float

    def meets(self, call: Call) -> bool:
        mine = self.gateway is None or call.gateway in (self.gateway, SOMEWHERE)
        return mine and call.began < self.ended + SETTLE_SECONDS and call.began + call.seconds > self.began


@dataclass
class Felt:
    """What the honest ones felt, and what the hostile ones did."""

    alone: list[float] = field(default_factory=list)
    """Sorted seconds of cheap calls outside of faults while no hostile tenant is at work, and then while they are."""
    beside: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Answers to honest callers by status and code, which others caused."""
    uploading: Counter[str] = field(default_factory=Counter)
    """Answers to uploading clients outside of faults but COS's: ``alone`` and ``beside``, and each by status, too:
    ``503 alone``."""
    failed: Counter[str] = field(default_factory=Counter)
    """Other answers to cheap calls outside of faults that were not as wanted."""
    answered: int = 0
    """Of honest calls."""
    deeds: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0
    redis_bytes: int = 0

    def __str__(self) -> str:
        deeds, answers, refused, failed = (
            ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"
            for counter in (self.deeds, self.answers, self.refused, self.failed)
        )
        longest = [1000 * max(calls, default=0.0) for calls in (self.alone, self.beside)]
        return (
            f"cheap calls: p99 {1000 * p99(self.alone):.0f} ms of {len(self.alone)} without hostile tenants, "
            f"{1000 * p99(self.beside):.0f} ms of {len(self.beside)} beside them; "
            f"median {1000 * median(self.alone):.1f} and {1000 * median(self.beside):.1f} ms, "
            f"longest {longest[0]:.0f} and {longest[1]:.0f} ms"
            f"{'' if self.are_enough else ' (too few to judge)'};\n"
            f"of {self.answered} honest calls refused for others' sake: {refused}; failed: {failed}; "
            f"503 to uploads: {self.unavailable('alone'):.1%} without, {self.unavailable('beside'):.1%} beside;\n"
            f"hostile: {deeds}; answers: {answers};\n"
            f"peaks: a gateway {self.peak_bytes / MIB:.0f} MiB, Redis {self.redis_bytes / MIB:.0f} MiB"
        )

    def unavailable(self, turn: str) -> float:
        """The share of answers to uploading clients that are 503 in ``alone`` or ``beside`` turns."""
        return self.uploading[f"503 {turn}"] / max(1, self.uploading[turn])

    @property
    def are_enough(self) -> bool:
        """Whether there are so many cheap calls outside of faults that their 99th percentiles are judged."""
        return min(len(self.alone), len(self.beside)) >= FEWEST_CALLS

    def judge(self) -> None:
        """Raises AssertionError when somebody honest was hurt, or memory went beyond what is documented."""
        if self.are_enough:
            most = max(SLOWER_MOST * p99(self.alone), SLOWER_LEAST_SECONDS)
            assert p99(self.beside) <= most, f"P30: cheap calls may take {most:.3f} s beside hostile tenants\n{self}"
        assert self.refused.total() <= REFUSED_MOST_SHARE * self.answered, f"P30: refused for others' sake\n{self}"
        if min(self.uploading["alone"], self.uploading["beside"]) >= FEWEST_CALLS:
            more = self.unavailable("beside") - self.unavailable("alone")
            assert more <= UNAVAILABLE_MORE_SHARE, f"P30: uploads are answered 503 for others' sake\n{self}"
        assert self.failed.total() <= REFUSED_MOST_SHARE * self.answered, f"P30: failed outside of faults\n{self}"
        unexpected = [answer for answer in self.answers if answer.startswith("500")]
        assert not unexpected, f"I12: a hostile tenant was answered {unexpected}\n{self}"
        assert self.peak_bytes <= FORMULA_BYTES, f"P21: more memory than README says\n{self}"
        assert self.redis_bytes <= REDIS_SHARES_BYTES, f"S5: more in Redis than {REDIS_SHARES_BYTES} bytes\n{self}"


def p99(seconds: Sequence[float]) -> float:
    """Of sorted *seconds*; 0 for none."""
    return seconds[len(seconds) * 99 // 100] if seconds else 0.0


def median(seconds: Sequence[float]) -> float:
    """Of sorted *seconds*; 0 for none."""
    return seconds[len(seconds) // 2] if seconds else 0.0


class Neighbours:
    """Everybody who is no uploading client of the storm.

    Args:
        stack: its Redis has ``REDIS_MOST_BYTES``.
        zeal: of the hostile tenants; None: there are none.
    """

    def __init__(self, stack: Stack, turns: Turns, seed: int, zeal: Zeal | None) -> None:
        self._stack = stack
        self._turns = turns
        self._ports = [gateway.port for gateway in stack.gateways]
        self._hostile = [
            Hostile(role, self._ports, token(f"hostile {role}", seconds=7200), turns, *zeal, seed)
            for role in ROLES
            if zeal
        ]
        self._disturbances: list[Disturbance] = []
        self._uploads: list[Call] = []
        self._over = threading.Event()
        self.felt = Felt()

    @contextmanager
    def around(self) -> Iterator[None]:
        """They live while the block runs, and end by themselves at the end of the turns; then they are counted."""
        bearers = [token(f"cheap {number}", seconds=7200) for number in range(20)]
        told = [asdict(Honest(self._ports, bearers, self._turns.end)), *map(asdict, self._hostile)]
        modules = ["cheap_calls", *["hostile_process"] * len(self._hostile)]
        processes = [_started(module, each) for module, each in zip(modules, told, strict=True)]
        watch = threading.Thread(target=self._watch)
        watch.start()
        self._stack.listen = self._listen
        try:
            yield
            calls, *tallies = [json.loads(process.communicate(timeout=_END_SECONDS)[0]) for process in processes]
            self._count([Call(*call) for call in calls], tallies)
        finally:
            self._over.set()
            for process in processes:
                process.kill()
                process.wait()
            watch.join()

    @contextmanager
    def disturbing(self, gateway: int | None = None) -> Iterator[None]:
        """A fault that cheap calls may feel at *gateway*, or everywhere, is at work."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._disturbances.append(Disturbance(gateway, began, time.monotonic()))

    def _listen(self, *_: object) -> Hear:
        return partial(self._hear, time.monotonic())

    def _hear(self, began: float, answer: httpx.Response) -> None:
        """An uploading client was answered."""
        code = ""
        if answer.status_code in (429, 503):
            with suppress(ValueError):
                code = str(answer.json().get("code"))
        self._uploads.append(Call(SOMEWHERE, began, time.monotonic() - began, answer.status_code, code))

    def _count(self, calls: Sequence[Call], tallies: Sequence[dict[str, dict[str, int]]]) -> None:
        felt = self.felt
        for call in (*calls, *self._uploads):
            felt.answered += call.status > 0
            if is_for_others(call.status, call.code):
                felt.refused[f"{call.status} {call.code}"] += 1
            elif not any(each.meets(call) for each in self._disturbances):
                self._count_undisturbed(call)
        felt.alone.sort()
        felt.beside.sort()
        for tally in tallies:
            felt.deeds.update(tally["deeds"])
            felt.answers.update(tally["answers"])

    def _count_undisturbed(self, call: Call) -> None:
        if self._turns.at_work(call.began):
            turn = "beside"
        elif self._turns.so_far(call.began) > SETTLE_SECONDS:
            turn = "alone"
        else:
            return
        if call.gateway == SOMEWHERE:
            self.felt.uploading.update([turn, f"{call.status} {turn}"])
            return
        if call.status not in (200, 201):
            self.felt.failed[f"{call.status} {call.code}".strip()] += 1
        {"alone": self.felt.alone, "beside": self.felt.beside}[turn].append(call.seconds)

    def _watch(self) -> None:
        """Look at everybody's memory until it is over."""
        while not self._over.wait(_LOOK_SECONDS):
            peaks = [_peak_bytes(gateway) for gateway in self._stack.gateways]
            self.felt.peak_bytes = max(self.felt.peak_bytes, *peaks)
            self.felt.redis_bytes = max(self.felt.redis_bytes, _used_bytes(self._stack.redis))


def is_for_others(status: int, code: str) -> bool:
    """Whether the answer says that too much is asked: of callers who ask for little, others did."""
    return status == 429 or (status == 503 and code == "overloaded")


def _started(module: str, told: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"tests.system.{module}"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.flush()
    return process


def _peak_bytes(gateway: Gateway) -> int:
    with suppress(OSError, IndexError):  # killed just now
        return gateway.program.peak_bytes
    return 0


def _used_bytes(redis: Redis) -> int:
    with suppress(OSError):
        return int(redis.text("INFO", "memory").partition("used_memory:")[2].split()[0])
    return 0

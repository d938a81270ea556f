"""The works that the bench measures; each returns rows of the table."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.doors import MIB, Door
from tests.bench.measure import Contender, Sample, interleaved, load, middle, run_load, timed
from tests.bench.nginx import find_nginx, nginx
from tests.bench.processes import NotStarted, Server
from tests.bench.stack import gateway, local_cos, redis_server, sink
from tests.bench.tus_server import find_node, tus_server

_SLOW_CLIENTS: Final = 500
_MARKED_PARTS: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: our figure, theirs (if any), what is compared, and the bound it should keep."""

    work: str
    against: str
    measured: str
    value: float
    bound: float
    at_most: bool

    @property
    def reached(self) -> bool:
        """Whether the value keeps its bound."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound


@dataclass(frozen=True, slots=True)
class Field:
    """The gateway and the comparators that could be started, all on one sink."""

    sink: Server
    ours: Contender
    others: list[Contender]


@contextmanager
def _field(folder: Path, *, with_nginx: bool = False, with_tus: bool = False) -> Iterator[Field]:
    with ExitStack() as stack:
        store = stack.enter_context(sink(folder))
        redis_at = stack.enter_context(redis_server(folder))
        ours = stack.enter_context(gateway(folder, redis_at, store.port))
        others = []
        program, node = find_nginx(), find_node()
        if with_nginx and program is None:
            print("  skipped: nginx is not installed, so nothing is compared with it")
        elif with_nginx and program:
            for name, buffer_bytes in (("nginx", 16 * 1024), ("nginx, 1 MiB buffers", MIB)):
                server = stack.enter_context(nginx(program, folder, store.port, buffer_bytes=buffer_bytes))
                others.append(Contender(name, Door.STORE, server))
        if with_tus and node is None:
            print("  skipped: node and npm are not installed, so nothing is compared with tus")
        elif with_tus and node:
            try:
                server = stack.enter_context(tus_server(node, folder, store.port))
                others.append(Contender("tus", Door.TUS, server))
            except NotStarted as reason:
                print(f"  skipped: the tus server did not start: {reason}")
        yield Field(store, Contender("gateway", Door.GATEWAY, ours.server, ours.token, ours.cos_port), others)


def parts(folder: Path, rounds: int) -> Iterator[Row]:
    """8 MiB parts over 2 connections, 384 MiB: the gateway's tasks against nginx passing PUTs on."""
    with _field(folder, with_nginx=True) as field:
        contenders = [field.ours, *field.others]
        for contender in contenders:
            run_load(contender, "parts", "--count", "8")
        samples = interleaved(contenders, field.sink, rounds, "parts")
    ours = samples.pop("gateway")
    work = "8 MiB parts, 2 connections, 384 MiB"
    for name, theirs in samples.items():
        yield _ratio(work, name, "throughput", _bulk(ours), _bulk(theirs), "GiB/s", 0.70, at_most=False)
        yield _ratio(work, name, "CPU", _bulk_cpu(ours), _bulk_cpu(theirs), "CPU-s/GiB", 2.8, at_most=True)


def file(folder: Path, rounds: int) -> Iterator[Row]:
    """A form post of one 256 MiB file: against nginx passing the same bytes on, and against tus."""
    with _field(folder, with_nginx=True, with_tus=True) as field:
        contenders = [field.ours, *field.others]
        for contender in contenders:
            run_load(contender, "file", "--size", str(64 * MIB))
        samples = interleaved(contenders, field.sink, rounds, "file")
    ours = samples.pop("gateway")
    for name, theirs in samples.items():
        bound = 5.0 if name == "tus" else 0.45
        yield _ratio(
            "form post of 256 MiB", name, "throughput", _bulk(ours), _bulk(theirs), "GiB/s", bound, at_most=False
        )


def small(folder: Path, rounds: int) -> Iterator[Row]:
    """16 KiB form uploads over 16 connections: CPU each, and uploads a second against tus."""
    work = "16 KiB form uploads, 16 connections"
    arguments = ("small", "--connections", "16")
    with _field(folder, with_tus=True) as field:
        contenders = [field.ours, *field.others]
        for contender in contenders:
            run_load(contender, *arguments, "--seconds", "3")
        samples = interleaved(contenders, field.sink, rounds, *arguments, "--seconds", "5")
    ours = samples.pop("gateway")
    each = middle(ours, lambda one: one.cpu_ms_each)
    rate = middle(ours, lambda one: one.count_per_second)
    yield Row(work, "–", f"{each:.2f} CPU ms each", each, 1.8, at_most=True)
    for name, theirs in samples.items():
        their_rate = middle(theirs, lambda one: one.count_per_second)
        yield _ratio(work, name, "uploads", rate, their_rate, "/s", 6.0, at_most=False)


def sdk(folder: Path, rounds: int) -> Iterator[Row]:
    """256 MiB by cos-python-sdk-v5, 1 MiB parts over five threads: through the COS door, and straight to the store."""
    for store, start in (("the local COS", local_cos), ("the sink", sink)):
        seconds: dict[str, list[float]] = {"through the gateway": [], "straight": []}
        with ExitStack() as stack:
            server = stack.enter_context(start(folder))
            ours = stack.enter_context(gateway(folder, stack.enter_context(redis_server(folder)), server.port))
            doors = {
                "through the gateway": Contender("gateway", Door.GATEWAY, ours.server, ours.token, ours.cos_port),
                "straight": Contender("straight", Door.STORE, server),
            }
            for contender in doors.values():
                run_load(contender, "sdk", "--size", str(32 * MIB))
            for number in range(1, rounds + 1):
                for way, contender in doors.items():
                    one = timed(contender, "sdk")
                    seconds[way].append(one.seconds)
                    print(f"  sdk, {store}, round {number}, {way}: {one.seconds:.2f} s; {one}", flush=True)
        work, (through, straight) = f"256 MiB by cos-python-sdk-v5 to {store}", map(median, seconds.values())
        yield _ratio(work, "the SDK straight to it", "time", through, straight, "s", 1.35, at_most=True)


def slow(folder: Path, rounds: int) -> Iterator[Row]:
    """500 clients that hold half a 4 MiB part each: the gateway's memory, and how fast it still answers."""
    growth: list[float] = []
    p99: list[float] = []
    for number in range(1, rounds + 1):
        # A fresh gateway each time: memory that an earlier round left behind would hide this one's.
        with _field(folder) as field:
            arguments = ("--count", str(_SLOW_CLIENTS), "--part-size", str(4 * MIB))
            with load("slow", *field.ours.arguments, *arguments) as clients:
                clients.next_line()
                before = field.ours.server.resident_bytes()
                clients.go_on()
                clients.next_line()
                growth.append((field.ours.server.resident_bytes() - before) / _SLOW_CLIENTS / MIB)
                clients.go_on()
                figures = clients.next_line()
        p99.append(figures["p99_ms"])
        print(
            f"  slow, round {number}: {growth[-1]:.3f} MiB each; {figures['questions']} questions, p50 "
            f"{figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms, longest {figures['max_ms']:.1f} ms",
            flush=True,
        )
    work = f"{_SLOW_CLIENTS} slow clients, half a 4 MiB part each"
    yield Row(work, "–", f"{median(growth):.2f} MiB of memory each", median(growth), 0.75, at_most=True)
    yield Row(work, "–", f"status p99 {median(p99):.1f} ms", median(p99), 50, at_most=True)


def doors(folder: Path, rounds: int) -> Iterator[Row]:
    """What the COS door and the questions cost: a part against REST's, a key, a list of 1,000 uploads."""
    with _field(folder) as field:
        parts_of = {"rest": "parts", "cos": "cos_parts"}
        sized = ("--part-size", str(MIB), "--count", "256")
        costs: dict[str, list[Sample]] = {door: [] for door in parts_of}
        for name in parts_of.values():
            run_load(field.ours, name, "--part-size", str(MIB), "--count", "32")
        for _ in range(rounds):
            for door, name in parts_of.items():
                costs[door] += interleaved([field.ours], field.sink, 1, name, *sized)["gateway"]
        cos, rest = (middle(costs[door], lambda one: one.cpu_ms_each) for door in ("cos", "rest"))
        yield _ratio("1 MiB part at the COS door", "the same by REST", "CPU", cos, rest, "ms", 1.15, at_most=True)
        issued = [timed(field.ours, "keys", "--count", "1000") for _ in range(rounds)]
        each = middle(issued, lambda one: one.cpu_ms_each)
        yield Row("POST /v1/keys", "–", f"{each:.2f} CPU ms each", each, 1.0, at_most=True)
        listed = [timed(field.ours, "listing", "--count", "1000").seconds * 1000 for _ in range(rounds)]
        yield Row("list of 1,000 uploads", "–", f"{median(listed):.0f} ms", median(listed), 50, at_most=True)


def window(folder: Path, rounds: int) -> Iterator[Row]:
    """One stream of 256 MiB to a store that answers each part 80 ms late: the default window against one part."""
    with ExitStack() as stack:
        store = stack.enter_context(sink(folder, part_delay_ms=80))
        redis_at = stack.enter_context(redis_server(folder))
        ours = stack.enter_context(gateway(folder, redis_at, store.port))
        contender = Contender("gateway", Door.GATEWAY, ours.server, ours.token)
        default: list[Sample] = []
        single: list[Sample] = []
        run_load(contender, "stream", "--size", str(32 * MIB))
        for _ in range(rounds):
            default += interleaved([contender], store, 1, "stream")["gateway"]
            single += interleaved([contender], store, 1, "stream", "--async-limit", "1")["gateway"]
    work = "one stream of 256 MiB, store 80 ms late"
    yield _ratio(work, "one part in flight", "throughput", _bulk(default), _bulk(single), "GiB/s", 2.0, at_most=False)


def watch(folder: Path, rounds: int) -> Iterator[Row]:
    """50 tasks whose parts come in, each watched by 20 websockets: parts a second against those without any."""
    subjects, watchers, seconds = 50, 20, 10
    arguments = ("--count", str(subjects), "--connections", str(watchers), "--seconds", str(seconds))
    figures: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        with _field(folder) as field:  # a fresh gateway each time, for its memory's sake
            server = field.ours.server
            memory: list[int] = []
            cpu_seconds: list[float] = []
            with load("watch", *field.ours.arguments, *arguments) as running:
                for _ in ("created", "alone", "watched", "sent"):
                    running.next_line()
                    memory.append(server.resident_bytes())
                    cpu_seconds.append(server.cpu_seconds())
                    running.go_on()
                one = running.next_line()
        of_a_part = (cpu_seconds[1] - cpu_seconds[0]) / one["alone"]
        of_messages = cpu_seconds[3] - cpu_seconds[2] - of_a_part * one["watched"]
        one["cpu_ms"] = max(0.0, of_messages) / seconds / one["messages"] * 1000
        one["busy alone"] = (cpu_seconds[1] - cpu_seconds[0]) / seconds
        one["busy watched"] = (cpu_seconds[3] - cpu_seconds[2]) / seconds
        one["kib"] = (memory[3] - memory[1]) / (subjects * watchers) / 1024
        figures.append(one)
        print(f"  watch, round {number}: {', '.join(f'{name} {value:.3g}' for name, value in one.items())}", flush=True)
    work = f"{subjects * watchers} websockets, {subjects} tasks move"
    alone, watched, cpu, kib, longest, lost = (
        median(one[name] for one in figures) for name in ("alone", "watched", "cpu_ms", "kib", "max_ms", "lost")
    )
    yield _ratio(work, "nobody watches", "parts", watched, alone, "/s", 0.8, at_most=False)
    yield Row(work, "–", f"{cpu:.3f} CPU ms a message", cpu, 0.1, at_most=True)
    yield Row(work, "–", f"{kib:.0f} KiB of memory each", kib, 60, at_most=True)
    yield Row(work, "–", f"status at most {longest:.0f} ms", longest, 150, at_most=True)
    yield Row(work, "–", f"{lost:.0f} not told of the last state", lost, 0, at_most=True)


def redis(folder: Path, rounds: int) -> Iterator[Row]:
    """What Redis writes for each of the last 100 parts of a 10,000-part task, and of a 100-part one."""
    written: dict[int, list[tuple[float, float]]] = {100: [], 10_000: []}
    with ExitStack() as stack:
        store = stack.enter_context(sink(folder))
        redis_at = stack.enter_context(redis_server(folder))
        ours = stack.enter_context(gateway(folder, redis_at, store.port))
        contender = Contender("gateway", Door.GATEWAY, ours.server, ours.token)
        for number in range(1, rounds + 1):
            for count, figures in written.items():
                arguments = ("--part-size", str(MIB), "--count", str(count), "--mark", str(_MARKED_PARTS))
                with load("parts", *contender.arguments, *arguments) as running:
                    running.next_line()
                    file_before, sent_before = redis_at.written()
                    running.go_on()
                    running.next_line()
                    file_after, sent_after = redis_at.written()
                    running.go_on()
                    running.next_line()
                in_file, sent = (file_after - file_before) / _MARKED_PARTS, (sent_after - sent_before) / _MARKED_PARTS
                figures.append((in_file, sent))
                print(
                    f"  redis, round {number}, {count} parts: each part writes {in_file:.0f} bytes to the append-only "
                    f"file and sends {sent:.0f} bytes to Redis",
                    flush=True,
                )
    for index, what in enumerate(("append-only file", "sent to Redis")):
        many, few = (median(figure[index] for figure in written[count]) for count in (10_000, 100))
        yield _ratio("10,000-part task", "100-part task", what, many, few, "bytes a part", 1.5, at_most=True)


def _ratio(
    work: str, against: str, what: str, ours: float, theirs: float, unit: str, bound: float, *, at_most: bool
) -> Row:
    places = 0 if min(ours, theirs) >= 10 else 2
    measured = f"{what}: {ours:.{places}f} against {theirs:.{places}f} {unit}"
    return Row(work, against, measured, ours / theirs, bound, at_most)


def _bulk(samples: list[Sample]) -> float:
    return middle(samples, lambda one: one.gib_per_second)


def _bulk_cpu(samples: list[Sample]) -> float:
    return middle(samples, lambda one: one.cpu_seconds_per_gib)


SCENARIOS: Final = {
    "parts": parts,
    "file": file,
    "small": small,
    "sdk": sdk,
    "doors": doors,
    "slow": slow,
    "window": window,
    "watch": watch,
    "redis": redis,
}

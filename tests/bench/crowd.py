"""The crowd bench: many of one thing at the same moment, how long they take, and what somebody else feels meanwhile.

    .venv/bin/python -m tests.bench.crowd [--only forms batches completions cancels list parts]

``forms``: 2,000 files of 16 KiB over as many connections. ``batches``: ten of 1,000 files. ``completions``: 200 tasks
of two parts. ``cancels``: 300 tasks of ten parts. ``list``: 200 pages of a caller's 99,000 tasks. ``parts``: twenty
lists of the parts of one task that has 10,000. It prints one table and asserts nothing.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.bench.burst import asking
from tests.bench.doors import KIB, MIB, Door, random_bytes, whole_upload
from tests.bench.load_watch import exchange
from tests.bench.run import allow_many_connections
from tests.bench.stack import Gateway, gateway, redis_server, sink

_FORMS: Final = 2_000
_FILES_PER_BATCH: Final = 1_000
_LISTED: Final = 99_000
_PARTS: Final = 10_000
_AT_ONCE: Final = 50
_SETTLED_SECONDS: Final = 0.5
_SETTINGS: Final = {"GATEWAY_BODIES_PER_SUBJECT_COUNT": "2000"}

Request = tuple[str, str, bytes]
"""Method, path, and the JSON or bytes that go with it."""


@dataclass(frozen=True, slots=True)
class Came:
    """What became of a crowd: answers by status, and seconds from the first request to the last answer."""

    statuses: Counter[str]
    seconds: float

    def __str__(self) -> str:
        return ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))


class Line:
    """One connection to the gateway, kept alive."""

    def __init__(self, ours: Gateway) -> None:
        self._ours = ours
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> "Line":
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._ours.server.port)
        return self

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def send(self, head: bytes, body: bytes) -> tuple[str, bytes]:
        """The status of the answer, or ``broken``, and its body."""
        try:
            return await exchange(self._reader, self._writer, head, body)
        except OSError:
            return "broken", b""

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[str, bytes]:
        """The same for a *body* of JSON, or of bytes where the method is PUT."""
        kind = "Content-Type: application/json\r\n" if body and method == "POST" else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._ours.token}\r\n{kind}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return await self.send(head.encode(), body)


class Crowd:
    """The callers of one gateway. Each kind is prepared first; what it returns is then done at one moment."""

    def __init__(self, ours: Gateway) -> None:
        self._ours = ours

    async def forms(self) -> Callable[[], Awaitable[Came]]:
        """Small files over a connection each."""
        sends = []
        for number in range(_FORMS):
            upload = whole_upload(Door.GATEWAY, f"crowd/{number}", 16 * KIB, self._ours.token)
            names = {"Host": "127.0.0.1", **upload.headers}
            said = "".join(f"{name}: {value}\r\n" for name, value in names.items())
            head = f"{upload.method} {upload.target} HTTP/1.1\r\n{said}\r\n".encode()
            sends.append((head, upload.before + random_bytes(16 * KIB) + upload.after))

        async def post(head: bytes, body: bytes) -> tuple[str, bytes]:
            line = await Line(self._ours).open()
            return await line.send(head, body)

        return lambda: _timed(post(head, body) for head, body in sends)

    async def batches(self) -> Callable[[], Awaitable[Came]]:
        """Batches at once, over a connection each."""
        return await self._each(("POST", "/v1/batches", _batch(f"crowd/{number}")) for number in range(10))

    async def completions(self) -> Callable[[], Awaitable[Came]]:
        """Tasks whose parts are all there."""
        tasks = await self._tasks(200, parts=2)
        return await self._each(("POST", f"/v1/tasks/{task}/complete", b"") for task in tasks)

    async def cancels(self) -> Callable[[], Awaitable[Came]]:
        """Tasks of which COS holds parts."""
        tasks = await self._tasks(300, parts=10)
        return await self._each(("POST", f"/v1/tasks/{task}/cancel", b"") for task in tasks)

    async def long_list(self) -> Callable[[], Awaitable[Came]]:
        """Pages of a long list, one after another."""
        made = [("POST", "/v1/batches", _batch(f"long/{n}")) for n in range(_LISTED // _FILES_PER_BATCH)]
        await self._in_turn(made, at_once=4)
        [line] = await self._lines(1)

        async def pages() -> Came:
            began, statuses, cursor = time.perf_counter(), Counter[str](), ""
            for _ in range(200):
                status, body = await line.ask("GET", f"/v1/tasks?limit=100{cursor}")
                statuses[status] += 1
                cursor = f"&cursor={json.loads(body)['next_cursor']}"
            return Came(statuses, time.perf_counter() - began)

        return pages

    async def parts(self) -> Callable[[], Awaitable[Came]]:
        """All parts of a large file, again and again."""
        [task] = await self._tasks(1, parts=_PARTS)
        [line] = await self._lines(1)

        async def lists() -> Came:
            began, statuses = time.perf_counter(), Counter[str]()
            for _ in range(20):
                status, _ = await line.ask("GET", f"/v1/tasks/{task}/parts")
                statuses[status] += 1
            return Came(statuses, time.perf_counter() - began)

        return lists

    async def _lines(self, count: int) -> list[Line]:
        return [await Line(self._ours).open() for _ in range(count)]

    async def _each(self, requests: Iterable[Request]) -> Callable[[], Awaitable[Came]]:
        """Each request over a connection of its own, all at once."""
        wanted = list(requests)
        lines = await self._lines(len(wanted))
        return lambda: _timed(line.ask(*request) for line, request in zip(lines, wanted, strict=True))

    async def _in_turn(self, requests: Sequence[Request], at_once: int = _AT_ONCE) -> list[bytes]:
        """The answers to *requests*, which must be successes, over a few connections."""
        waiting = iter(enumerate(requests))
        answers: dict[int, bytes] = {}

        async def work() -> None:
            line = await Line(self._ours).open()
            for index, request in waiting:
                status, answers[index] = await line.ask(*request)
                if not status.startswith("2"):
                    raise ConnectionError(f"{request[:2]} was answered {status} {answers[index][:300]!r}")
            line.close()

        await asyncio.gather(*(work() for _ in range(min(at_once, len(requests)))))
        return [answers[index] for index in range(len(requests))]

    async def _tasks(self, count: int, *, parts: int) -> Sequence[str]:
        """Tasks with all their *parts* of 1 MiB stored."""
        size = parts * MIB
        said = [
            json.dumps({"key": f"crowd/{parts}/{n}", "size": size, "part_size": MIB}).encode() for n in range(count)
        ]
        made = await self._in_turn([("POST", "/v1/tasks", body) for body in said])
        tasks = [str(json.loads(answer)["id"]) for answer in made]
        body = random_bytes(MIB)
        puts = [("PUT", f"/v1/tasks/{task}/parts/{n}", body) for task in tasks for n in range(1, parts + 1)]
        await self._in_turn(puts)
        return tasks

    async def watched(self) -> str:
        """A task whose state somebody asks for."""
        return (await self._tasks(1, parts=1))[0]


def _batch(prefix: str) -> bytes:
    return json.dumps({"files": [{"key": f"{prefix}/{n}", "size": MIB} for n in range(_FILES_PER_BATCH)]}).encode()


async def _timed(sends: Iterable[Awaitable[tuple[str, bytes]]]) -> Came:
    began = time.perf_counter()
    answers = await asyncio.gather(*sends)
    return Came(Counter(status for status, _ in answers), time.perf_counter() - began)


KINDS: Final[dict[str, Callable[[Crowd], Awaitable[Callable[[], Awaitable[Came]]]]]] = {
    "forms": Crowd.forms,
    "batches": Crowd.batches,
    "completions": Crowd.completions,
    "cancels": Crowd.cancels,
    "list": Crowd.long_list,
    "parts": Crowd.parts,
}


def row(kind: str) -> str:
    """One row of the table, from a gateway of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crowd-")))
        store = stack.enter_context(sink(folder))
        redis_at = stack.enter_context(redis_server(folder))
        ours = stack.enter_context(gateway(folder, redis_at, store.port, settings=_SETTINGS))

        async def measured() -> tuple[Came, Any]:
            crowd = Crowd(ours)
            task = await crowd.watched()
            act = await KINDS[kind](crowd)
            with asking(ours, task) as felt:
                await asyncio.sleep(_SETTLED_SECONDS)
                came = await act()
                return came, felt()

        came, felt = uvloop.run(measured())
        return f"| {kind} | {came} | {came.seconds:.2f} | {felt} |"


def main() -> int:
    """Run the chosen rows and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    arguments = parser.parse_args()
    allow_many_connections()
    print("| what | answers | s | /livez p99 / max ms | status p99 / max ms |\n|---|---|---|---|---|", flush=True)
    for kind in arguments.only:
        print(row(kind), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

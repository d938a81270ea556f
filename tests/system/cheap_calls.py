"""A process that is an honest client with cheap calls only: it looks at a task, creates one now and then, and times it.

python -m tests.system.cheap_calls    (a ``Honest`` as JSON on stdin; prints its ``Call`` list as JSON)
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

PAUSE_SECONDS: Final = 0.03
CREATE_EACH: Final = 5
"""Of so many calls one creates a task; the others look at the latest."""
CREATES_OF_ONE: Final = 500
"""Then another person goes on, so that nobody's own quota refuses them."""
PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Honest:
    """Whom to ask, as whom, and until when on the monotonic clock."""

    ports: Sequence[int]
    bearers: Sequence[str]
    end: float


class Call(NamedTuple):
    """One call to a gateway: when it began, how long it took, and its answer's status (0: none came) and code."""

    gateway: int
    began: float
    seconds: float
    status: int
    code: str


class _Asking:
    """One connection after the other to one gateway."""

    def __init__(self, honest: Honest, gateway: int, calls: list[Call]) -> None:
        self._honest = honest
        self._gateway = gateway
        self._calls = calls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._task = ""
        self._created = 0

    async def run(self) -> None:
        """Ask until the end."""
        serial = 0
        while time.monotonic() < self._honest.end:
            serial += 1
            if not self._task or serial % CREATE_EACH == 0:
                await self._create()
            else:
                status, _ = await self._ask("GET", f"/v1/tasks/{self._task}")
                if status == 404:  # Redis was emptied
                    self._task = ""
            await asyncio.sleep(PAUSE_SECONDS)

    async def _create(self) -> None:
        self._created += 1
        told = {"key": f"cheap/{self._gateway}/{self._created}", "size": 1}
        status, document = await self._ask("POST", "/v1/tasks", json.dumps(told))
        if status == 201:
            self._task = str(document["id"])

    async def _ask(self, method: str, path: str, body: str = "") -> tuple[int, dict[str, object]]:
        """The answer's status and document, once it is written down."""
        began = time.monotonic()
        status = 0
        document: dict[str, object] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status, document = await self._exchange(method, path, body)
        except (OSError, EOFError, TimeoutError):
            self._hang_up()
        code = str(document.get("code", "")) if status >= 400 else ""
        self._calls.append(Call(self._gateway, began, time.monotonic() - began, status, code))
        return status, document

    async def _exchange(self, method: str, path: str, body: str) -> tuple[int, dict[str, object]]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._honest.ports[self._gateway])
        reader, writer = self._streams
        bearer = self._honest.bearers[self._created // CREATES_OF_ONE % len(self._honest.bearers)]
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n"
        if method == "POST":
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}\r\n{body}".encode())
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        document: dict[str, object] = json.loads(await reader.readexactly(length))
        if b"connection: close" in lines:
            self._hang_up()
        return int(lines[0].split()[1]), document

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def ask(honest: Honest) -> list[Call]:
    """All calls until the end, one after the other at each gateway."""
    calls: list[Call] = []
    await asyncio.gather(*(_Asking(honest, gateway, calls).run() for gateway in range(len(honest.ports))))
    return calls


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(asyncio.run(ask(Honest(**json.loads(sys.stdin.readline()))))))

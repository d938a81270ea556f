"""Slow clients that each hold a part half sent, while somebody asks for the tasks' states."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import uvloop

from tests.bench.doors import KIB, random_bytes
from tests.bench.load_small import is_whole

_STEP_BYTES: Final = 64 * KIB
_RAMP_SECONDS: Final = 10.0
_HOLD_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 0.01


def hold_slow_clients(
    port: int, token: str, tasks: Sequence[str], part_bytes: int, *, held: Callable[[], None]
) -> dict[str, Any]:
    """Send half of each task's part over 10 seconds, hold for 5, call *held*, and hang up.

    Returns the latencies, in milliseconds, of status questions asked every 10 ms all the while.
    """
    return uvloop.run(_hold(port, token, tasks, part_bytes, held))


async def _hold(
    port: int, token: str, tasks: Sequence[str], part_bytes: int, held: Callable[[], None]
) -> dict[str, Any]:
    latencies: list[float] = []
    asking = asyncio.create_task(ask_for_states(port, token, tasks, latencies))
    clients = [
        asyncio.create_task(_send_half(port, token, task, part_bytes, start=index / len(tasks)))
        for index, task in enumerate(tasks)
    ]
    writers = await asyncio.gather(*clients)
    await asyncio.sleep(_HOLD_SECONDS)
    if asking.done():
        asking.result()
    asking.cancel()
    held()
    for writer in writers:
        writer.transport.abort()
    latencies.sort()
    return {
        "count": len(writers),
        "questions": len(latencies),
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "max_ms": latencies[-1] * 1000,
    }


async def _send_half(port: int, token: str, task: str, part_bytes: int, *, start: float) -> asyncio.StreamWriter:
    """Open a part's request and send half of it in steps spread over the ramp; the connection stays open.

    *start* (0–1) is when in the first step it begins, so that the clients do not all send at once.
    """
    steps = part_bytes // 2 // _STEP_BYTES
    step_seconds = _RAMP_SECONDS / steps
    await asyncio.sleep(start * step_seconds)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"PUT /v1/tasks/{task}/parts/1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {part_bytes}\r\n\r\n".encode()
    )
    body = memoryview(random_bytes(part_bytes))
    early_answer = asyncio.create_task(reader.read(600))
    for step in range(steps):
        writer.write(bytes(body[step * _STEP_BYTES : (step + 1) * _STEP_BYTES]))
        await writer.drain()
        await asyncio.sleep(step_seconds)
        if early_answer.done():
            raise ConnectionError(f"a slow client was answered early: {early_answer.result()!r}")
    early_answer.cancel()
    return writer


async def ask_for_states(port: int, token: str, tasks: Sequence[str], latencies: list[float]) -> None:
    """Ask for one task after another and note how long each answer took, in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for task in itertools.cycle(tasks):
        started = time.perf_counter()
        writer.write(
            f"GET /v1/tasks/{task} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        answer = b""
        while not is_whole(answer):
            data = await reader.read(65536)
            if not data:
                raise ConnectionError("the server closed the connection that asks")
            answer += data
        latencies.append(time.perf_counter() - started)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"the question was answered {answer[:600]!r}")
        await asyncio.sleep(_ASK_SECONDS)

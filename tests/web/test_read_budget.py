"""Pieces shrink while much is held, sockets take turns, and a turn is short however many of them are ready."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.web.edge_connections import EdgeConnections
from gateway.web.read_budget import LARGEST_PIECE_BYTES, SHARED_BYTES, SMALLEST_PIECE_BYTES, ReadBudget
from tests.web.edge import SECONDS, Wire, answer, echo, read_body, refuse, running_edge

POST: Final = b"POST / HTTP/1.1\r\nHost: gateway\r\n"
BODY: Final = bytes(300_000)


class Ready:
    """A socket that always has more to read; it writes down in which turn it read."""

    def __init__(self, budget: ReadBudget, turns: "Turns") -> None:
        self._budget = budget
        self._turns = turns
        self.read_bytes = 0

    def look(self) -> None:
        if self._budget.may_read(self):
            self.read_in_turn()

    def read_in_turn(self) -> None:
        size = self._budget.piece_bytes
        self.read_bytes += size
        self._turns.bytes[self._turns.now] += size
        self._budget.spend(size)
        asyncio.get_running_loop().call_soon(self.look)


class Turns:
    """Counts the turns of the loop, and what was read in each."""

    def __init__(self) -> None:
        self.now = 0
        self.bytes: Counter[int] = Counter()

    async def pass_by(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
            self.now += 1


@pytest.mark.parametrize("sockets", [1, 2, 40, 700])
async def test_f1_a_turn_reads_its_bytes_and_a_piece_more_however_many_sockets_are_ready(sockets: int) -> None:
    budget, turns = ReadBudget(turn_bytes=1 << 20), Turns()
    ready = [Ready(budget, turns) for _ in range(sockets)]
    for one in ready:
        one.look()
    await turns.pass_by(2 * sockets + 50)

    # A turn of ours and one of the loop's counter may overlap.
    assert max(turns.bytes.values()) <= 2 * (1 << 20) + 2 * LARGEST_PIECE_BYTES
    assert min(one.read_bytes for one in ready) > 0


async def test_f1_ready_sockets_get_the_same_share() -> None:
    budget, turns = ReadBudget(turn_bytes=10 * LARGEST_PIECE_BYTES), Turns()
    ready = [Ready(budget, turns) for _ in range(95)]
    for one in ready:
        one.look()
    await turns.pass_by(500)

    shares = [one.read_bytes for one in ready]
    assert max(shares) - min(shares) <= LARGEST_PIECE_BYTES


def test_f1_pieces_are_large_for_a_few_and_small_once_much_is_held() -> None:
    budget = ReadBudget()
    sizes = []
    for _ in range(1000):
        sizes.append(budget.piece_bytes)
        budget.hold(sizes[-1])

    assert sizes[:4] == [LARGEST_PIECE_BYTES] * 4
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == SMALLEST_PIECE_BYTES, "nobody starves, whatever the others hold"
    assert budget.held_bytes <= SHARED_BYTES + 1000 * SMALLEST_PIECE_BYTES

    budget.hold(-budget.held_bytes)
    assert budget.piece_bytes == LARGEST_PIECE_BYTES


async def read_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise RuntimeError("a defect")


async def read_half(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await answer(send)


async def leave(wire: Wire) -> None:
    wire.writer.transport.abort()


async def hear(wire: Wire) -> None:
    with suppress(ConnectionError):
        await wire.reader.read(1)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize(
    ("app", "sent", "end"),
    [
        pytest.param(echo, 1.0, hear, id="answered"),
        pytest.param(refuse, 1.0, hear, id="refused unread"),
        pytest.param(read_half, 0.7, hear, id="answered early"),
        pytest.param(read_nothing, 0.7, hear, id="a defect"),
        pytest.param(echo, 0.7, leave, id="left by the client"),
    ],
)
async def test_f1_however_a_request_ends_nothing_stays_held(
    app: ASGIApp, sent: float, end: Callable[[Wire], Awaitable[None]], chunked: bool
) -> None:
    edge, most = EdgeConnections(), 0
    begun, over = asyncio.Event(), asyncio.Event()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def receiving() -> Message:
            nonlocal most
            message = await receive()
            most = max(most, edge.reads.held_bytes)
            begun.set()
            return message

        try:
            await app(scope, receiving, send)
        finally:
            asyncio.get_running_loop().call_soon(over.set)
            begun.set()

    body = BODY[: int(sent * len(BODY))]
    framing = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % len(BODY)
    async with running_edge(watched, edge=edge) as server, asyncio.timeout(SECONDS):
        wire = await server.connect()
        await wire.send(POST + framing, b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
        if sent == 1.0 and chunked:
            await wire.send(b"0\r\n\r\n")
        await begun.wait()
        await end(wire)
        await over.wait()

        assert edge.reads.held_bytes == 0
    assert most > 0 or app is refuse


async def test_f1_before_the_application_asks_a_body_has_one_small_piece_here() -> None:
    edge, asked, go = EdgeConnections(), asyncio.Event(), asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await go.wait()
        await answer(send, b"%d" % len(await read_body(receive)))

    async with running_edge(late, edge=edge) as server:
        wire = await server.connect()
        sending = asyncio.create_task(wire.send(POST + b"Content-Length: %d\r\n\r\n" % len(BODY), BODY))
        await asked.wait()
        for _ in range(20):  # the loop looks at its sockets each time
            await asyncio.sleep(0)
        held = edge.reads.held_bytes
        go.set()
        await sending
        told = await wire.answer()

    assert 0 < held <= 32 * 1024
    assert told.body == b"%d" % len(BODY)

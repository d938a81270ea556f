"""What a connection holds for somebody who is not known: heads that do not end, requests in a row, small answers."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway.transfer.memory_budget import MemoryBudget
from gateway.web.edge_connections import EdgeConnections
from tests.web.edge import answer, running_edge

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


def edge_of(limit_bytes: int) -> EdgeConnections:
    edge = EdgeConnections()
    edge.memory = MemoryBudget(limit_bytes)
    return edge


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 -- the budget tells nobody
            await asyncio.sleep(0.001)


async def quick(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"a" * 8000)


async def test_s3_a_head_that_has_not_ended_is_held_until_it_has() -> None:
    edge = edge_of(100_000)
    async with running_edge(quick, edge=edge) as server:
        wire = await server.connect()
        await wire.send(HEAD + b"X-Long: " + b"a" * 4000)
        await until(lambda: edge.memory.used_bytes > 4000)
        await wire.send(b"\r\n\r\n")
        assert (await wire.answer()).status == 200
        assert edge.memory.used_bytes == 0


async def test_s3_without_memory_for_a_head_it_is_refused() -> None:
    edge = edge_of(5000)
    async with running_edge(quick, edge=edge) as server:
        wire = await server.connect()
        await wire.send(HEAD + b"X-Long: " + b"a" * 4000)
        assert (await wire.answer()).status == 503
    await until(lambda: edge.memory.used_bytes == 0)


async def test_s3_of_one_address_all_heads_together_hold_a_share() -> None:
    edge = edge_of(100_000)
    async with running_edge(quick, edge=edge) as server:
        wires = [await server.connect() for _ in range(12)]
        for wire in wires:
            with suppress(ConnectionError):
                await wire.send(HEAD + b"X-Long: " + b"a" * 3000)
        await until(lambda: edge.memory.used_bytes > 60_000)
        assert edge.memory.used_bytes <= 75_000


async def test_s3_what_comes_behind_a_request_under_way_is_held() -> None:
    edge, go_on = edge_of(1 << 20), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await answer(send)

    async with running_edge(slow, edge=edge) as server:
        wire = await server.connect()
        await wire.send(HEAD + b"\r\n")
        await asyncio.sleep(0.05)
        await wire.send((HEAD + b"\r\n") * 100)
        await until(lambda: edge.memory.used_bytes >= 2000)
        go_on.set()
        for _ in range(101):
            assert (await wire.answer()).status == 200
        assert edge.memory.used_bytes == 0


@pytest.mark.parametrize(("limit", "is_cut"), [(1 << 20, False), (4000, True)])
async def test_s6_a_small_answer_that_is_not_taken_is_held_and_cut_off_without_memory(
    limit: int, *, is_cut: bool
) -> None:
    edge = edge_of(limit)
    async with running_edge(quick, edge=edge, buffer_bytes=4096) as server:
        wire = await server.connect(buffer_bytes=4096)
        await wire.send((HEAD + b"\r\n") * 90)  # the client stops reading by itself
        await until(lambda: len(edge) == 0 if is_cut else edge.memory.used_bytes > 4000)
    await until(lambda: edge.memory.used_bytes == 0)

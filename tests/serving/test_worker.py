"""The worker as a process is shown by tests/system/test_workers.py; here, what it makes of the parent's word."""

import asyncio
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from gateway.serving.server import Server
from gateway.serving.worker import BEAT, DRAIN, RETIRE, Channel


class Orders:
    """A server that notes what it is told."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    def drain(self) -> None:
        self.heard.put_nowait("drain")

    def retire(self) -> None:
        self.heard.put_nowait("retire")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The parent's end and the worker's."""
    parent, worker = socket.socketpair()
    with parent, worker:
        yield parent, worker


@pytest.mark.parametrize(("word", "order"), [(DRAIN, "drain"), (RETIRE, "retire"), (b"", "retire")])
async def test_the_parents_word_is_done_and_its_silence_for_ever_means_retire(
    word: bytes, order: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    parent, worker = ends
    server = Orders()
    Channel(worker).attach(cast(Server, server))
    assert parent.recv(1) == BEAT, "it takes connections"

    if word:
        parent.send(word)
    else:
        parent.close()

    async with asyncio.timeout(5):
        assert await server.heard.get() == order
    asyncio.get_running_loop().remove_reader(worker)

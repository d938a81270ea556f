"""A large body's bytes, read straight from the socket.

A transport reads into a buffer, from which the bytes are copied once more. Reading here instead, up to 2 MiB into the
very bytes object that the application gets, takes a quarter of the CPU off a part and a quarter off a form post.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable

from gateway.web.read_budget import ReadBudget


class DirectReader:
    """Reads in place of *transport*, whose own reading is paused from construction to ``stop``.

    It watches a duplicate of the descriptor, because an event loop lets nobody else watch a transport's own. Whatever
    ends the stream is left for the transport to find, so that a lost connection shows in one place only.

    Args:
        deliver: gets each piece, as ``asyncio.Protocol.data_received`` does.
        budget: says when to read, and how much.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        deliver: Callable[[bytes], None],
        budget: ReadBudget,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._deliver = deliver
        self._budget = budget
        self._is_paused = self._is_watching = self._awaits_turn = False
        transport.pause_reading()
        self._descriptor = os.dup(_socket_of(transport).fileno())
        self._broken = select.poll()
        self._broken.register(self._descriptor, 0)  # tells of errors only
        self.resume_reading()

    def pause_reading(self) -> None:
        """Deliver nothing more for now. Mostly it goes on before the next byte comes: the loop is not told yet."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Deliver again."""
        self._is_paused = False
        self._watch()

    def stop(self) -> None:
        """Leave the socket alone for good; the transport reads again only when it is told to."""
        if self._descriptor >= 0:
            self._unwatch()
            os.close(self._descriptor)
            self._descriptor = -1

    def _watch(self) -> None:
        if not self._is_watching and self._descriptor >= 0 and not self._awaits_turn:
            self._loop.add_reader(self._descriptor, self._look)
            self._is_watching = True

    def _unwatch(self) -> None:
        if self._is_watching:
            self._loop.remove_reader(self._descriptor)
            self._is_watching = False

    def _look(self) -> None:
        """There is something to read."""
        if self._is_paused or self._transport.is_closing():
            self._unwatch()
        elif self._budget.may_read(self):
            self._read()
        else:
            self._awaits_turn = True
            self._unwatch()

    def read_in_turn(self) -> None:
        """Read what there was to read when the turn was another's."""
        self._awaits_turn = False
        if self._descriptor >= 0 and not self._is_paused and not self._transport.is_closing():
            self._watch()
            self._read()

    def _read(self) -> None:
        try:
            piece = os.read(self._descriptor, self._budget.piece_bytes)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._unwatch()
            self._transport.resume_reading()
            return
        self._budget.spend(len(piece))
        self._deliver(piece)
        if self._is_watching and self._broken.poll(0):
            # Reset by the client. libuv tells of such a descriptor once and then no more, whatever is left to read.
            self._unwatch()
            if not self._is_paused:
                self._watch()


def can_read_directly(transport: asyncio.Transport) -> bool:
    """Whether the socket's bytes are the body's bytes: without TLS between, and not on Windows."""
    return os.name == "posix" and transport.get_extra_info("sslcontext") is None


def _socket_of(transport: asyncio.Transport) -> socket.socket:
    found: socket.socket = transport.get_extra_info("socket")
    return found

"""One of several workers: ``python -m gateway.serving.worker CHANNEL LISTENER…``, all of them descriptors.

The channel is a socket to the parent. The worker says ``BEAT`` on it when it takes connections, and each second from
then on; the parent says ``RETIRE`` or ``DRAIN``. A channel that ends means that the parent is gone, however it went:
the worker then lets go of the listeners at once, so that another parent can have them.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

from gateway.config import load_settings
from gateway.serving.listeners import inherited
from gateway.serving.process import build_server, start_logging
from gateway.serving.server import Server

BEAT: Final = b"+"
RETIRE: Final = b"r"
DRAIN: Final = b"d"
BEAT_SECONDS: Final = 1.0


class Channel:
    """This end of the socket to the parent; ``attach`` it from inside the loop that is to be measured."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(False)
        self._server: Server | None = None

    def attach(self, server: Server) -> None:
        """Take the parent's orders for *server*, and beat."""
        self._server = server
        asyncio.get_running_loop().add_reader(self._end, self._hear)
        self._beat()

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # a parent that does not read, or is gone: the reader will tell
            self._end.send(BEAT)
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def _hear(self) -> None:
        assert self._server is not None
        try:
            orders = self._end.recv(64)
        except BlockingIOError:
            return
        except OSError:
            orders = b""
        if not orders:
            asyncio.get_running_loop().remove_reader(self._end)
        if DRAIN in orders:
            self._server.drain()
        else:
            self._server.retire()


def main(arguments: Sequence[str]) -> int:
    """Serve on the listeners until the parent, or a signal, ends it; the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal's word to all of us; the parent acts on it
    channel, *listeners = map(int, arguments)
    settings = load_settings()
    lines = start_logging(settings)
    spoken = Channel(socket.socket(fileno=channel))
    server = build_server(settings, lines, on_ready=lambda: spoken.attach(server))
    server.run(sockets=inherited(listeners))
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

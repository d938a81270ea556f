"""A TCP proxy that breaks connections as a script tells: the network between any two programs of a system test.

It lives in a thread of its own, so that tests may block. Offsets count the bytes of one direction of one connection.
"""

import asyncio
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)
_DRIP_SECONDS: Final = 0.05
_READ_BYTES: Final = 64 * 1024


class Way(StrEnum):
    """The direction of bytes that a fault meets."""

    UP = "up"
    """From whoever connected to the server."""
    DOWN = "down"


class Harm(StrEnum):
    """What happens to a connection."""

    FIN = "fin"
    """Both ends see an orderly end."""
    RST = "rst"
    """Both ends see a reset."""
    STALL = "stall"
    """Nothing moves for ``seconds``, then everything goes on."""
    DRIP = "drip"
    """From here on ``bytes_per_second`` move."""
    FLIP = "flip"
    """One bit of the next byte is another; which one the seed tells."""
    DUPLICATE = "duplicate"
    """The next ``count`` bytes come twice."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One harm, once ``after_bytes`` have passed in direction ``way``."""

    harm: Harm
    way: Way = Way.UP
    after_bytes: int = 0
    seconds: float = 0.0
    bytes_per_second: int = 1
    count: int = 1


class FaultProxy:
    """Passes connections on to port *upstream* of 127.0.0.1; each new one takes the next fault, if any is left.

    ``choose`` is asked instead when it is set. ``broken_count`` counts the faults that came to act.
    """

    def __init__(self, upstream: int, loop: asyncio.AbstractEventLoop, seed: int = 0) -> None:
        self.port = 0
        self.broken_count = 0
        self.choose: Callable[[], Fault | None] | None = None
        self._upstream = upstream
        self._loop = loop
        self._random = random.Random(seed)
        self._faults: deque[Fault] = deque()
        self._serving: set[asyncio.Task[None]] = set()

    def add(self, *faults: Fault) -> None:
        """Let the next connections meet *faults*, one each."""
        self._faults.extend(faults)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        mine = asyncio.current_task()
        assert mine is not None
        self._serving.add(mine)
        fault = self.choose() if self.choose is not None else self._faults.popleft() if self._faults else None
        writers = [writer]
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
            writers.append(to_server)
            ends = (writer, to_server)
            ways = (
                asyncio.create_task(self._pass(reader, to_server, _if(fault, Way.UP), ends)),
                asyncio.create_task(self._pass(from_server, writer, _if(fault, Way.DOWN), ends)),
            )
            done, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if pending and ways[0] in done and not any(end.transport.is_closing() for end in ends):
                await asyncio.wait(pending, timeout=60)  # a client may end its side and still read
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(mine)
            for one in writers:
                one.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fault: Fault | None,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        passed = 0
        with suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                if fault is not None and passed + len(data) > fault.after_bytes:
                    safe = data[: fault.after_bytes - passed]
                    writer.write(safe)
                    await writer.drain()
                    self.broken_count += 1
                    data = await self._harm(fault, data[len(safe) :], writer, ends)
                    fault = None
                passed += len(data)
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def _harm(
        self,
        fault: Fault,
        data: bytes,
        writer: asyncio.StreamWriter,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> bytes:
        """Do it; the bytes to go on with."""
        if fault.harm in (Harm.FIN, Harm.RST):
            _cut(ends, reset=fault.harm is Harm.RST)
            raise ConnectionResetError
        if fault.harm is Harm.STALL:
            await asyncio.sleep(fault.seconds)
        elif fault.harm is Harm.DRIP:
            return await _dripped(fault, data, writer)
        elif fault.harm is Harm.FLIP:
            return bytes([data[0] ^ (1 << self._random.randrange(8))]) + data[1:]
        else:
            return data[: fault.count] + data
        return data

    def break_all(self) -> None:
        """Cut every connection that is open."""
        for one in list(self._serving):
            self._loop.call_soon_threadsafe(one.cancel)


def _cut(ends: tuple[asyncio.StreamWriter, ...], *, reset: bool) -> None:
    for end in ends:
        if reset:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()
        else:
            end.close()


async def _dripped(fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> bytes:
    step = max(1, int(fault.bytes_per_second * _DRIP_SECONDS))
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await writer.drain()
        await asyncio.sleep(step / fault.bytes_per_second)
    return b""


def _if(fault: Fault | None, way: Way) -> Fault | None:
    return fault if fault is not None and fault.way is way else None


@contextmanager
def running_fault_proxy(upstream: int, seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy before port *upstream*, on a port of its own."""
    loop = asyncio.new_event_loop()
    proxy = FaultProxy(upstream, loop, seed)
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
    proxy.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name="fault-proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.break_all()
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

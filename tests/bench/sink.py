"""The store behind the bench: speaks enough of COS and of S3, counts and CRCs each body, and discards it.

It must never be what is measured, so it is one uvloop protocol with one receive buffer for all connections and no
framework. No signature is checked. Objects named ``*.info`` are kept, because ``@tus/s3-store`` reads them back.

Run it as ``python -m tests.bench.sink --port 9000 [--delay-ms 80]``; ``GET /-/stats`` tells what arrived.
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Final, cast

import fastcrc
import uvloop

from tests.bench.sink_store import Answer, Received, SinkStore

_BUFFER: Final = bytearray(512 * 1024)
_VIEW: Final = memoryview(_BUFFER)
_HEAD_STEP_BYTES: Final = 4096
_HEAD_MAX_BYTES: Final = 64 * 1024


class SinkConnection(asyncio.BufferedProtocol):
    """One client's connection: frames requests, feeds their bodies to the store's counters, writes the answers.

    Clients may not pipeline. The receive buffer is shared by all connections: the loop fills it and calls
    ``buffer_updated`` without anything running in between.
    """

    def __init__(self, store: SinkStore, part_delay_seconds: float) -> None:
        self._store = store
        self._part_delay_seconds = part_delay_seconds
        self._head = bytearray()
        self._line = bytearray()
        self._received: Received | None = None
        self._body_left = 0
        self._chunked = False
        self._step: Callable[[memoryview], int] = self._read_head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        view = _VIEW[:nbytes]
        while view and not self._transport.is_closing():
            view = view[self._step(view) :]

    def _read_head(self, view: memoryview) -> int:
        before = len(self._head)
        self._head += view[:_HEAD_STEP_BYTES]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > _HEAD_MAX_BYTES:
                self._transport.abort()
            return len(self._head) - before
        head = bytes(self._head[:end])
        self._head.clear()
        self._begin(Received.parse(head))
        return end + 4 - before

    def _begin(self, received: Received) -> None:
        self._received = received
        headers = received.headers
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._body_left = 0 if self._chunked else int(headers.get("content-length", "0"))
        if self._chunked:
            self._step = self._read_chunk_size
        elif self._body_left:
            self._step = self._read_body
        else:
            self._finish()

    def _read_body(self, view: memoryview) -> int:
        received = self._received
        assert received is not None
        piece = view[: self._body_left]
        received.crc64 = fastcrc.crc64.xz(piece, received.crc64)
        received.size += len(piece)
        self._store.body_bytes += len(piece)
        if received.kept is not None:
            received.kept += piece
        self._body_left -= len(piece)
        if not self._body_left:
            if self._chunked:
                self._step = self._read_chunk_end
            else:
                self._finish()
        return len(piece)

    def _read_line(self, view: memoryview) -> tuple[int, bytes | None]:
        """Bytes taken, and the line without its end once that has come."""
        end = bytes(view).find(b"\n")
        if end < 0:
            self._line += view
            return len(view), None
        line = bytes(self._line + view[:end]).strip()
        self._line.clear()
        return end + 1, line

    def _read_chunk_size(self, view: memoryview) -> int:
        taken, line = self._read_line(view)
        if line is not None:
            self._body_left = int(line.split(b";")[0], 16)
            self._step = self._read_body if self._body_left else self._read_trailer
        return taken

    def _read_chunk_end(self, view: memoryview) -> int:
        taken, line = self._read_line(view)
        if line is not None:
            self._step = self._read_chunk_size
        return taken

    def _read_trailer(self, view: memoryview) -> int:
        taken, line = self._read_line(view)
        if line == b"":
            self._finish()
        return taken

    def _finish(self) -> None:
        received = self._received
        assert received is not None
        self._received = None
        self._step = self._read_head
        answer = self._store.answer(received)
        if self._part_delay_seconds and received.is_part:
            asyncio.get_running_loop().call_later(self._part_delay_seconds, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: Answer) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def serve(port: int, part_delay_seconds: float) -> None:
    """Serve on the loopback *port* until cancelled; each Upload Part is answered *part_delay_seconds* late."""
    store = SinkStore()
    server = await asyncio.get_running_loop().create_server(
        lambda: SinkConnection(store, part_delay_seconds), "127.0.0.1", port, backlog=2048
    )
    print(json.dumps({"listening": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one and prints it")
    parser.add_argument("--delay-ms", type=float, default=0, help="answer each Upload Part this late")
    arguments = parser.parse_args()
    try:
        uvloop.run(serve(arguments.port, arguments.delay_ms / 1000))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()

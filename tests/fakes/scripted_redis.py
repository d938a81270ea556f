"""A server that answers Redis's protocol with what a test wrote down: for what no real server says on demand."""

import asyncio
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class ScriptedRedis:
    """Answers each command with the next of ``replies``, and +OK when none is left. ``asked`` holds the commands."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.replies: deque[bytes] = deque()
        self.asked: list[list[bytes]] = []
        self.connection_count = 0
        self.was_asked = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        self.connection_count += 1
        mine = asyncio.current_task()
        assert mine is not None
        self._serving.add(mine)
        try:
            while head := await reader.readline():
                words = [await _word(reader) for _ in range(int(head[1:]))]
                if words[:2] == [b"CLIENT", b"SETINFO"]:
                    writer.write(b"+OK\r\n")
                    continue
                self.asked.append(words)
                writer.write(self.replies.popleft() if self.replies else b"+OK\r\n")
                self.was_asked.set()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's streams report a handler that was cancelled as an error
        finally:
            writer.close()
            self._serving.discard(mine)

    async def aclose(self) -> None:
        """Break every connection off."""
        serving = list(self._serving)
        for one in serving:
            one.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _word(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline())[1:])
    return (await reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def running_script() -> AsyncIterator[ScriptedRedis]:
    """A scripted Redis on a unix socket while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="gw-test-script-"))
    scripted = ScriptedRedis(f"unix://{folder / 'redis.sock'}")
    server = await asyncio.start_unix_server(scripted.serve, str(folder / "redis.sock"))
    try:
        yield scripted
    finally:
        server.close()
        await scripted.aclose()
        shutil.rmtree(folder)

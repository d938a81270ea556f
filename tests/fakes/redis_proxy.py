"""A proxy before a real Redis that swallows or delays its answers, as a network does."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class RedisProxy:
    """Passes bytes both ways. What Redis answers is passed on after ``answer_delay_seconds``.

    While ``swallow_count`` is above 0, each answer is swallowed and its connection closed: the command was carried out.
    ``meanwhile`` runs before that connection closes, so before the client can ask again.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.swallow_count = 0
        self.answer_delay_seconds = 0.0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._upstream = upstream.removeprefix("unix://")
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        mine = asyncio.current_task()
        assert mine is not None
        self._serving.add(mine)
        from_redis, to_redis = await asyncio.open_unix_connection(self._upstream)
        ways = [
            asyncio.create_task(self._pass(reader, to_redis)),
            asyncio.create_task(self._answer(from_redis, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # asyncio's streams report a handler that was cancelled as an error
        finally:
            for way in ways:
                way.cancel()
            to_redis.close()
            writer.close()
            self._serving.discard(mine)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.swallow_count > 0:
                    self.swallow_count -= 1
                    if self.meanwhile is not None:
                        await self.meanwhile()
                    return
                await asyncio.sleep(self.answer_delay_seconds)
                writer.write(data)

    async def aclose(self) -> None:
        """Break every connection off."""
        serving = list(self._serving)
        for one in serving:
            one.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the loop's next round


@asynccontextmanager
async def running_proxy(upstream: str) -> AsyncIterator[RedisProxy]:
    """A proxy before the Redis at *upstream* (``unix://``), itself on a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="gw-test-proxy-"))
    proxy = RedisProxy(upstream)
    proxy.url = f"unix://{folder / 'proxy.sock'}"
    server = await asyncio.start_unix_server(proxy.serve, str(folder / "proxy.sock"))
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
        shutil.rmtree(folder)

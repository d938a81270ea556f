"""Bodies on their way to COS, and the budget that lets the gateway, not the phone, repeat them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from gateway.domain.checksums import crc64
from gateway.domain.errors import BodyIncomplete, DigestMismatch, GatewayError, Overloaded, PartTooLarge
from gateway.domain.objects import PartBody
from gateway.domain.pieces import Pieces
from gateway.transfer.memory_budget import MemoryBudget


class ReplayBudget(MemoryBudget):
    """The bytes that all bodies of this process may keep for a repetition."""

    def refusal(self, size: int, owner: str) -> Overloaded:
        """Whoever's share it is: a body that cannot be kept now may be sent again soon."""
        return Overloaded("No replay memory became free in time.", retry_after_seconds=5)


class BufferedBody:
    """A body whose bytes are all here."""

    replayable = True

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._chunks = list(parts)
        self.size = sum(map(len, self._chunks))
        self.crc64 = 0
        for chunk in self._chunks:
            self.crc64 = crc64(chunk, self.crc64)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, from the first."""
        for chunk in self._chunks:
            yield chunk

    def forget(self) -> None:
        """Let go of the bytes now, whoever still refers to this body: the budget counts them no longer."""
        self._chunks.clear()


class LastChunkAfter:
    """*body*, whose last chunk goes out only after *commit* has returned; what that raises ends the body."""

    def __init__(self, body: PartBody, commit: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._commit: Callable[[], Awaitable[None]] | None = commit
        self.size = body.size
        self.replayable = body.replayable

    @property
    def crc64(self) -> int:
        """CRC-64/XZ of the bytes read so far."""
        return self._body.crc64

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, from the first."""
        sent = 0
        async for chunk in self._body.chunks():
            sent += len(chunk)
            if sent == self.size and self._commit is not None:
                await self._commit()
                self._commit = None
            yield chunk
            del chunk


class IncomingBody:
    """A body whose bytes are still coming: ``feed`` on one side, ``chunks`` on the other.

    With *replayable* every byte is kept, so that COS's failures are the gateway's to repeat. Otherwise ``feed`` returns
    once the connection to COS has taken the bytes: the body holds one piece, and the kernel's buffers keep both sides
    busy.

    Args:
        size: exact length in bytes.
        replayable: whether the budget covers ``size`` bytes.
        expected_crc64: what the client says; a difference is raised before the last chunk goes out.
    """

    def __init__(self, size: int, *, replayable: bool, expected_crc64: int | None = None) -> None:
        self.size = size
        self.replayable = replayable
        self.crc64 = 0
        self.received = 0
        self._expected_crc64 = expected_crc64
        self._kept = Pieces()
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._failure: GatewayError | None = None
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def whole(self) -> bool:
        """Whether every byte has come, and none that was not meant."""
        return self.received == self.size

    async def feed(self, chunk: bytes) -> None:
        """Take the next bytes from the client; those that are refused end the body.

        Raises:
            PartTooLarge: more came than ``size``.
            DigestMismatch: they are complete and not what the client's CRC-64 says.
            GatewayError: what the body was ended with.
        """
        if self._failure is not None:
            raise self._failure
        crc = crc64(chunk, self.crc64)
        refused = self._refused(self.received + len(chunk), crc)
        if refused is not None:
            self.fail(refused)
            raise refused
        self.received += len(chunk)
        self.crc64 = crc
        if self.replayable:
            self._kept.add(chunk)
        else:
            self._unsent.append(chunk)
            self._unsent_bytes += len(chunk)
        self._wake_reader()
        while self._unsent_bytes and self._failure is None:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _refused(self, received: int, crc: int) -> GatewayError | None:
        if received > self.size:
            return PartTooLarge(f"More than {self.size} bytes came.", expected=self.size)
        if received == self.size and self._expected_crc64 not in (None, crc):
            return DigestMismatch("The CRC-64 of the bytes that came is not the one that was announced.")
        return None

    async def pump(self, source: AsyncIterator[bytes]) -> None:
        """Feed all of *source*.

        Raises:
            BodyIncomplete: it ended before ``size`` bytes.
        """
        async for chunk in source:
            if chunk:
                await self.feed(chunk)
            del chunk
        if not self.whole:
            raise BodyIncomplete(f"The body has {self.received} bytes, expected {self.size}.", expected=self.size)

    def fail(self, error: BaseException) -> None:
        """End the body, unless it is whole: whoever reads ``chunks`` gets *error*, or BodyIncomplete for what is no
        error of ours, such as a client that left or a request that was cancelled.
        """
        if self.whole or self._failure is not None:
            return
        broken = BodyIncomplete(f"The body broke off after {self.received} bytes, expected {self.size}.")
        self._failure = error if isinstance(error, GatewayError) else broken
        self._wake_reader()
        self._wake_feeder()

    def forget(self) -> None:
        """Let go of the bytes now, whoever still refers to this body: nobody reads it any more."""
        self._kept.clear()
        self._unsent.clear()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they come; from the first each time when ``replayable``."""
        sent = 0
        while sent < self.size:
            if self._failure is not None:
                raise self._failure
            if sent < self._kept.size:
                chunk = self._kept.at(sent)
            elif self._unsent:
                chunk = self._unsent.popleft()
            else:
                self._news = asyncio.get_running_loop().create_future()
                await self._news
                continue
            sent += len(chunk)
            yield chunk
            del chunk
            if not self.replayable:  # asked for more: those have gone
                self._unsent_bytes = sum(map(len, self._unsent))
                self._wake_feeder()

    def _wake_reader(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _wake_feeder(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

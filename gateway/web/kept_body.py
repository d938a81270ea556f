"""Bodies that are read whole before anything is done with them: lists, options. Each holds a lease first."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Final

from starlette.requests import Request

from gateway.domain.errors import GatewayError
from gateway.transfer.memory_budget import Lease
from gateway.transfer.process_memory import WAIT_SECONDS
from gateway.web.request_reading import body_chunks

STEP_BYTES: Final = 64 << 10
"""What a body of unknown length takes at a time."""
LISTED_PART_BYTES: Final = 320
"""What a part of a list takes until COS has given its verdict."""
_COPIES: Final = 2
"""The bytes as they came, and as one object."""
_LENGTH_DIGITS: Final = 17


class KeptBody:
    """The body of *request*, and what is made of it, under *lease*, which its maker releases.

    Args:
        receiving: counts the body among those that are being received, or refuses it.
        parsing: see there.
    """

    def __init__(
        self,
        request: Request,
        lease: Lease,
        receiving: Callable[[], AbstractContextManager[object]],
        parsing: Callable[[int], AbstractAsyncContextManager[None]] = lambda size: nullcontext(),
    ) -> None:
        self.request = request
        self.parsing = parsing
        """A turn in which so many bytes are parsed, or RateLimited: the caller spends by that."""
        self._lease = lease
        self._receiving = receiving

    @property
    def is_announced(self) -> bool:
        """Whether the head says that there is a body."""
        headers = self.request.headers
        return "transfer-encoding" in headers or headers.get("content-length", "0").lstrip("0") != ""

    async def read(self, limit_bytes: int, too_large: Callable[[], GatewayError | Exception]) -> bytes:
        """All of it, at most *limit_bytes*; more is refused before it is read, if its length is known.

        Raises:
            Overloaded, RateLimited: there is no memory for it, or too many bodies are being received.
            Exception: what *too_large* gives.
        """
        if not self.is_announced:
            return b""
        length = self.request.headers.get("content-length", "")
        known = int(length[:_LENGTH_DIGITS]) if length.isdecimal() else 0
        if known > limit_bytes:
            raise too_large()
        with self._receiving():
            return await self._read(known, limit_bytes, too_large)

    async def _read(self, known: int, limit_bytes: int, too_large: Callable[[], GatewayError | Exception]) -> bytes:
        allowed = known or min(limit_bytes, STEP_BYTES)
        body = bytearray()
        await self.hold(_COPIES * allowed)
        async for chunk in body_chunks(self.request):
            size = len(body) + len(chunk)
            if size > limit_bytes:
                raise too_large()
            if size > allowed:
                allowed = min(limit_bytes, size + STEP_BYTES)
                await self.hold(_COPIES * allowed)
            body += chunk
        return bytes(body)

    async def hold(self, size: int) -> None:
        """Hold *size* bytes from now on, in all: the body itself, or what has been made of it.

        Raises:
            Overloaded, RateLimited: there is no memory for more.
        """
        await self._lease.resize(size, WAIT_SECONDS)

"""Ending a body from outside: a block that waits for a client can be broken off with a reason."""

import asyncio
from types import TracebackType

from gateway.domain.errors import GatewayError


class Interrupt:
    """An async context manager whose block ends with the reason that the first call gave.

    It costs no task of its own, so a body may have one at no price.
    """

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(None)
        self._reason: GatewayError | None = None
        self._open = False

    def __call__(self, reason: GatewayError) -> None:
        """Break the block off at its next wait; after the block, or the second time, nothing happens."""
        if self._open and self._reason is None:
            self._reason = reason
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> "Interrupt":
        await self._timeout.__aenter__()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._reason is None:
                raise
            raise self._reason from None

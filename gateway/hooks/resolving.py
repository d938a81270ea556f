"""Names of receivers are looked up once, and what they may not be is not connected to."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from gateway.domain.addresses import is_public_address


class PrivateAddress(OSError):
    """The name of a receiver leads to an address that is not of the public internet."""


class PublicResolver(AbstractResolver):
    """The system's resolver, which refuses a name if any of its addresses is not of the public internet.

    The addresses that it checked are those connected to: a name cannot change in between. ``localhost`` is what it
    says, and only settings name receivers.

    Args:
        resolver: what is asked instead of the system's.
    """

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of *host*.

        Raises:
            PrivateAddress: one of them is private.
            OSError: it has none.
        """
        found = await self._resolver.resolve(host, port, family)
        if host != "localhost" and not all(is_public_address(address["host"]) for address in found):
            raise PrivateAddress("the name has a private address")
        return found

    async def close(self) -> None:
        await self._resolver.close()

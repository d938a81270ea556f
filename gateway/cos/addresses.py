"""Where COS may be: names are looked up, and what lies outside the configured ranges is not connected to."""

import logging
import socket
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

log = logging.getLogger("gateway.cos")

Network = IPv4Network | IPv6Network


class AddressOutside(OSError):
    """Every address of the name lies outside the ranges."""


class RangedResolver(AbstractResolver):
    """The system's resolver, of whose answers only those inside *ranges* are used; all of them when there are none.

    Args:
        resolver: what is asked instead of the system's.
    """

    def __init__(self, ranges: Sequence[Network], resolver: AbstractResolver | None = None) -> None:
        self._ranges = ranges
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of *host*.

        Raises:
            AddressOutside: it has some, and none may be used.
            OSError: it has none.
        """
        found = await self._resolver.resolve(host, port, family)
        inside = [address for address in found if self._may_use(address["host"])]
        if len(inside) < len(found):
            log.error("%d of the %d addresses of COS lie outside the ranges", len(found) - len(inside), len(found))
        if found and not inside:
            raise AddressOutside("every address lies outside the ranges")
        return inside

    async def close(self) -> None:
        await self._resolver.close()

    def _may_use(self, address: str) -> bool:
        if not self._ranges:
            return True
        found = ip_address(address)
        return any(found in network for network in self._ranges)

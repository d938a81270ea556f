"""A DNS that says what a test wants."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult


class Dns(AbstractResolver):
    """Every name has these *addresses*."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass

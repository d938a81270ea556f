import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.hooks.resolving import PrivateAddress, PublicResolver


class Names(AbstractResolver):
    """Says what a test says."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        self.closed = True


async def test_public_addresses_are_used_as_they_were_checked() -> None:
    names = Names("8.8.8.8", "2402:4e00::1")
    resolver = PublicResolver(names)

    assert [found["host"] for found in await resolver.resolve("hooks.example", 443)] == ["8.8.8.8", "2402:4e00::1"]
    await resolver.close()
    assert names.closed


@pytest.mark.promise(26)
@pytest.mark.parametrize("private", ["10.0.0.5", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.5"])
async def test_one_private_address_refuses_the_whole_name(private: str) -> None:
    """Else a name could lead to the cloud's metadata, or into the network, on every second try."""
    with pytest.raises(PrivateAddress):
        await PublicResolver(Names("8.8.8.8", private)).resolve("hooks.example", 443)


async def test_localhost_is_what_it_says() -> None:
    assert len(await PublicResolver(Names("127.0.0.1")).resolve("localhost", 80)) == 1

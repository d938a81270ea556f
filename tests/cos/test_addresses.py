"""Only addresses inside the ranges are used, whatever DNS says."""

from ipaddress import ip_network

import pytest

from gateway.cos.addresses import AddressOutside, RangedResolver
from tests.cos.dns import Dns


async def found(ranges: list[str], *addresses: str) -> list[str]:
    resolver = RangedResolver([ip_network(text) for text in ranges], Dns(*addresses))
    return [answer["host"] for answer in await resolver.resolve("cos", 443)]


async def test_without_ranges_every_address_is_used() -> None:
    assert await found([], "203.0.113.7", "10.0.0.1", "2001:db8::1") == ["203.0.113.7", "10.0.0.1", "2001:db8::1"]


async def test_of_several_addresses_those_inside_are_used() -> None:
    ranges = ["203.0.113.0/24", "2001:db8::/32"]

    assert await found(ranges, "127.0.0.1", "203.0.113.7", "::1", "2001:db8::1") == ["203.0.113.7", "2001:db8::1"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "203.0.114.1", "::1", "::ffff:10.0.0.1"]
)
async def test_an_address_outside_is_refused(address: str) -> None:
    with pytest.raises(AddressOutside):
        await found(["203.0.113.0/24"], address)


async def test_a_name_without_addresses_is_not_outside() -> None:
    assert await found(["203.0.113.0/24"]) == []


async def test_the_system_is_asked_by_default() -> None:
    answers = await RangedResolver([ip_network("127.0.0.0/8")]).resolve("localhost", 80)

    assert {answer["host"] for answer in answers} == {"127.0.0.1"}

from ipaddress import ip_network

import pytest

from gateway.web.client_address import TrustedProxies, address_group, without_claims

PROXIES = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"gateway"), *((b"x-forwarded-for", value.encode("latin-1")) for value in values)]


@pytest.mark.parametrize("host", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"])
def test_a_proxy_is_known_by_its_network(host: str) -> None:
    assert host in PROXIES


@pytest.mark.parametrize("host", ["11.1.2.3", "2001:db9::1", "localhost", ""])
def test_nobody_else_is_a_proxy(host: str) -> None:
    assert host not in PROXIES


@pytest.mark.parametrize(
    ("told", "client"),
    [
        ([], "10.0.0.1"),
        (["198.51.100.7"], "198.51.100.7"),
        (["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        (["1.1.1.1", "198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        (["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        (["198.51.100.7:4711"], "198.51.100.7"),
        (["[2001:db9::5]:80"], "2001:db9::5"),
        (["2001:db9::5"], "2001:db9::5"),
        (["::ffff:198.51.100.7"], "198.51.100.7"),
        (["1.1.1.1, unknown"], "10.0.0.1"),
        (["1.1.1.1, unknown, 10.2.2.2"], "10.2.2.2"),
        (["1.1.1.1, \xe4"], "10.0.0.1"),
        (["198.51.100.7,"], "10.0.0.1"),
    ],
)
def test_the_client_is_the_right_most_address_that_is_no_proxy(told: list[str], client: str) -> None:
    assert PROXIES.client_of("10.0.0.1", forwarded(*told)) == client


def test_claims_of_where_a_request_comes_from_are_dropped() -> None:
    names = [b"host", b"x-forwarded-for", b"x-forwarded-proto", b"forwarded", b"x-real-ip", b"x-cos-acl"]

    assert [name for name, _ in without_claims([(name, b"1") for name in names])] == [b"host", b"x-cos-acl"]


def test_an_ipv6_customer_is_one_client_whatever_address_it_takes() -> None:
    assert address_group("2001:db9:0:1::5") == address_group("2001:db9:0:1:ffff::1") == "2001:db9:0:1::/64"
    assert address_group("2001:db9:0:2::5") != address_group("2001:db9:0:1::5")
    assert address_group("198.51.100.7") == address_group("::ffff:198.51.100.7") == "198.51.100.7"
    assert address_group("a socket's path") == "a socket's path"

import pytest

from gateway.domain.addresses import is_public_address


@pytest.mark.parametrize("text", ["8.8.8.8", "119.29.29.29", "2402:4e00::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert is_public_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "127.0.0.1",
            "10.0.0.5",
            "172.16.3.4",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",  # noqa: S104 -- refused, not bound
            "224.0.0.1",
        ),
        *("::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
        *("64:ff9b::a00:1", "2002:a00:1::", "255.255.255.255", "192.0.2.1"),
    ],
)
def test_addresses_of_this_machine_its_network_and_nobody_are_not(text: str) -> None:
    """IPv4 in any of its IPv6 disguises too."""
    assert not is_public_address(text)


def test_a_name_is_no_address() -> None:
    with pytest.raises(ValueError, match=r"hooks\.example"):
        is_public_address("hooks.example")

"""Which addresses are those of the public internet."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

_CARRIES_IPV4: Final = ip_network("64:ff9b::/96")


def is_public_address(text: str) -> bool:
    """Whether the literal address *text* is one of the public internet; IPv4 inside IPv6 is judged as such.

    Raises:
        ValueError: it is no address.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _CARRIES_IPV4:
            inner = ip_address(int(address) & 0xFFFF_FFFF)  # type: ignore[assignment]
        if inner is not None:
            return is_public_address(str(inner))
    return address.is_global and not address.is_multicast

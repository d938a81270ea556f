"""Who a connection comes from: the peer, or, behind a proxy that we are told to trust, whom the proxy names.

Whatever else a client writes into ``X-Forwarded-*`` is dropped: only a listed proxy's word counts.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

Headers = list[tuple[bytes, bytes]]
Network = IPv4Network | IPv6Network

_FORWARDED_FOR: Final = b"x-forwarded-for"
WAITED: Final = b"x-request-waited"
"""How many seconds our proxy has had the request for; see ``proxy_watch``."""
_CLAIMS: Final = (b"x-forwarded-", b"forwarded", b"x-real-ip", WAITED)
_SITE_BITS: Final = 64
"""What one IPv6 customer is given at least: addresses within it are one client's to choose (RFC 6177)."""


class TrustedProxies:
    """The networks whose ``X-Forwarded-For`` is believed.

    Args:
        networks: of both kinds of addresses.
    """

    def __init__(self, networks: Collection[Network] = ()) -> None:
        self._networks = tuple(networks)

    def __contains__(self, host: str) -> bool:
        address = read_address(host)
        return address is not None and self._trusts(address)

    def client_of(self, proxy: str, headers: Headers) -> str:
        """The right-most address in ``X-Forwarded-For`` that is no proxy of ours; *proxy*, a listed one, sent it.

        A word that is no address ends the search: what is left of it nobody we trust has seen.
        """
        found = proxy
        told = b",".join(value for name, value in headers if name == _FORWARDED_FOR)
        for entry in reversed(told.split(b",")) if self._networks else ():
            address = read_address(_without_port(entry.strip().decode("latin-1")))
            if address is None:
                break
            found = str(address)
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(maxsize=4096)
def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that *text* spells, None for anything else; IPv4 in IPv6 is IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def address_group(host: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 network of 64 bits, or *host* as it is."""
    address = read_address(host)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> _SITE_BITS << _SITE_BITS, _SITE_BITS)))
    return host if address is None else str(address)


def without_claims(headers: Headers) -> Headers:
    """*headers* less those that tell of a client, or of its request, on somebody's word."""
    return [pair for pair in headers if not pair[0].startswith(_CLAIMS)]


def _without_port(entry: str) -> str:
    """``1.2.3.4:80`` and ``[::1]:80`` without port and brackets."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def address_of(scope: Mapping[str, Any]) -> str:
    """The address, or the IPv6 network, that the request *scope* comes from; empty where there is none."""
    client = scope.get("client")
    return address_group(client[0]) if client else ""

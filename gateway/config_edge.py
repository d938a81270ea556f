"""The settings of connections: how many, from whom, and how long they may take."""

from collections.abc import Iterator

from pydantic import Field
from pydantic_settings import BaseSettings

from gateway.config_values import AddressRanges


class EdgeSettings(BaseSettings):
    """What a connection may cost."""

    trusted_proxies: AddressRanges = Field(
        default=(),
        description="Proxies in front, as 10.1.2.3,…: their X-Forwarded-For tells the client's address; "
        "anybody else's is dropped.",
    )
    connections_count: int = Field(
        default=10_000, ge=1, description="Connections that a process holds open; more are answered 503."
    )
    connections_per_address_count: int = Field(
        default=1024,
        ge=1,
        description="Connections of one address, per process; one more ends its oldest idle one. Behind trusted "
        "proxies: requests under way of one client, one more of which is answered 429.",
    )
    head_seconds: float = Field(
        default=10,
        gt=0,
        description="Time that a request's head, or a signed form's fields, may take to come.",
    )
    body_idle_seconds: float = Field(
        default=30, gt=0, description="Time without a byte after which a body is given up."
    )
    body_min_rate_bytes: int = Field(
        default=4096,
        ge=0,
        description="Bytes per second that a body must bring, averaged over twice the idle time; 0 asks for none.",
    )
    answer_stall_seconds: float = Field(
        default=30,
        gt=0,
        description="Time in which a client must take some of the answer that lies before it, websockets included.",
    )
    sockets_per_subject_count: int = Field(
        default=20, ge=1, description="Websockets that one token subject may hold open."
    )
    sockets_count: int = Field(default=5000, ge=1, description="Websockets that a process holds open.")

    def _edge_problems(self) -> Iterator[str]:
        if any(network.prefixlen == 0 for network in self.trusted_proxies):
            yield "GATEWAY_TRUSTED_PROXIES trusts every address: anybody could say to be anybody."

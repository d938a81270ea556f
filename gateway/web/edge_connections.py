"""All connections of one process: how many there may be, of one address and together, and who has to go."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from gateway.telemetry import Metrics
from gateway.transfer.memory_budget import Lease, MemoryBudget
from gateway.transfer.process_memory import USUAL_BYTES, ProcessMemory
from gateway.web.client_address import Headers, Network, TrustedProxies, address_group
from gateway.web.edge_deadlines import Deadlines
from gateway.web.proxy_watch import ProxyWatch
from gateway.web.read_budget import ReadBudget

_REFUSED_SHARE: Final = 8
"""Beyond the limit every eighth connection more may hear why it is refused."""


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """What holds at every listener of the process.

    Args:
        connections_count: connections that there may be.
        per_address_count: connections that one address may hold, unless it is a trusted proxy's; behind such, requests
            that one client may have under way.
        trusted_proxies: addresses or networks whose ``X-Forwarded-For`` is believed.
        cos_port: the port where refusals are COS's XML.
        admin_port: the port that operators use, and that has no limits.
    """

    deadlines: Deadlines = field(default_factory=Deadlines)
    connections_count: int = 10_000
    per_address_count: int = 1024
    trusted_proxies: Collection[Network] = ()
    cos_port: int | None = None
    admin_port: int | None = None

    def takes_websockets(self, port: int | None) -> bool:
        """Whether a request at *port* may become a websocket: only the public door has any."""
        return port is None or port not in (self.cos_port, self.admin_port)


class Entry(Enum):
    """What becomes of a new connection: served, refused with an answer, or dropped without."""

    SERVED = 1
    REFUSED = 2
    DROPPED = 3


class Closable(Protocol):
    """A connection that can be asked whether it is needed."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""

    def close_idle(self) -> None:
        """End it: another connection takes its place."""


@dataclass(slots=True)
class EdgeConnections:
    """The connections of a process under *rules*; ``metrics`` and ``memory``, of which connections hold what they keep
    of heads and of small answers, may come later than it.
    """

    rules: EdgeRules = field(default_factory=EdgeRules)
    metrics: Metrics | None = None
    reads: ReadBudget = field(default_factory=ReadBudget)
    memory: MemoryBudget = field(default_factory=lambda: ProcessMemory.of(USUAL_BYTES).strangers)
    trusted: TrustedProxies = field(init=False)
    _proxies: ProxyWatch = field(default_factory=ProxyWatch, init=False)
    _count: int = field(default=0, init=False)
    _by_group: dict[str, dict[Closable, None]] = field(default_factory=dict, init=False)
    _requests: Counter[str] = field(default_factory=Counter, init=False)
    """Under way, by the clients that trusted proxies name."""

    def __post_init__(self) -> None:
        self.trusted = TrustedProxies(self.rules.trusted_proxies)

    def __len__(self) -> int:
        return self._count

    def admit(self, connection: Closable, host: str | None, port: int | None) -> Entry:
        """Take in *connection*, from *host* to our *port*; ``leave`` must follow, whatever the answer.

        An address at its limit loses its oldest idle connection for it.
        """
        self._count += 1
        self._tell(1)
        if port is not None and port == self.rules.admin_port:
            return Entry.SERVED
        most = self.rules.connections_count
        if self._count > most:
            return Entry.REFUSED if self._count <= most + most // _REFUSED_SHARE + 1 else Entry.DROPPED
        if host is None or host in self.trusted:
            return Entry.SERVED
        group = self._by_group.setdefault(address_group(host), {})
        if len(group) >= self.rules.per_address_count and not _make_room(group):
            return Entry.REFUSED
        group[connection] = None
        return Entry.SERVED

    def leave(self, connection: Closable, host: str | None) -> None:
        """*connection* has ended."""
        self._count -= 1
        self._tell(-1)
        if host is None:
            return
        name = address_group(host)
        group = self._by_group.get(name, {})
        group.pop(connection, None)
        if not group:
            self._by_group.pop(name, None)

    def lease(self, host: str | None) -> Lease:
        """What a connection from *host* keeps, which is nothing at first."""
        return self.memory.open("" if host is None else address_group(host))

    def client_of(self, proxy: str, headers: Headers, length: int | None) -> str:
        """Whom *proxy*, a listed one, brings a request of, with a body of *length* bytes; None is not known yet."""
        if self._proxies.found_buffering(proxy, headers, length) and self.metrics is not None:
            self.metrics.count("gateway_proxy_buffered_bodies_total")
        return self.trusted.client_of(proxy, headers)

    def begin_request(self, client: str) -> bool:
        """Count a request under way of *client*, whom a trusted proxy names; False: it is one too many.

        ``end_request`` must follow unless it is.
        """
        name = address_group(client)
        if self._requests[name] >= self.rules.per_address_count:
            return False
        self._requests[name] += 1
        return True

    def end_request(self, client: str) -> None:
        """A request of *client* is no longer under way."""
        name = address_group(client)
        self._requests[name] -= 1
        if self._requests[name] <= 0:
            del self._requests[name]

    def note_refusal(self, code: str) -> None:
        """The edge has answered by itself."""
        if self.metrics is not None:
            self.metrics.count("gateway_connections_refused_total", code)

    def _tell(self, by: int) -> None:
        if self.metrics is not None:
            self.metrics.add("gateway_connections_open", by)


def _make_room(group: dict[Closable, None]) -> bool:
    """Close the oldest idle connection of *group*; whether there was one."""
    oldest = next((connection for connection in group if connection.is_idle), None)
    if oldest is None:
        return False
    del group[oldest]
    oldest.close_idle()
    return True

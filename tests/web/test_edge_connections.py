from ipaddress import ip_network

from gateway.telemetry import Metrics
from gateway.web.edge_connections import EdgeConnections, EdgeRules, Entry

CLIENT, OTHER, PROXY = "198.51.100.7", "198.51.100.8", "10.0.0.1"


class Connection:
    """Idle or not, and closed once it was asked to be."""

    def __init__(self, *, idle: bool = False) -> None:
        self.is_idle = idle
        self.closed = False

    def close_idle(self) -> None:
        self.closed = True


def edge(most: int = 100, per_address: int = 100) -> EdgeConnections:
    rules = EdgeRules(
        connections_count=most,
        per_address_count=per_address,
        trusted_proxies=[ip_network("10.0.0.0/8")],
        admin_port=9090,
    )
    return EdgeConnections(rules)


def test_beyond_the_limit_some_hear_why_and_the_rest_is_dropped() -> None:
    connections = edge(most=16)

    entries = [connections.admit(Connection(), f"198.51.100.{number}", 80) for number in range(24)]

    assert entries == [Entry.SERVED] * 16 + [Entry.REFUSED] * 3 + [Entry.DROPPED] * 5


def test_operators_come_in_whatever_the_limits() -> None:
    connections = edge(most=1, per_address=1)
    connections.admit(Connection(), CLIENT, 80)

    assert connections.admit(Connection(), CLIENT, 9090) is Entry.SERVED


def test_one_more_of_an_address_ends_its_oldest_idle_connection() -> None:
    connections = edge(per_address=3)
    busy, of_another = Connection(), Connection(idle=True)
    oldest, younger = Connection(idle=True), Connection(idle=True)
    connections.admit(of_another, OTHER, 80)
    for one in (busy, oldest, younger):
        connections.admit(one, CLIENT, 80)

    assert connections.admit(Connection(), CLIENT, 80) is Entry.SERVED
    assert [one.closed for one in (of_another, busy, oldest, younger)] == [False, False, True, False]


def test_an_address_whose_connections_are_all_busy_gets_no_more_until_one_leaves() -> None:
    connections = edge(per_address=1)
    busy, refused = Connection(), Connection()
    connections.admit(busy, CLIENT, 80)

    assert connections.admit(refused, CLIENT, 80) is Entry.REFUSED
    assert connections.admit(Connection(), OTHER, 80) is Entry.SERVED
    connections.leave(refused, CLIENT)
    connections.leave(busy, CLIENT)
    assert connections.admit(Connection(), CLIENT, 80) is Entry.SERVED


def test_a_trusted_proxy_and_a_socket_without_an_address_have_no_limit_of_their_own() -> None:
    connections = edge(per_address=1)

    assert {connections.admit(Connection(), host, 80) for host in (PROXY, PROXY, None, None)} == {Entry.SERVED}


def test_nothing_is_kept_of_those_who_left() -> None:
    connections = edge(most=4, per_address=2)
    for host in (CLIENT, PROXY, None) * 20:
        one = Connection()
        connections.admit(one, host, 80)
        connections.leave(one, host)

    assert len(connections) == 0
    assert connections._by_group == {}


def test_operators_see_how_many_there_are_and_why_some_were_refused() -> None:
    connections, one = edge(), Connection()
    connections.metrics = Metrics()
    connections.admit(one, CLIENT, 80)
    connections.admit(Connection(), CLIENT, 80)
    connections.leave(one, CLIENT)
    connections.note_refusal("head_timeout")

    shown = connections.metrics.exposition().decode().splitlines()
    assert "gateway_connections_open 1.0" in shown
    assert 'gateway_connections_refused_total{code="head_timeout"} 1.0' in shown

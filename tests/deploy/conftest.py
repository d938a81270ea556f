"""One topology for everything that goes through nginx."""

from collections.abc import Iterator

import pytest

from tests.deploy.topology import Topology, running_topology


@pytest.fixture(scope="session")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """Two gateways, Redis, a local COS, and nginx in front."""
    with running_topology(tmp_path_factory.mktemp("topology")) as topology:
        yield topology

"""Many clients at once, in a container's memory: nobody is killed and nobody is refused."""

import pytest

from tests.bench.burst import PODS, measure
from tests.bench.run import allow_many_connections


@pytest.mark.promise(21)
@pytest.mark.parametrize(("kind", "bodies"), [("held", 150), ("stalled", 150)])
def test_f1_a_pod_outlives_clients_that_all_send_at_once(kind: str, bodies: int) -> None:
    allow_many_connections()
    found = measure(kind, bodies, "small", stall_seconds=2)

    assert not found.killed
    assert found.answers.statuses == {200: bodies}
    assert found.peak_bytes < 0.9 * PODS["small"][0]

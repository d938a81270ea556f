import subprocess
import sys

import pytest

_COUNT_LOOKED_AT = """
import gc
import gateway.app
from gateway.collector import leave_what_stays

%s
kept = [[] for _ in range(1000)]
print(len(gc.get_objects()), gc.get_threshold()[0])
gc.collect()
cycle = []
cycle.append(cycle)
del cycle
print(gc.collect())
"""


def _looked_at(first: str) -> list[int]:
    """Objects that a full collection looks at, the threshold, and what it frees of one new cycle."""
    ended = subprocess.run([sys.executable, "-c", _COUNT_LOOKED_AT % first], capture_output=True, text=True, check=True)
    return [int(word) for word in ended.stdout.split()]


@pytest.mark.parametrize(("first", "least", "most"), [("", 50_000, 10**7), ("leave_what_stays()", 1000, 5000)])
def test_the_collector_looks_at_what_came_after_the_start_alone(first: str, least: int, most: int) -> None:
    looked_at, threshold, freed = _looked_at(first)

    assert least < looked_at < most
    assert (threshold > 700) == bool(first)
    assert freed == 1

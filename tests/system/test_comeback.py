"""The command that tells how soon all is well again, with outages of a moment; the long ones are its own."""

from pathlib import Path

import pytest

from tests.system.comeback import Row, measured, table
from tests.system.stack import running_stack


@pytest.mark.timeout(120)
def test_after_every_outage_a_part_is_stored_and_every_gateway_ends(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        rows = list(measured(stack, rounds=1, lasting=0.3, limit_seconds=3))

    print(table(rows))
    assert len(rows) == 5 + 3
    assert all(seconds > 0 for row in rows for seconds in row.seconds)


def test_a_row_tells_whether_its_longest_time_is_within_reach() -> None:
    told = table([Row("quick", [0.5, 1.0, 0.1], 1), Row("slow", [0.5, 1.1], 1)])

    assert "| quick | 0.50 | 1.00 | 1 | yes |" in told
    assert "| slow | 0.80 | 1.10 | 1 | **no** |" in told

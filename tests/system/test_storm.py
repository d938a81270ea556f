"""Row 94 of the fault matrix, short: every fault at random. The long storm is a command: tests/system/storm.py."""

from pathlib import Path

import pytest

from tests.system.neighbours import MODERATE
from tests.system.storm import storm

SECONDS = 10
CLIENTS = 3
SEED = 94


@pytest.mark.promise(1, 2, 5, 8, 13, 16, 18)
@pytest.mark.timeout(180)
def test_b94_in_a_storm_of_faults_every_upload_ends_well(tmp_path: Path) -> None:
    report = storm(tmp_path, SECONDS, CLIENTS, SEED, MODERATE)

    print(report)
    assert sum(report.ended.values()) == report.started > CLIENTS
    assert set(report.ended) <= {"success", "canceled"}
    assert report.faults
    assert {"tail", "options", "websocket", "dear"} <= set(report.felt.deeds)

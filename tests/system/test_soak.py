"""The soak, very short: that it works, and what it reckons with. The long one is a command: tests/system/soak.py."""

import random
from itertools import accumulate
from pathlib import Path

import pytest

from tests.system.soak import LAG, soak
from tests.system.soak_clients import KINDS
from tests.system.soak_samples import fitted, quantile

SECONDS = 6
SEED = 5


@pytest.mark.timeout(120)
def test_in_a_short_soak_every_answer_is_as_expected_and_the_figures_are_told(tmp_path: Path) -> None:
    report = soak(tmp_path, SECONDS, SEED)

    print(report)
    assert report.tally.failures == []
    assert report.tally.uploads.keys() == KINDS.keys()
    assert report.tally.stored_bytes > 0
    assert report.last.descriptor_count <= report.first.descriptor_count + 40
    assert report.growth().mean > 0
    assert report.lag_p99_seconds > 0
    assert "loop lag p99" in str(report)


def test_a_line_through_noise_tells_its_rise_and_how_sure_it_is_of_it() -> None:
    chance = random.Random(1)
    line = fitted(range(1000), [50 + 0.25 * at + chance.gauss(0, 10) for at in range(1000)])

    assert abs(line.slope - 0.25) < 3 * line.slope_error
    assert 0.0005 < line.slope_error < 0.002


def test_neighbours_that_resemble_each_other_make_a_line_less_sure() -> None:
    chance = random.Random(2)
    noise = [chance.gauss(0, 1) for _ in range(1000)]
    walk = [*accumulate(noise, lambda level, step: 0.95 * level + step)]

    assert fitted(range(1000), walk).slope_error > 5 * fitted(range(1000), noise).slope_error


def test_a_quantile_is_reckoned_from_what_came_between_two_readings() -> None:
    def reading(*counts: float) -> dict[str, float]:
        return {f'{LAG}_bucket{{le="{le}"}}': count for le, count in zip(("0.01", "0.03", "+Inf"), counts, strict=True)}

    before, after = reading(1000, 1000, 1000), reading(1090, 1100, 1100)

    assert quantile(0.95, before, after, LAG) == pytest.approx(0.02)
    assert quantile(0.5, before, after, LAG) == pytest.approx(0.01 * 50 / 90)
    assert quantile(0.99, {}, reading(0, 0, 10), LAG) == 0.03

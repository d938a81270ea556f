import asyncio
import logging
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.loop_watch import LoopWatch
from gateway.telemetry import Metrics


def sample(metrics: Metrics, name: str) -> float:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


class Noted(Metrics):
    """Tells when the first value has been entered."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()

    def observe(self, name: str, value: float, *labels: str) -> None:
        super().observe(name, value, *labels)
        self.entered.set()


async def watched(metrics: Noted, stalled_seconds: float, block_seconds: float) -> None:
    """Block the loop once while it is watched, and let it go on."""
    watching = asyncio.create_task(LoopWatch(metrics, stalled_seconds=stalled_seconds).run())
    await asyncio.sleep(0)
    stand_still(block_seconds)
    await metrics.entered.wait()
    watching.cancel()


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_blocked_loop_shows_in_its_lag() -> None:
    metrics = Noted()

    await watched(metrics, stalled_seconds=10, block_seconds=0.35)

    assert sample(metrics, "gateway_loop_lag_seconds_sum") >= 0.09
    assert sample(metrics, "gateway_loop_stalls_total") == 0


async def test_b16_a_loop_that_stands_still_is_counted_and_logged_once_with_its_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Noted()
    with caplog.at_level(logging.ERROR, "gateway.loop_watch"):
        await watched(metrics, stalled_seconds=0.1, block_seconds=1.0)

    [record] = caplog.records
    assert record.message == "the event loop stands still"
    assert "stand_still" in vars(record)["stack"]
    assert sample(metrics, "gateway_loop_stalls_total") == 1

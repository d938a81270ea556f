import asyncio
from dataclasses import dataclass, field

from gateway.gauges import Gauges
from gateway.telemetry import Metrics
from tests.test_telemetry import samples


@dataclass
class Noted:
    """Called each time the gauges are looked at."""

    metrics: Metrics
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self) -> None:
        self.metrics.put("gateway_cos_pace_share", 0.7, "files-1250000000")
        self.called.set()


async def test_what_is_only_known_by_looking_is_looked_at() -> None:
    metrics, used = Metrics(), 5
    noted = Noted(metrics)
    gauges = Gauges(metrics, {"gateway_bodies_in_flight": lambda: used}, (noted.report,))
    running = asyncio.create_task(gauges.run())
    await noted.called.wait()
    assert samples(metrics.exposition())["gateway_bodies_in_flight",] == 5

    used = 2
    gauges.look()
    running.cancel()

    found = samples(metrics.exposition())
    assert found["gateway_bodies_in_flight",] == 2
    assert found["gateway_cos_pace_share", "files-1250000000"] == 0.7
    assert found["gateway_resident_memory_bytes",] > 10_000_000
    assert 3 <= found["gateway_open_files",] < found["gateway_open_files_limit",]

"""Numbers that are only known by looking: entered each second."""

import asyncio
import contextlib
import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gateway.telemetry import Metrics

EVERY_SECONDS: Final = 1.0
_STATM: Final = Path("/proc/self/statm")
_DESCRIPTORS: Final = "/proc/self/fd"
_PAGE_BYTES: Final = resource.getpagesize()


class Gauges:
    """Looks at *looks*, by gauge, and at the process itself; ``run`` runs as long as the process serves.

    Args:
        reports: called each time besides; they enter gauges with labels of their own.
    """

    def __init__(
        self, metrics: Metrics, looks: Mapping[str, Callable[[], float]], reports: tuple[Callable[[], None], ...] = ()
    ) -> None:
        self._metrics = metrics
        self._looks = looks
        self._reports = reports

    async def run(self) -> None:
        """Look each second until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_SECONDS)

    def look(self) -> None:
        """Enter all gauges as they are now."""
        for name, look in self._looks.items():
            self._metrics.put(name, look())
        with contextlib.suppress(OSError):  # where there is no /proc
            self._metrics.put("gateway_resident_memory_bytes", int(_STATM.read_text().split()[1]) * _PAGE_BYTES)
            self._metrics.put("gateway_open_files", len(os.listdir(_DESCRIPTORS)))
        self._metrics.put("gateway_open_files_limit", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        for report in self._reports:
            report()

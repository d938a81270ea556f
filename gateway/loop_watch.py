"""Watches the event loop: how late it is, and, from a thread beside it, where it stands when it does not turn."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from typing import Final

from gateway.telemetry import Metrics

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.25
STALLED_SECONDS: Final = 1.0


class LoopWatch:
    """``run`` runs as long as the process serves.

    Args:
        stalled_seconds: a loop that does not turn for so long is told of, with its stack, once until it turns again.
    """

    def __init__(self, metrics: Metrics, *, stalled_seconds: float = STALLED_SECONDS) -> None:
        self._metrics = metrics
        self._stalled_seconds = stalled_seconds
        self._turned_at = 0.0
        self._thread_id = 0
        self._over = threading.Event()

    async def run(self) -> None:
        """Measure until cancelled."""
        self._turned_at, self._thread_id = time.monotonic(), threading.get_ident()
        threading.Thread(target=self._look, name="loop watch", daemon=True).start()
        try:
            while True:
                due = time.monotonic() + LOOK_SECONDS
                await asyncio.sleep(LOOK_SECONDS)
                self._turned_at = time.monotonic()
                self._metrics.observe("gateway_loop_lag_seconds", max(0.0, self._turned_at - due))
        finally:
            self._over.set()

    def _look(self) -> None:
        told_of = 0.0
        while not self._over.wait(self._stalled_seconds / 4):
            turned_at = self._turned_at
            still = time.monotonic() - turned_at - LOOK_SECONDS
            if still > self._stalled_seconds and turned_at != told_of:
                told_of = turned_at
                self._tell(still)

    def _tell(self, seconds: float) -> None:
        self._metrics.count("gateway_loop_stalls_total")
        frame = sys._current_frames().get(self._thread_id)
        stack = "" if frame is None else "".join(traceback.format_stack(frame))
        log.error("the event loop stands still", extra={"seconds": round(seconds, 1), "stack": stack})

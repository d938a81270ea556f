"""Work that outlives the request that began it: COS and Redis calls are never cancelled from outside."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class OwnedTasks:
    """Runs coroutines to their end whatever becomes of the request that waits for them.

    Each one has its own deadline inside. ``drain`` waits for all of them at shutdown.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Run *work*; its outcome may be awaited through ``asyncio.shield``, and is logged if it fails unexpectedly."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("%s ended: %s", task.get_name(), error.__class__.__name__)

    async def drain(self, timeout_seconds: float) -> int:
        """Wait for what runs; return how much still does after *timeout_seconds*."""
        if not self._running:
            return 0
        _, pending = await asyncio.wait(self._running, timeout=timeout_seconds)
        return len(pending)

"""Work that outlives the request that began it: COS and Redis calls are never cancelled from outside."""

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.collector import let_go
from gateway.domain.errors import GatewayError
from gateway.telemetry import COS_REQUEST_ID

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

    def start(
        self, work: Coroutine[Any, Any, T], name: str, context: contextvars.Context | None = None
    ) -> "asyncio.Task[T]":
        """Run *work*; its outcome may be awaited through ``asyncio.shield``, and is logged if it fails unexpectedly."""
        task = asyncio.create_task(work, name=name, context=context)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def finish(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """What *work* gives; it goes on without whoever waits for it, should that be cancelled.

        COS's request id comes back with it, so that the request's own log line can name it.
        """
        context = contextvars.copy_context()
        try:
            return await asyncio.shield(self.start(work, name, context))
        finally:
            COS_REQUEST_ID.set(context.get(COS_REQUEST_ID))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        try:
            task.result()  # not ``exception()``: a task that was not asked so keeps the traceback
        except asyncio.CancelledError:
            return
        except GatewayError as error:
            log.debug("%s ended: %s", task.get_name(), error.code)
            let_go(error)
        except BaseException as error:
            log.exception("%s failed", task.get_name())
            let_go(error)

    async def drain(self, timeout_seconds: float) -> int:
        """Wait for what runs, and for what that starts; return how much still runs after *timeout_seconds*."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        return len(self._running)

"""What load balancers, orchestrators and Prometheus ask.

Ready means that Redis answers and the process is not draining. COS's state is told in the body only: one COS brown-out
would otherwise take every replica out of service.
"""

import asyncio
import platform
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import VERSION
from gateway.domain.errors import Draining, StateStoreUnavailable
from gateway.telemetry import EXPOSITION_TYPE, Metrics
from gateway.transfer.ports import TaskStore
from gateway.web.drain import Drain

_NO_STORE = {"Cache-Control": "no-store"}


class HealthRoutes:
    """The probes for the public listener, version and metrics for the admin listener.

    Args:
        tasks: pinged for readiness; within 2 s it answers or raises.
        metrics: what ``/metrics`` shows.
        drain: whether this process is on its way out; without it it never is.
        cos_state: one word on COS, for people.
        redis_state: one word on a Redis that answers: ``ok``, or ``full`` when it takes nothing new.
    """

    def __init__(
        self,
        tasks: TaskStore,
        metrics: Metrics,
        drain: Drain | None = None,
        *,
        cos_state: Callable[[], str] = lambda: "unknown",
        redis_state: Callable[[], str] = lambda: "ok",
    ) -> None:
        self._tasks = tasks
        self._metrics = metrics
        self._drain = drain or Drain()
        self._cos_state = cos_state
        self._redis_state = redis_state

    def public_routes(self) -> list[Route]:
        """``/livez`` and ``/readyz``."""
        return [Route("/livez", self.live, methods=["GET"]), Route("/readyz", self.ready, methods=["GET"])]

    def admin_routes(self) -> list[Route]:
        """The probes, ``/version`` and ``/metrics``."""
        return [
            *self.public_routes(),
            Route("/version", self.version, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def live(self, request: Request) -> Response:
        """200 while the event loop turns."""
        del request
        return JSONResponse({"status": "live"}, headers=_NO_STORE)

    async def ready(self, request: Request) -> Response:
        """200 when requests are welcome. Raises Draining or StateStoreUnavailable when they are not."""
        del request
        cos = self._cos_state()
        if self._drain.is_unready:
            raise Draining("This process is shutting down.", cos_state=cos)
        try:
            await self._tasks.ping()
        except StateStoreUnavailable as error:
            raise StateStoreUnavailable(error.detail, cos_state=cos) from error
        return JSONResponse({"status": "ready", "redis": self._redis_state(), "cos_state": cos}, headers=_NO_STORE)

    async def version(self, request: Request) -> Response:
        """Which gateway this is."""
        del request
        return JSONResponse({"version": VERSION, "python": platform.python_version()}, headers=_NO_STORE)

    async def metrics(self, request: Request) -> Response:
        """Every metric of every worker, in Prometheus's text format."""
        del request
        text = await asyncio.to_thread(self._metrics.exposition)  # 20 ms for 100 KB, which requests need not wait for
        return Response(text, headers={**_NO_STORE, "Content-Type": EXPOSITION_TYPE})

from typing import cast

import httpx
import pytest
from starlette.applications import Starlette

from gateway import VERSION
from gateway.domain.errors import StateStoreUnavailable
from gateway.telemetry import Metrics
from gateway.transfer.ports import TaskStore
from gateway.web.drain import Drain
from gateway.web.health_routes import HealthRoutes
from gateway.web.problems import exception_handlers


class Redis:
    """The one method of a task store that health asks for."""

    def __init__(self) -> None:
        self.answers = True

    async def ping(self) -> None:
        if not self.answers:
            raise StateStoreUnavailable("Redis does not answer.")


class Scene:
    def __init__(self) -> None:
        self.redis = Redis()
        self.metrics = Metrics()
        self.drain = Drain()
        health = HealthRoutes(cast(TaskStore, self.redis), self.metrics, self.drain, cos_state=lambda: "slow")
        self.public = Starlette(routes=health.public_routes(), exception_handlers=exception_handlers())
        self.admin = Starlette(routes=health.admin_routes(), exception_handlers=exception_handlers())

    async def ask(self, path: str, *, admin: bool = False) -> httpx.Response:
        transport = httpx.ASGITransport(self.admin if admin else self.public)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.get(path)


async def test_ready_while_redis_answers_whatever_cos_does() -> None:
    answer = await Scene().ask("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "redis": "ok", "cos_state": "slow"}
    assert answer.headers["cache-control"] == "no-store"


async def test_f12_a_full_redis_is_told_and_takes_nobody_out_of_service() -> None:
    """Its users relieve it, and can do so only while they are let in."""
    health = HealthRoutes(cast(TaskStore, Redis()), Metrics(), redis_state=lambda: "full")
    app = Starlette(routes=health.public_routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["redis"]) == (200, "full")


async def test_nothing_is_known_of_cos_unless_somebody_tells() -> None:
    health = HealthRoutes(cast(TaskStore, Redis()), Metrics())
    app = Starlette(routes=health.public_routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        assert (await client.get("/readyz")).json()["cos_state"] == "unknown"


async def test_not_ready_without_redis_but_alive() -> None:
    scene = Scene()
    scene.redis.answers = False

    answer = await scene.ask("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "state_store_unavailable")
    assert answer.json()["cos_state"] == "slow"
    assert (await scene.ask("/livez")).status_code == 200


async def test_not_ready_while_draining_but_alive() -> None:
    scene = Scene()
    scene.drain.is_unready = True

    answer = await scene.ask("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "server_draining")
    assert (await scene.ask("/livez")).status_code == 200


async def test_the_admin_listener_tells_the_version_and_the_metrics() -> None:
    scene = Scene()
    scene.metrics.count("gateway_parts_stored_total", by=3)

    version, metrics = await scene.ask("/version", admin=True), await scene.ask("/metrics", admin=True)

    assert version.json()["version"] == VERSION
    assert "gateway_parts_stored_total 3.0" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("path", ["/metrics", "/version", "/docs", "/debug"])
async def test_the_public_listener_tells_neither(path: str) -> None:
    assert (await Scene().ask(path)).status_code == 404

"""The composition root: builds every object and wires the doors. Imports all but `serving`, which serves them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config import Settings
from gateway.cos.addresses import RangedResolver
from gateway.cos.client import CosClient
from gateway.cos.exchange import CosLimits
from gateway.cos.transport import AiohttpTransport
from gateway.domain.errors import NotFound, UpgradeNotSupported
from gateway.from_settings import (
    admission_limits_of,
    allowed_hosts_of,
    authenticator_of,
    credentials_of,
    destinations_of,
    sealer_of,
)
from gateway.gauges import Gauges
from gateway.heap_watch import HeapWatch
from gateway.loop_watch import LoopWatch
from gateway.observer import Observer
from gateway.store.batch_store import RedisBatchStore
from gateway.store.ledgers import Shares
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_address import connect
from gateway.store.redis_watch import RedisWatch
from gateway.store.revocations import RedisRevocations
from gateway.store.task_quota import RedisTaskQuota
from gateway.store.task_store import RedisTaskStore
from gateway.telemetry import Metrics
from gateway.transfer.batch_slots import BatchSlots
from gateway.transfer.batches import Batches
from gateway.transfer.bodies_in_flight import BodiesInFlight
from gateway.transfer.completion import Completion
from gateway.transfer.control import Control
from gateway.transfer.engine import Engine
from gateway.transfer.object_calls import ObjectCalls
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.process_memory import ProcessMemory
from gateway.transfer.recovery import held_parts
from gateway.transfer.relay import PartRelay
from gateway.transfer.replay import ReplayBudget
from gateway.transfer.sequential import SequentialRelay
from gateway.transfer.uploads import Uploads
from gateway.transfer.whole_files import WholeFiles
from gateway.upkeep import Upkeep, kept_running, webhook_receivers
from gateway.web.admin_door import AdminDoor
from gateway.web.admission import Admission
from gateway.web.batch_routes import BatchRoutes
from gateway.web.console_routes import console_routes
from gateway.web.cos_building import build_cos_door
from gateway.web.cos_keys import KeyIssuer
from gateway.web.drain import Drain
from gateway.web.file_routes import FileRoutes
from gateway.web.gate import Gate
from gateway.web.health_routes import HealthRoutes
from gateway.web.key_routes import KeyRoutes
from gateway.web.object_routes import ObjectRoutes
from gateway.web.passage import Passage
from gateway.web.problems import exception_handlers
from gateway.web.progress_fanout import Sources, Timing
from gateway.web.progress_socket import ProgressSockets
from gateway.web.task_document import TaskDocuments, listed_document
from gateway.web.task_routes import TaskRoutes
from gateway.web.upload_routes import UploadRoutes

log = logging.getLogger(__name__)

OWNED_DRAIN_SECONDS: Final = 30.0


class Gateway:
    """One process of the gateway: its objects, built from *settings*, and its doors."""

    def __init__(self, settings: Settings, drain: Drain | None = None) -> None:
        self.settings = settings
        self._drain = drain or Drain()
        self.metrics = Metrics(settings.metrics_dir)
        self._observer = Observer(self.metrics)
        self._redis = connect(settings.redis_url.get_secret_value())
        self._shares = Shares(settings.state_per_subject_bytes, settings.tasks_per_subject_count)
        self._tasks = RedisTaskStore(
            self._redis,
            ttl_seconds=settings.task_ttl_seconds,
            observe=self._observer.redis,
            observe_move=self._observer.move,
            intent_seconds=settings.intent_seconds,
            announced=frozenset(webhook_receivers(settings)),
            on_notice=lambda task_id, due: self._upkeep.wake(task_id, due),
            held=lambda task: held_parts(self._objects, task),
            shares=self._shares,
        )
        self._bus = RedisProgressBus(self._redis)
        self._redis_watch = RedisWatch(
            self._redis, lambda count: self.metrics.count("gateway_redis_evicted_keys_total", by=count), self._shares
        )
        self._objects = CosClient(
            credentials_of(settings),
            endpoint=settings.cos_endpoint or None,
            transport=AiohttpTransport(
                connection_limit=settings.cos_connections_count, resolver=RangedResolver(settings.cos_address_ranges)
            ),
            observe=self._observer.cos,
            metrics=self.metrics,
            limits=CosLimits(
                settings.cos_connect_seconds,
                settings.cos_stall_seconds,
                settings.cos_answer_seconds,
                settings.cos_complete_seconds,
            ),
        )
        self._owned = OwnedTasks()
        bodies = BodiesInFlight(self._tasks, self._bus)
        self._batches = RedisBatchStore(
            self._redis,
            ttl_seconds=settings.task_ttl_seconds,
            observe=self._observer.redis,
            shares=self._shares,
        )
        self._slots = BatchSlots(self._batches, self._tasks, bodies)
        budget = ReplayBudget(
            settings.replay_budget_bytes, on_short=lambda: self.metrics.count("gateway_replay_short_total")
        )
        self.memory = ProcessMemory.of(
            settings.memory_budget_bytes, lambda of: self.metrics.count("gateway_memory_short_total", of)
        )
        self._admission = Admission(
            authenticator_of(settings),
            admission_limits_of(settings),
            RedisRevocations(self._redis, settings.token_life_seconds),
            recheck_seconds=settings.token_recheck_seconds,
            memory=self.memory,
        )
        self._engine = Engine(
            self._tasks,
            self._objects,
            bodies,
            budget,
            self._owned,
            self._slots,
            destinations_of(settings),
            ack_without_state=settings.ack_without_state,
            costs=self._admission.spending,
        )
        self._completion = Completion(self._tasks, self._objects, self._owned, settings.complete_wait_seconds)
        self._upkeep = Upkeep(
            settings,
            self._redis,
            self._tasks,
            self._engine,
            self._completion,
            destinations_of(settings),
            metrics=self.metrics,
        )
        self.public, self.cos, self.admin = self._doors()

    def _doors(self) -> tuple[Passage, Passage, ASGIApp]:
        settings, engine, completion = self.settings, self._engine, self._completion
        sequential = SequentialRelay(engine, completion)
        destinations = destinations_of(settings)
        control = Control(
            engine,
            completion,
            sequential,
            destinations,
            task_ttl_seconds=settings.task_ttl_seconds,
            quota=RedisTaskQuota(self._redis, self._tasks.ledgers, self._tasks.load_many),
        )
        admission, sealer = self._admission, sealer_of(settings)
        documents = TaskDocuments(sealer)
        health = HealthRoutes(
            self._tasks,
            self.metrics,
            self._drain,
            cos_state=lambda: self._observer.cos_state,
            redis_state=self._redis_watch.state,
        )
        tasks = TaskRoutes(admission, control, PartRelay(engine), sequential, documents, sealer, settings)
        whole_files = WholeFiles(control, sequential)
        files = FileRoutes(admission, control, whole_files, documents, settings)
        uploads = UploadRoutes(admission, Uploads(engine, control), control, documents, destinations)
        batches = Batches(self._batches, self._tasks, control, self._owned, admission.spending)
        objects = ObjectRoutes(admission, whole_files, ObjectCalls(engine, destinations), documents, settings)
        issuer = KeyIssuer(sealer, destinations)
        sources = Sources(
            self._tasks,
            self._bus,
            listed_document,
            self.memory.callers,
            batches.tasks_of,
            Timing(unsent=settings.answer_stall_seconds),
        )
        sockets = ProgressSockets(
            admission, sources, settings.sockets_per_subject_count, total_count=settings.sockets_count
        )
        routes: list[BaseRoute] = [
            *files.routes(),  # the routes are tried in turn: the busiest first
            *tasks.routes(),
            *objects.routes(),
            *uploads.routes(),
            *BatchRoutes(admission, batches, documents, settings).routes(),
            *KeyRoutes(admission, issuer).routes(),
            *sockets.routes(),
            *health.public_routes(),
            *console_routes(),
        ]
        admin = AdminDoor(_answering(health.admin_routes()), allowed_hosts_of(settings))
        gate = Gate(
            _answering(routes),
            allowed_hosts=allowed_hosts_of(settings),
            allowed_origins=settings.allowed_origins,
            metrics=self.metrics,
            drain=self._drain,
            turned_away=admission.turned_away,
            memory=self.memory,
        )
        cos = build_cos_door(
            engine,
            completion,
            sequential,
            control,
            destinations,
            issuer,
            admission,
            fields_seconds=settings.head_seconds,
            allowed_hosts=allowed_hosts_of(settings) | {place.bucket.host for place in destinations.all},
            allowed_origins=settings.allowed_origins,
            metrics=self.metrics,
            drain=self._drain,
        )
        return Passage(gate, "rest"), Passage(cos, "cos"), admin

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything that runs beside requests; at the end, what COS and Redis calls still run are waited for."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._redis.aclose)
            stack.push_async_callback(self._objects.aclose)
            await self._bus.start()
            await self._admission.look()
            stack.push_async_callback(self._bus.aclose)
            stack.push_async_callback(self._drain_owned)
            stack.push_async_callback(self._upkeep.aclose)
            works = (
                *self._upkeep.works(),
                self._redis_watch.run,
                self._admission.run,
                self._engine.bodies.run,
                self._slots.run,
                LoopWatch(self.metrics).run,
                HeapWatch(self._used_bytes).run,
                self._gauges().run,
            )
            for work in works:
                beside = asyncio.create_task(kept_running(work))
                stack.push_async_callback(_cancelled, beside)
            yield

    @property
    def bodies_count(self) -> int:
        """How many bodies are being received, those of strangers among them, or go on to COS."""
        received = len(self._admission.receptions) + len(self._admission.strangers)
        return max(received, len(self._engine.bodies))

    async def _drain_owned(self) -> None:
        left = await self._owned.drain(self._drain.seconds_left(OWNED_DRAIN_SECONDS))
        if left:
            log.warning(
                "calls to COS or Redis are given up, nobody was told that they succeeded", extra={"calls": left}
            )

    def _gauges(self) -> Gauges:
        engine, passages = self._engine, (self.public, self.cos)
        looks: dict[str, Callable[[], float]] = {
            "gateway_replay_budget_bytes": lambda: engine.budget.used_bytes,
            "gateway_replay_budget_limit_bytes": lambda: engine.budget.limit_bytes,
            "gateway_bodies_in_flight": lambda: self.bodies_count,
            "gateway_body_bytes_in_flight": lambda: sum(passage.announced_bytes for passage in passages),
            "gateway_calls_in_flight": lambda: len(engine.owned),
            "gateway_completion_oldest_seconds": self._completion.oldest_seconds,
            "gateway_redis_servers_down": self._redis_watch.servers_down,
            "gateway_redis_memory_share": self._redis_watch.memory_share,
            "gateway_draining": lambda: self._drain.closes,
        }
        return Gauges(self.metrics, looks, (self._objects.report, self._report_memory))

    def _used_bytes(self) -> int:
        held = sum(budget.used_bytes for _, budget in self.memory.budgets())
        return held + self._engine.budget.used_bytes

    def _report_memory(self) -> None:
        for name, budget in self.memory.budgets():
            self.metrics.put("gateway_memory_budget_bytes", budget.used_bytes, name)
            self.metrics.put("gateway_memory_budget_limit_bytes", budget.limit_bytes, name)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _answering(routes: Sequence[BaseRoute]) -> Starlette:
    """*routes* as they are written. A redirect to a path's other spelling is no problem document, and behind a proxy
    that ends TLS it would name http."""
    app = Starlette(routes=routes, exception_handlers=exception_handlers())
    app.router.redirect_slashes = False
    app.router.default = _nowhere
    return app


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Where no route leads. Starlette itself would close a websocket with a 403 that tells nothing."""
    if scope["type"] == "websocket":
        raise UpgradeNotSupported("Only the progress routes are websockets.")
    raise NotFound

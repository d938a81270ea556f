"""The composition root: builds every object, wires the doors, and serves them. Imports all, imported by none."""

import asyncio
import contextlib
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from gateway.config import Settings, load_settings
from gateway.config_values import ListenAddress
from gateway.cos.client import CosClient
from gateway.cos.credentials import CredentialSource, FileCredentials, FixedCredentials
from gateway.cos.exchange import CosLimits
from gateway.cos.signing import Credentials
from gateway.cos.transport import AiohttpTransport
from gateway.domain.objects import Bucket
from gateway.domain.policy import Destination, Destinations
from gateway.malloc import keep_large_buffers
from gateway.store.batch_store import RedisBatchStore
from gateway.store.progress_bus import RedisProgressBus
from gateway.store.redis_calls import connect
from gateway.store.task_store import RedisTaskStore
from gateway.telemetry import Metrics, configure_logging, metrics_folder, watch_loop_lag
from gateway.transfer.batch_slots import BatchSlots
from gateway.transfer.batches import Batches
from gateway.transfer.bodies_in_flight import BodiesInFlight
from gateway.transfer.completion import Completion
from gateway.transfer.control import Control
from gateway.transfer.engine import Engine
from gateway.transfer.object_calls import ObjectCalls
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.relay import PartRelay
from gateway.transfer.replay import ReplayBudget
from gateway.transfer.sequential import SequentialRelay
from gateway.transfer.uploads import Uploads
from gateway.transfer.whole_files import WholeFiles
from gateway.web.auth import Authenticator
from gateway.web.batch_routes import BatchRoutes
from gateway.web.console_routes import console_routes
from gateway.web.cos_building import build_cos_door
from gateway.web.cos_keys import KeyIssuer
from gateway.web.file_routes import FileRoutes
from gateway.web.gate import Gate
from gateway.web.health_routes import HealthRoutes
from gateway.web.http_edge import HttpEdge
from gateway.web.key_routes import KeyRoutes
from gateway.web.object_routes import ObjectRoutes
from gateway.web.problems import exception_handlers
from gateway.web.progress_socket import ProgressSockets
from gateway.web.sealing import Sealer
from gateway.web.task_document import TaskDocuments
from gateway.web.task_routes import TaskRoutes
from gateway.web.upload_routes import UploadRoutes

KEEP_ALIVE_SECONDS: Final = 75
HEAD_BYTES: Final = 16 * 1024
SOCKET_MESSAGE_BYTES: Final = 4096
BACKLOG: Final = 2048
SEND_BUFFER_BYTES: Final = 64 * 1024
OWNED_DRAIN_SECONDS: Final = 30.0
GAUGE_SECONDS: Final = 1.0
_STORING: Final = frozenset({"put_object", "upload_part", "append_object"})


class Gateway:
    """One process of the gateway: its objects, built from *settings*, and its doors."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.metrics_dir)
        self._redis = connect(settings.redis_url.get_secret_value())
        self._tasks = RedisTaskStore(
            self._redis,
            ttl_seconds=settings.task_ttl_seconds,
            observe=lambda call, seconds: self.metrics.observe("gateway_redis_call_seconds", seconds, call),
            observe_move=lambda event, state: self.metrics.count("gateway_task_transitions_total", event, state),
        )
        self._bus = RedisProgressBus(self._redis)
        self._objects = CosClient(
            _credentials(settings),
            endpoint=settings.cos_endpoint or None,
            transport=AiohttpTransport(connection_limit=settings.cos_connections_count),
            observe=self._observe_cos,
            observe_retry=lambda operation: self.metrics.count("gateway_cos_retries_total", operation),
            limits=CosLimits(settings.cos_connect_seconds, settings.cos_stall_seconds, settings.cos_answer_seconds),
        )
        self._cos_state = "unknown"
        self._owned = OwnedTasks()
        bodies = BodiesInFlight(self._tasks, self._bus)
        self._batches = RedisBatchStore(
            self._redis,
            ttl_seconds=settings.task_ttl_seconds,
            observe=lambda call, seconds: self.metrics.observe("gateway_redis_call_seconds", seconds, call),
        )
        self._slots = BatchSlots(self._batches, self._tasks, bodies)
        budget = ReplayBudget(settings.replay_budget_bytes)
        self._engine = Engine(self._tasks, self._objects, bodies, budget, self._owned, self._slots)
        self.public, self.cos, self.admin = self._doors()

    def _observe_cos(self, operation: str, status: int, seconds: float, sent_bytes: int) -> None:
        metrics = self.metrics
        self._cos_state = "ok" if 0 < status < 500 else "failing"
        metrics.count("gateway_cos_calls_total", operation, str(status))
        if sent_bytes:
            metrics.count("gateway_cos_bytes_total", by=sent_bytes)
        if status == 200 and operation in _STORING:
            metrics.count("gateway_parts_stored_total")
            metrics.observe("gateway_part_seconds", seconds)

    def _doors(self) -> tuple[ASGIApp, ASGIApp, ASGIApp]:
        settings, engine = self.settings, self._engine
        completion = Completion(self._tasks, self._objects, self._owned, settings.complete_wait_seconds)
        sequential = SequentialRelay(engine, completion)
        destinations = _destinations(settings)
        control = Control(
            engine,
            completion,
            sequential,
            destinations,
            task_ttl_seconds=settings.task_ttl_seconds,
            max_file_bytes=settings.max_file_size_bytes,
        )
        auth, sealer = _authenticator(settings), _sealer(settings)
        documents = TaskDocuments(sealer)
        health = HealthRoutes(self._tasks, self.metrics, cos_state=lambda: self._cos_state)
        tasks = TaskRoutes(auth, control, PartRelay(engine), sequential, documents, sealer, settings)
        whole_files = WholeFiles(control, sequential)
        files = FileRoutes(auth, control, whole_files, documents, settings)
        uploads = UploadRoutes(auth, Uploads(engine), control, documents, destinations)
        batches = Batches(self._batches, self._tasks, control, self._owned)
        objects = ObjectRoutes(auth, whole_files, ObjectCalls(engine, destinations), documents, settings)
        issuer = KeyIssuer(sealer, destinations)
        most = settings.sockets_per_subject_count
        sockets = ProgressSockets(auth, self._tasks, self._bus, documents.of, most, add_up=batches.totals)
        routes: list[BaseRoute] = [
            *files.routes(),  # the routes are tried in turn: the busiest first
            *tasks.routes(),
            *objects.routes(),
            *uploads.routes(),
            *BatchRoutes(auth, batches, documents, settings).routes(),
            *KeyRoutes(auth, issuer).routes(),
            *sockets.routes(),
            *health.public_routes(),
            *console_routes(),
        ]
        public = Starlette(routes=routes, exception_handlers=exception_handlers())
        admin = Starlette(routes=health.admin_routes(), exception_handlers=exception_handlers())
        gate = Gate(
            public,
            allowed_hosts=_allowed_hosts(settings),
            allowed_origins=settings.allowed_origins,
            metrics=self.metrics,
        )
        cos = build_cos_door(
            engine,
            completion,
            sequential,
            control,
            destinations,
            issuer,
            allowed_hosts=_allowed_hosts(settings) | {place.bucket.host for place in destinations.all},
            allowed_origins=settings.allowed_origins,
            metrics=self.metrics,
        )
        return gate, cos, admin

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything that runs beside requests; at the end, what COS and Redis calls still run are waited for."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._redis.aclose)
            stack.push_async_callback(self._objects.aclose)
            await self._bus.start()
            stack.push_async_callback(self._bus.aclose)
            stack.push_async_callback(self._owned.drain, OWNED_DRAIN_SECONDS)
            works = (self._engine.bodies.run(), self._slots.run(), watch_loop_lag(self.metrics), self._watch_gauges())
            for work in works:
                beside = asyncio.create_task(work)
                stack.push_async_callback(_cancelled, beside)
            yield

    async def _watch_gauges(self) -> None:
        """Enter, each second, what is only known by looking."""
        budget = bodies = 0
        while True:
            self.metrics.add("gateway_replay_budget_bytes", self._engine.budget.used_bytes - budget)
            self.metrics.add("gateway_bodies_in_flight", len(self._engine.bodies) - bodies)
            budget, bodies = self._engine.budget.used_bytes, len(self._engine.bodies)
            await asyncio.sleep(GAUGE_SECONDS)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Picks the door by the port on which a request came in, and runs the gateway for as long as the server lives."""

    gateway: Gateway
    doors: Mapping[int, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self.doors[scope["server"][1]](scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.gateway.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def create() -> ASGIApp:
    """The ASGI application of one process, from the environment."""
    keep_large_buffers()
    settings = load_settings()
    _configure_logging(settings)
    gateway = Gateway(settings)
    doors = {settings.listen.port: gateway.public}
    if settings.cos_listen is not None:
        doors[settings.cos_listen.port] = gateway.cos
    if settings.admin_listen is not None:
        doors[settings.admin_listen.port] = gateway.admin
    return Dispatcher(gateway, doors)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    _raise_file_limit()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(bound) for bound in _bind(settings)]
        if settings.workers > 1:
            os.environ["GATEWAY_METRICS_DIR"] = str(stack.enter_context(metrics_folder(settings.metrics_dir)))
        config = uvicorn.Config(
            "gateway.app:create",
            factory=True,
            workers=settings.workers,
            loop="uvloop",
            http=HttpEdge,
            ws="websockets-sansio",
            ws_max_size=SOCKET_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
            backlog=BACKLOG,
            lifespan="on",  # a failure at the start ends the process instead of serving without its background work
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )
        if settings.workers > 1:
            Multiprocess(config, sockets=sockets).run()
            return 0
        server = uvicorn.Server(config)
        server.run(sockets=sockets)
        return 0 if server.started else 1


def _bind(settings: Settings) -> Iterator[socket.socket]:
    """Listening sockets, and port 0 replaced in the environment by the port that came of it."""
    for name, address in (
        ("GATEWAY_LISTEN", settings.listen),
        ("GATEWAY_COS_LISTEN", settings.cos_listen),
        ("GATEWAY_ADMIN_LISTEN", settings.admin_listen),
    ):
        if address is None:
            continue
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        bound = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
        bound.set_inheritable(True)
        # Accepted sockets inherit it: a watcher who does not read is noticed after this much, not after the usual 4 MB.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        os.environ[name] = str(ListenAddress(address.host, bound.getsockname()[1]))
        yield bound


def _raise_file_limit() -> None:
    """500 clients with their connections to COS need more descriptors than the usual soft limit of 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _configure_logging(settings: Settings) -> None:
    secrets = [settings.token_secret, settings.cos_secret_id, settings.cos_secret_key, settings.cos_session_token]
    secrets += [key.secret for key in settings.seal_keys]
    configure_logging(settings.log_level, secrets=[secret.get_secret_value() for secret in secrets], stream=sys.stderr)


def _credentials(settings: Settings) -> CredentialSource:
    if settings.cos_credentials_file is not None:
        return FileCredentials(settings.cos_credentials_file)
    return FixedCredentials(
        Credentials(
            settings.cos_secret_id.get_secret_value(),
            settings.cos_secret_key.get_secret_value(),
            settings.cos_session_token.get_secret_value() or None,
            None,
        )
    )


def _destinations(settings: Settings) -> Destinations:
    return Destinations(
        tuple(Destination(place.alias, Bucket(place.name, place.region), place.prefix) for place in settings.buckets)
    )


def _authenticator(settings: Settings) -> Authenticator:
    issuer, audience, largest = settings.token_issuer or None, settings.token_audience, settings.max_file_size_bytes
    if settings.token_jwks_file is not None:
        return Authenticator.with_jwks_file(settings.token_jwks_file, audience, issuer, max_size=largest)
    return Authenticator.with_secret(settings.token_secret.get_secret_value(), audience, issuer, max_size=largest)


def _sealer(settings: Settings) -> Sealer:
    keys = {key.id: key.secret.get_secret_value() for key in settings.seal_keys}
    if keys:
        return Sealer(keys, settings.seal_keys[0].id)
    return Sealer.derive_from_secret(settings.token_secret.get_secret_value())


def _allowed_hosts(settings: Settings) -> frozenset[str]:
    """Lower-case host names without ports."""
    if settings.allowed_hosts:
        return frozenset(host.lower() for host in settings.allowed_hosts)
    listens = (settings.listen, settings.cos_listen)
    return frozenset({"localhost", "127.0.0.1", "[::1]", *(at.host.lower() for at in listens if at is not None)})

"""One process that serves, built from the settings: alone, or as one of several workers."""

import atexit
import functools
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import uvicorn

from gateway import tracing
from gateway.app import Gateway
from gateway.collector import leave_what_stays
from gateway.config import Settings
from gateway.log_writer import LogWriter
from gateway.logs import configure_logging
from gateway.malloc import keep_large_buffers
from gateway.serving.doors import Doors
from gateway.serving.listeners import BACKLOG, within_files
from gateway.serving.memory import fitted, memory_limit_bytes, shared_piece_bytes
from gateway.serving.server import Server, WayOut
from gateway.web.drain import Drain
from gateway.web.edge_connections import EdgeConnections, EdgeRules
from gateway.web.edge_deadlines import Deadlines
from gateway.web.http_edge import HttpEdge
from gateway.web.read_budget import ReadBudget

KEEP_ALIVE_SECONDS: Final = 75
HEAD_BYTES: Final = 16 * 1024
SOCKET_MESSAGE_BYTES: Final = 4096
CLOSE_SECONDS: Final = 1
"""For connections without a request, at the very end."""


def build_server(settings: Settings, lines: LogWriter, on_ready: Callable[[], None] = lambda: None) -> Server:
    """A server over a gateway of its own, which counts what *lines* drops; *on_ready* once it takes connections."""
    keep_large_buffers()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold every secret and bytes of files
    settings = within_files(fitted(settings, memory_limit_bytes()))
    drain = Drain()
    edge = EdgeConnections(edge_rules(settings), reads=read_budget_of(settings))

    def open_doors() -> Doors:
        gateway = Gateway(settings, drain)
        edge.metrics = gateway.metrics
        edge.memory = gateway.memory.strangers
        start_tracing(settings)
        lines.observe_dropped = lambda: gateway.metrics.count("gateway_log_lines_dropped_total")
        doors = Doors.of(gateway)
        leave_what_stays()
        return doors

    config = uvicorn.Config(
        open_doors,
        factory=True,  # built inside the running loop
        loop="uvloop",
        http=cast(Any, functools.partial(HttpEdge, drain=drain, edge=edge)),
        ws="websockets-sansio",
        ws_max_size=SOCKET_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        backlog=BACKLOG,
        lifespan="on",  # a failure at the start ends the process instead of serving without its background work
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )
    way_out = WayOut(settings.drain_notice_seconds, settings.drain_seconds)
    return Server(config, drain, way_out, on_ready=on_ready)


def read_budget_of(settings: Settings) -> ReadBudget:
    """What bodies may hold before a lease covers them."""
    return ReadBudget(shared_bytes=shared_piece_bytes(settings.replay_budget_bytes))


def edge_rules(settings: Settings) -> EdgeRules:
    """What *settings* say of connections."""
    return EdgeRules(
        Deadlines(
            settings.head_seconds,
            settings.body_idle_seconds,
            settings.body_min_rate_bytes,
            settings.answer_stall_seconds,
        ),
        connections_count=settings.connections_count,
        per_address_count=settings.connections_per_address_count,
        trusted_proxies=settings.trusted_proxies,
        cos_port=None if settings.cos_listen is None else settings.cos_listen.port,
        admin_port=None if settings.admin_listen is None else settings.admin_listen.port,
    )


def serve_alone(settings: Settings, lines: LogWriter, sockets: list[socket.socket]) -> int:
    """Serve in this process until a signal ends it; the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a process alone cannot be replaced by another
    server = build_server(settings, lines)
    server.run(sockets=sockets)
    return 0 if server.started else 1


def start_tracing(settings: Settings) -> None:
    """Send spans where *settings* say, if anywhere; the last of them when the process ends in order."""
    if settings.otlp_endpoint:
        from gateway.serving.otlp import exporting  # its libraries are an extra

        export, close = exporting(settings.otlp_endpoint)
        tracing.install(export, settings.trace_share)
        atexit.register(close)


def redis_passwords(url: str) -> list[str]:
    """Those in the address of Redis, as they are and as they stand there."""
    parts = urlsplit(url)
    found = [parts.password or "", *(value for name, value in parse_qsl(parts.query) if name.endswith("password"))]
    return [form for password in found for form in (password, unquote(password))]


def start_logging(settings: Settings) -> LogWriter:
    """JSON lines on stderr, without the secrets that *settings* hold."""
    secrets = [settings.token_secret, settings.cos_secret_id, settings.cos_secret_key, settings.cos_session_token]
    secrets += [settings.webhook_secret, *(key.secret for key in settings.seal_keys)]
    revealed = [secret.get_secret_value() for secret in secrets]
    revealed += redis_passwords(settings.redis_url.get_secret_value())
    return configure_logging(settings.log_level, secrets=revealed, stream=sys.stderr)

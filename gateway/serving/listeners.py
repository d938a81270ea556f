"""The listening sockets, bound once and shared by all workers, and the descriptors that connections need."""

import contextlib
import logging
import os
import resource
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.config import Settings
from gateway.config_values import ListenAddress
from gateway.cos.transport import alone_limit

log = logging.getLogger(__name__)

BACKLOG: Final = 2048
SEND_BUFFER_BYTES: Final = 64 * 1024
OWN_FILES: Final = 40
"""Measured: 20 at rest, and as many connections to Redis."""


class CannotStart(OSError):
    """The machine refuses what a setting asks for; the text names both, and the mend."""


def bound(settings: Settings) -> Iterator[socket.socket]:
    """Listening sockets, and port 0 replaced in the environment by the port that came of it.

    Workers share them instead of having sockets of their own (SO_REUSEPORT): those would take the connections that
    wait in their queues along when they end.

    Raises:
        CannotStart: an address is taken, or is not ours.
    """
    for name, address in (
        ("GATEWAY_LISTEN", settings.listen),
        ("GATEWAY_COS_LISTEN", settings.cos_listen),
        ("GATEWAY_ADMIN_LISTEN", settings.admin_listen),
    ):
        if address is None:
            continue
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            listener = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise CannotStart(
                f"{name}: cannot listen on {address} ({error.strerror}): free it, or set another."
            ) from error
        # Accepted sockets inherit it: a watcher who does not read is noticed after this much, not after the usual 4 MB.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        os.environ[name] = str(ListenAddress(address.host, listener.getsockname()[1]))
        yield listener


def inherited(descriptors: Sequence[int]) -> list[socket.socket]:
    """The sockets that a parent handed down."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def raise_file_limit() -> None:
    """500 clients with their connections to COS need more descriptors than the usual soft limit of 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def within_files(settings: Settings) -> Settings:
    """*settings* that let in no more connections than have a descriptor, and one to COS: who is more hears 503."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = max(2, limit - OWN_FILES)
    to_cos = settings.cos_connections_count
    fits = max(left // 2, left - to_cos - alone_limit(to_cos))
    if limit == resource.RLIM_INFINITY or settings.connections_count <= fits:
        return settings
    log.warning(
        "GATEWAY_CONNECTIONS_COUNT is lowered to fit the limit of open files",
        extra={"connections": settings.connections_count, "lowered_to": fits, "limit": limit},
    )
    return settings.model_copy(update={"connections_count": fits})

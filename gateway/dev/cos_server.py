"""Runs the local COS under uvicorn: COS's own header names and dates, and connections that can be cut."""

import socket
import struct
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_TRANSPORT: Final = "local_cos.transport"
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class CuttableProtocol(H11Protocol):
    """uvicorn's h11 protocol, but the app finds its connection's transport in the scope."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app = _with_transport(self.app, transport)


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """How uvicorn runs *app*; *options* are uvicorn's, such as ``host`` and ``port``.

    Server and Date are the app's own, and uvicorn would write them in lower case.
    """
    defaults = {
        "http": CuttableProtocol,
        "ws": "none",
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": 1,
    }
    return uvicorn.Config(app, **{**defaults, **options})


class Connection:
    """The connection that a request came on. Only under :func:`server_config` can it be cut."""

    def __init__(self, scope: Scope) -> None:
        self._transport = scope.get(_TRANSPORT)

    @property
    def closed(self) -> bool:
        """Whether it is known to have ended; while nothing is read, a client's leaving goes unnoticed."""
        return self._transport is not None and self._transport.is_closing()

    def cut(self) -> None:
        """Reset it at once (RST): what was not sent yet is lost."""
        assert self._transport is not None, "this server's connections cannot be cut"
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()


def _with_transport(app: Any, transport: Any) -> ASGIApp:
    async def handed(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, _TRANSPORT: transport}, receive, send)

    return handed

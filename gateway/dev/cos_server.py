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
    defaults = {"server_header": False, "date_header": False, "access_log": False, "log_level": "warning", "ws": "none"}
    return uvicorn.Config(app, http=CuttableProtocol, timeout_graceful_shutdown=1, **{**defaults, **options})


def cut(scope: Scope) -> None:
    """Reset the connection of *scope* at once (RST): what was not sent yet is lost.

    Raises:
        KeyError: the server is not one of :func:`server_config`.
    """
    transport = scope[_TRANSPORT]
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


def _with_transport(app: Any, transport: Any) -> ASGIApp:
    async def handed(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, _TRANSPORT: transport}, receive, send)

    return handed

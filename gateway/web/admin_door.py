"""The operators' door: neither limits nor log lines, but an id for every answer, as at the other doors.

A web page whose name was made to lead here could read the metrics of whoever looks at it. So a Host has to be one that
nobody can register: an address, a name without a dot as on a machine's own network, or one of ours.
"""

import re
import secrets
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.domain.errors import BadHost
from gateway.telemetry import REQUEST_ID
from gateway.web.client_address import read_address
from gateway.web.head_rules import PROBES
from gateway.web.problems import problem_response

_REQUEST_ID_BYTES: Final = 16
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")


class AdminDoor:
    """Pure ASGI around *app*; *allowed_hosts* are names without ports that it answers to besides."""

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(_REQUEST_ID_BYTES)
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        app = self._app
        if scope["type"] == "http" and scope["raw_path"] not in PROBES and not self._answers_to(scope):
            app = problem_response(BadHost("Expected an address, or a host of GATEWAY_ALLOWED_HOSTS."), request_id)
        await app(scope, receive, send_with_id)

    def _answers_to(self, scope: Scope) -> bool:
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        host = _PORT.sub("", hosts[0])
        if host in self._hosts or read_address(host.removeprefix("[").removesuffix("]")) is not None:
            return True
        return "." not in host

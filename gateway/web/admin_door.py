"""The operators' door: neither limits nor log lines, but an id for every answer, as at the other doors."""

import secrets
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.telemetry import REQUEST_ID

_REQUEST_ID_BYTES: Final = 16


class AdminDoor:
    """Pure ASGI around *app*."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(_REQUEST_ID_BYTES)
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        await self._app(scope, receive, send_with_id)

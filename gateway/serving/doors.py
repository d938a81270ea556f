"""One ASGI application for all listeners: it picks the door, and runs the gateway for as long as the server lives."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.app import Gateway


@dataclass(frozen=True, slots=True)
class Doors:
    """Each port's door. Made with ``of``."""

    gateway: Gateway
    by_port: Mapping[int, ASGIApp]

    @classmethod
    def of(cls, gateway: Gateway) -> "Doors":
        """The doors of *gateway*, by the ports in its settings."""
        settings = gateway.settings
        listeners = (
            (settings.listen, gateway.public),
            (settings.cos_listen, gateway.cos),
            (settings.admin_listen, gateway.admin),
        )
        return cls(gateway, {address.port: door for address, door in listeners if address is not None})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self.by_port[scope["server"][1]](scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.gateway.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

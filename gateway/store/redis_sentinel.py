"""Redis behind Sentinel: a new connection asks a Sentinel who the master is, and asks that master whether it is one.

A failover thus needs nothing but to lose the old connections, and Sentinel cuts those of a master that it demotes
(Redis, "Guidelines for Redis clients with support for Sentinel").
"""

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.store.redis_pool import OPTIONS, LendingPool, Place, ask_over

SENTINEL_SECONDS: Final = 0.3
"""How long a Sentinel may take to be connected to: three of them, two dead, fit into one attempt."""


class Sentinels:
    """Asks the Sentinels at *places*, each until it fails or errs, for the master called *name*."""

    def __init__(self, places: Sequence[Place], name: str, options: dict[str, Any]) -> None:
        self._places = list(places)
        self._name = name
        self._options = OPTIONS | {"socket_connect_timeout": SENTINEL_SECONDS} | options
        self._kind: type[Connection] = self._options.pop("connection_class", Connection)

    async def master(self) -> Place:
        """Where the master is. Raises ConnectionError when no Sentinel knows."""
        for place in list(self._places):
            found = await self._ask(place)
            if found is not None:
                return found
            self.distrust(place)
        raise RedisConnectionError("no Sentinel knows the master")

    def distrust(self, place: Place | None = None) -> None:
        """Ask the one at *place*, or the one asked now, last from now on."""
        place = place or self._places[0]
        self._places.remove(place)
        self._places.append(place)

    async def _ask(self, place: Place) -> Place | None:
        connection = self._kind(host=place[0], port=place[1], **self._options)
        try:
            (answer,) = await ask_over(connection, [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)])
        except (RedisError, OSError):
            return None
        finally:
            await connection.disconnect(nowait=True)
        return (answer[0].decode(), int(answer[1])) if isinstance(answer, list) else None


class _ToMaster:
    """Put before a kind of connection: it learns its place when it connects."""

    host: str
    port: int
    is_connected: bool

    def __init__(self, *, sentinels: Sentinels, pool: "SentinelPool", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sentinels = sentinels
        self._pool = pool

    async def connect(self) -> None:
        """Connect to the master. Raises ConnectionError when whom the Sentinels named is none."""
        if self.is_connected:
            return
        self.host, self.port = await self._sentinels.master()
        await super().connect()  # type: ignore[misc]
        (role,) = await ask_over(self, [("ROLE",)])
        if isinstance(role, list) and role[0] != b"master":
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            self._sentinels.distrust()
            raise RedisConnectionError("the Sentinel named a server that is no master")
        await self._pool.found((self.host, self.port))


class _PlainToMaster(_ToMaster, Connection):
    """Over TCP."""


class _SecureToMaster(_ToMaster, SSLConnection):
    """Over TLS."""


class SentinelPool(LendingPool):
    """Connections to whichever server the Sentinels at *places* call the master *name*.

    *options* are for the master's connections, *sentinel_options* for the Sentinels'.
    """

    def __init__(
        self, places: Sequence[Place], name: str, options: dict[str, Any], sentinel_options: dict[str, Any]
    ) -> None:
        secure = options.get("connection_class") is SSLConnection
        given = options | {"connection_class": _SecureToMaster if secure else _PlainToMaster}
        super().__init__(**given, sentinels=Sentinels(places, name, sentinel_options), pool=self)
        self._master: Place | None = None

    def serves(self, connection: Any) -> bool:
        """Whether *connection* leads to the master."""
        return self._master in (None, (connection.host, connection.port))

    async def found(self, master: Place) -> None:
        """The master is at *master*: idle connections to another are closed, and find it when they are used again."""
        moved, self._master = self._master not in (None, master), master
        if moved:
            for idle in list(self._available_connections):
                await idle.disconnect(nowait=True)

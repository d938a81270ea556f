"""Connections to one Redis, lent without redis-py's ceremony, and the asking over them.

Commands go straight to connections of redis-py's pool, without its client: a script takes 25 µs of CPU so instead of
51 µs (the rest is metering and a lock). The client also repeats any write after a late reply (one INCR ran twice). And
with a ``socket_timeout`` redis-py sends through ``asyncio.wait_for``, which costs a task per call and, in Python 3.11,
may swallow a cancellation.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError, RedisError, ResponseError

from gateway.fair_timeout import FairTimeout
from gateway.store.redis_breaker import Breaker

CALL_SECONDS: Final = 1.0
"""How long one attempt may take: to connect and to answer."""

CONNECTIONS: Final = 20
"""Calls take well under a millisecond, so 500 bodies share them; a call waits for a free one."""

_NO_MASTER: Final = (ReadOnlyError, MasterDownError)
"""What only a replica says: whoever connects anew, by the same name, finds the master."""

Place = tuple[str, int]
"""A host and its port."""

Command = tuple[str | bytes | int | float, ...]

OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": None,
    "socket_connect_timeout": CALL_SECONDS,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
}
"""What every connection is made with: it repeats nothing, and times out only as ``ask`` says."""


class LendingPool(ConnectionPool):
    """redis-py's pool, which also lends connections to whoever keeps within ``CONNECTIONS``, and asks over them."""

    keeps_time = True
    """Whether ``ask`` ends within ``CALL_SECONDS``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_connections=2 * CONNECTIONS, **(OPTIONS | kwargs))
        self.breaker = Breaker(self._probe)
        self.turn = asyncio.Semaphore(CONNECTIONS)
        """Held by whoever asks, so that nobody takes more connections than there are."""

    def take(self) -> Any:
        """A connection of ours alone, connected or not."""
        return self.get_available_connection()  # type: ignore[no-untyped-call]

    def give(self, connection: Any) -> None:
        """Return what ``take`` gave."""
        self._in_use_connections.discard(connection)
        self._available_connections.append(connection)

    def serves(self, connection: Any) -> bool:
        """Whether a new connection would lead where *connection* does, as far as is known."""
        del connection
        return True

    def nodes(self) -> "list[LendingPool]":
        """One pool for each server that holds keys, as far as they are known."""
        return [self]

    def admit(self) -> None:
        """Raise RedisDown while Redis is known not to answer."""
        self.breaker.admit()

    async def ask(self, commands: Sequence[Command], *, in_turn: bool = True) -> list[Any]:
        """The answers to *commands*, which one server carries out in turn anyway; an error of Redis is an answer.

        Raises:
            RedisError, OSError: no answer came within ``CALL_SECONDS``; the commands may have been carried out.
        """
        del in_turn
        connection = self.take()
        fresh, began_at = not connection.is_connected, time.monotonic()
        try:
            async with FairTimeout(CALL_SECONDS):
                answers = await ask_over(connection, commands)
        except TimeoutError:
            self.breaker.timed_out(began_at)
            raise
        except asyncio.CancelledError:  # as by whoever gives a call and its repetition less time than two deadlines
            if time.monotonic() - began_at >= CALL_SECONDS:
                self.breaker.timed_out(began_at)
            raise
        except (RedisError, OSError) as error:
            if fresh and not isinstance(error, _NO_MASTER):  # an old connection may be dead where a new one is good
                self.breaker.failed(began_at)
            raise
        finally:
            self.give(connection)
        self.breaker.answered()
        return answers

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close every connection, and look no more whether Redis is back."""
        await self.breaker.aclose()
        await super().disconnect(inuse_connections)

    async def _probe(self) -> None:
        connection = self.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with FairTimeout(CALL_SECONDS):
                await ask_over(connection, [("PING",)])
        finally:
            await connection.disconnect(nowait=True)


async def ask_over(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """The answers to *commands* over *connection*, which is closed when they do not come, or come from a replica."""
    try:
        await connection.connect()
        await send_over(connection, commands)
        answers = [await _answer(connection) for _ in commands]
        for answer in answers:
            if isinstance(answer, _NO_MASTER):
                raise answer
    except BaseException:
        await connection.disconnect(nowait=True)  # or the next call would read this one's answer
        raise
    return answers


async def send_over(connection: Any, commands: Sequence[Command]) -> None:
    """Send *commands* over *connection*.

    Raises:
        RedisError, OSError: it is broken, and closed by then.
    """
    try:
        await connection.send_packed_command(packed(commands), check_health=False)
    except RuntimeError as error:  # what uvloop makes of a connection that was reset while it lay idle
        raise RedisConnectionError("the connection was reset") from error


def packed(commands: Sequence[Command]) -> bytes:
    """*commands* as Redis reads them, in a third of the time that redis-py takes: 1.9 instead of 5.6 µs for a GETEX."""
    pieces: list[bytes] = []
    for words in commands:
        pieces.append(b"*%d\r\n" % len(words))
        for word in words:
            raw = word if isinstance(word, bytes) else str(word).encode()
            pieces.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(pieces)


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error

"""Changes of tasks, told over Redis: one subscription per process, fanned out to its watchers.

The scripts of ``task_store`` publish. Messages may be lost, so they only say which task has which version, and a
connection that was lost tells every watcher to read again.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.domain.task import TaskId
from gateway.store.change_feeds import ControlFeed, Feed, OwnerFeed
from gateway.store.redis_keys import CONTROL_CHANNEL, progress_channel
from gateway.store.redis_pool import CALL_SECONDS, send_over

log = logging.getLogger(__name__)

PING_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 15.0
"""A connection that said nothing for so long, not even an answer to PING, is dead."""

LOOK_SECONDS: Final = 1.0
"""How often the connection is compared with where calls find Redis: after a failover its server may just be silent."""

RECONNECT_SECONDS: Final = (0.0, 0.1, 0.2, 0.5, 1.0)


FeedT = TypeVar("FeedT", bound=Feed)


class _Channel:
    """A channel that somebody watches, or that is being given up."""

    def __init__(self) -> None:
        self.feeds: set[Feed] = set()
        self.confirmed = asyncio.Event()
        """Set while every message reaches the feeds."""
        self.unaware: set[Feed] = set()
        """Feeds to tell, once that is so, that messages may have been lost."""
        self.asked = False
        self.unconfirmed_count = 0

    def subscribing(self) -> None:
        """SUBSCRIBE is about to be sent."""
        self.asked = True
        self.unconfirmed_count += 1

    def unsubscribing(self) -> None:
        """UNSUBSCRIBE is about to be sent."""
        self.asked = False
        self.confirmed.clear()

    def subscribed(self) -> None:
        """Redis confirmed one SUBSCRIBE; it counts when no other was sent after it."""
        self.unconfirmed_count -= 1
        if self.asked and self.unconfirmed_count == 0:
            self.confirmed.set()
            for feed in self.unaware:
                feed.lose()
            self.unaware.clear()

    def disconnected(self) -> None:
        """The connection is gone, and every subscription with it."""
        self.asked = False
        self.unconfirmed_count = 0
        self.confirmed.clear()
        self.unaware |= self.feeds


class RedisProgressBus:
    """The ``ProgressBus`` of ``transfer.ports``. Its one connection is remade within 2 s of its loss.

    *redis* comes from ``redis_address.connect``; the subscription's connection is not one of its pool. Times are
    seconds.
    """

    def __init__(
        self, redis: Redis, *, ping_seconds: float = PING_SECONDS, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._pool: Any = redis.connection_pool
        self._ping_seconds = ping_seconds
        self._silence_seconds = silence_seconds
        self._channels: dict[str, _Channel] = {}
        self._wanted = asyncio.Event()
        self._heard_at = 0.0
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect in the background, and stay connected until ``aclose``."""
        self._keeper = asyncio.create_task(self._stay_connected(), name="progress bus")

    async def aclose(self) -> None:
        """Disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None

    def watch_owner(self, owner: str, only: TaskId | None = None) -> AbstractAsyncContextManager[OwnerFeed]:
        """Changes of every task of *owner*, or of one alone."""
        return self._watch(progress_channel(owner), OwnerFeed(only))

    def watch_control(self) -> AbstractAsyncContextManager[ControlFeed]:
        """Tasks whose bodies in flight may have to end."""
        return self._watch(CONTROL_CHANNEL, ControlFeed())

    @asynccontextmanager
    async def _watch(self, name: str, feed: FeedT) -> AsyncIterator[FeedT]:
        channel = self._channels.setdefault(name, _Channel())
        channel.feeds.add(feed)
        self._wanted.set()
        try:
            await self._until_nothing_is_missed(channel, feed)
            yield feed
        finally:
            channel.feeds.discard(feed)
            channel.unaware.discard(feed)
            self._wanted.set()

    async def _until_nothing_is_missed(self, channel: _Channel, feed: Feed) -> None:
        """Wait until the subscription stands; when that takes too long, the feed is told once it does."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await channel.confirmed.wait()
        except TimeoutError:
            channel.unaware.add(feed)

    async def _stay_connected(self) -> None:
        failure_count = 0
        while True:
            await asyncio.sleep(RECONNECT_SECONDS[min(failure_count, len(RECONNECT_SECONDS) - 1)])
            connection = self._pool.make_connection()
            began_at = time.monotonic()
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await connection.connect()
                await self._serve(connection)
            except (RedisError, OSError) as error:
                log.warning("the subscription to changes was lost: %s", type(error).__name__)
                failure_count = 0 if time.monotonic() - began_at > SILENCE_SECONDS else failure_count + 1
            finally:
                self._forget_subscriptions()
                with contextlib.suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)

    def _forget_subscriptions(self) -> None:
        for name, channel in list(self._channels.items()):
            channel.disconnected()
            if not channel.feeds:
                del self._channels[name]

    async def _serve(self, connection: Any) -> None:
        """Talk and listen until the connection is dead; then raise."""
        self._heard_at = time.monotonic()
        both = [asyncio.create_task(work(connection)) for work in (self._talk, self._listen)]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
            for one in both:
                if one.done():
                    one.result()
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _talk(self, connection: Any) -> None:
        """Subscribe to what is watched and to nothing else, and PING.

        Nothing else sends: a watcher that is cancelled must not break off a command half-way.
        """
        loop = asyncio.get_running_loop()
        ping_at = loop.time() + self._ping_seconds
        while True:
            self._wanted.clear()
            for words in self._due():
                await _send(connection, *words)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(ping_at, loop.time() + LOOK_SECONDS)):
                    await self._wanted.wait()
            if loop.time() >= ping_at:
                await _send(connection, "PING")
                ping_at = loop.time() + self._ping_seconds
            if time.monotonic() - self._heard_at > self._silence_seconds:
                raise RedisConnectionError("Redis fell silent")
            if not self._pool.serves(connection):
                raise RedisConnectionError("Redis is elsewhere now")

    def _due(self) -> list[tuple[str, str]]:
        """The commands that make the subscriptions what they should be."""
        due = []
        for name, channel in list(self._channels.items()):
            if channel.feeds and not channel.asked:
                channel.subscribing()
                due.append(("SUBSCRIBE", name))
            elif channel.asked and not channel.feeds:
                channel.unsubscribing()
                due.append(("UNSUBSCRIBE", name))
            elif not channel.asked and channel.unconfirmed_count == 0 and not channel.feeds:
                del self._channels[name]
        return due

    async def _listen(self, connection: Any) -> None:
        while True:
            reply = await connection.read_response(timeout=math.inf)
            self._heard_at = time.monotonic()
            if isinstance(reply, list) and len(reply) == 3 and reply[0] in (b"message", b"subscribe"):
                kind, name, content = reply
                self._take(kind, name.decode(), content)

    def _take(self, kind: bytes, name: str, content: Any) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        if kind == b"subscribe":
            channel.subscribed()
            return
        message = content.decode(errors="replace")
        for feed in channel.feeds:
            feed.push(message)


async def _send(connection: Any, *words: str) -> None:
    async with asyncio.timeout(CALL_SECONDS):
        await send_over(connection, [words])

"""Builds what runs beside requests: the sweeper, the finishing of open intents, webhooks. A part of the wiring."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from redis.asyncio import Redis

from gateway.config import Settings
from gateway.domain.objects import Bucket
from gateway.domain.policy import Destinations
from gateway.domain.task import TaskId
from gateway.hooks.sender import WebhookSender
from gateway.store.claims import Claims
from gateway.store.redis_calls import RedisCalls
from gateway.store.task_store import RedisTaskStore
from gateway.telemetry import Metrics
from gateway.transfer.completion import Completion
from gateway.transfer.engine import Engine
from gateway.transfer.intents import Intents
from gateway.transfer.notices import Notices
from gateway.transfer.sweeper import Sweeper, SweepRules
from gateway.web.task_document import task_document

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10.0

Work = Callable[[], Coroutine[Any, Any, None]]


def webhook_receivers(settings: Settings) -> dict[Bucket, str]:
    """Where the events of each bucket go."""
    urls = {hook.alias: hook.url for hook in settings.webhooks}
    return {Bucket(place.name, place.region): urls[place.alias] for place in settings.buckets if place.alias in urls}


class Upkeep:
    """What one process does beside requests. *tasks* tells ``wake`` of its notices."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        tasks: RedisTaskStore,
        engine: Engine,
        completion: Completion,
        destinations: Destinations,
        *,
        metrics: Metrics,
    ) -> None:
        self._intents = Intents(tasks.intents, engine, completion, metrics, term_seconds=settings.intent_seconds)
        self._sweeper = Sweeper(
            tasks,
            engine.objects,
            destinations.all,
            SweepRules(settings.sweep_seconds, settings.task_ttl_seconds, settings.sweep_whole_buckets),
            Claims(RedisCalls(redis)),
            tasks.repair,
            metrics,
        )
        self._sender = WebhookSender(
            webhook_receivers(settings),
            settings.webhook_secret.get_secret_value(),
            lambda task: task_document(task, None),
            allow_private=settings.webhook_allow_private,
        )
        self._notices: Notices | None = None
        if settings.webhooks:
            limit = settings.webhook_retry_seconds
            self._notices = Notices(tasks.notices.due, tasks.notices, self._sender, metrics, give_up_seconds=limit)

    def wake(self, task_id: TaskId, due: float) -> None:
        """*task_id* has a new notice, listed as due at *due*."""
        if self._notices is not None:
            self._notices.wake(task_id, due)

    def works(self) -> list[Work]:
        """What must be ``kept_running``."""
        return [self._sweeper.run, self._intents.run, *([] if self._notices is None else [self._notices.run])]

    async def aclose(self) -> None:
        """Close connections to receivers."""
        await self._sender.aclose()


async def kept_running(run: Work, again_seconds: float = AGAIN_SECONDS) -> None:
    """Run *run* until it is cancelled; after a defect of ours, which is logged, once more."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("what runs beside requests has failed")
        await asyncio.sleep(again_seconds)

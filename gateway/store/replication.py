"""Waiting until a replica has what was written: for writes that must outlive the master, where there is a replica."""

import asyncio
import logging
from typing import Final

from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.task import TaskId
from gateway.store.redis_calls import RedisCalls, Script
from gateway.store.redis_keys import task_keys

log = logging.getLogger(__name__)

WAIT_MILLISECONDS: Final = 100
WAITING_MOST: Final = 4
"""Connections that wait at once: a replica that lags must not hold those that everybody shares."""

_REPLICAS: Final = Script("replicas")


class Replication:
    """Asks replicas for what they have."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls
        self._turn = asyncio.Semaphore(WAITING_MOST)

    async def reached(self, task_id: TaskId) -> bool:
        """Whether a replica has what was written of the task so far; False after 0.1 s, or where there is none."""
        keys = task_keys(task_id)[:1]
        try:
            if not int(await self._calls.run(_REPLICAS, keys, ())):
                return False
            async with self._turn:
                # WAIT looks at what its own connection wrote, so that it needs a write that follows the one meant.
                _, count = await self._calls.together(
                    "wait", [_REPLICAS.by_hash(keys, ()), ("WAIT", 1, WAIT_MILLISECONDS)]
                )
        except StateStoreUnavailable:  # what was to be written is written
            return False
        if not count:
            log.warning("no replica of redis has a change yet", extra={"task_id": task_id})
        return bool(count)

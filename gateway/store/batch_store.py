"""Batches in Redis: what each is made of, and which of its files hold the slots in which bytes may flow."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from gateway.domain.batch import Batch, BatchFile, BatchId
from gateway.domain.task import TaskError, TaskId
from gateway.store.ended_things import BATCH, EndedThings
from gateway.store.idempotency import IdempotencyNotes, Made
from gateway.store.ledgers import Ledgers, Shares
from gateway.store.redis_calls import Observe, RedisCalls, Script
from gateway.store.redis_keys import batch_keys, owner_key
from gateway.transfer.ports import Idempotency

SLOT_IDLE_SECONDS: Final = 30
"""A file of which no body has been seen for so long gives its slot to another."""

_BATCH_BYTES: Final = 2048
"""What a batch takes beside its files."""
_TAKE_SLOT: Final = Script("take_slot")


class RedisBatchStore:
    """The ``BatchStore`` of ``transfer.ports``. A batch lives *ttl_seconds* after it was last touched.

    *shares* bound what an owner's batches take: the oldest are forgotten.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        ttl_seconds: int,
        clock: Callable[[], float] = time.time,
        observe: Observe | None = None,
        shares: Shares | None = None,
    ) -> None:
        self._calls = RedisCalls(redis, observe)
        ledgers = Ledgers(shares or Shares(), ttl_seconds, clock)
        self._ended = EndedThings(self._calls, ledgers)
        self._notes = IdempotencyNotes(self._calls, ledgers)
        self._ttl_seconds = ttl_seconds
        self._clock = clock

    async def claim(self, owner: str, batch_id: BatchId, idempotency: Idempotency) -> BatchId:
        """The batch that *owner*'s Idempotency-Key stands for: *batch_id* if it was not used before."""
        return BatchId((await self._notes.first(owner, idempotency, Made(batch_id, self._clock()))).id)

    async def save(self, batch: Batch) -> None:
        """Write *batch* down."""
        keys = batch_keys(batch.id)
        fields = {
            "owner": batch.owner,
            "limit": str(batch.file_parallel_limit),
            "created_at": repr(batch.created_at),
            "files": json.dumps([_file_record(file) for file in batch.files], separators=(",", ":")),
        }
        words = [word for pair in fields.items() for word in pair]
        size = _BATCH_BYTES + len(fields["files"]) * 5 // 4
        await self._ended.leave(owner_key(batch.owner), BATCH + batch.id, size)
        await self._calls.together(
            "save_batch", [("HSET", keys.batch, *words), ("EXPIRE", keys.batch, self._ttl_seconds)]
        )

    async def load(self, batch_id: BatchId) -> Batch | None:
        """The batch, or None."""
        name = batch_keys(batch_id).batch
        wanted = ("owner", "limit", "created_at", "files")
        values, _ = await self._calls.together(
            "load_batch", [("HMGET", name, *wanted), ("EXPIRE", name, self._ttl_seconds)]
        )
        if None in values:
            return None
        owner, limit, created_at, files = (value.decode() for value in values)
        return Batch(batch_id, owner, int(limit), float(created_at), tuple(map(_file, json.loads(files))))

    async def take_slot(self, batch_id: BatchId, task_id: TaskId) -> Sequence[TaskId]:
        """Let *task_id* take, or keep, a slot: empty when it has one, else the tasks that hold them all."""
        args = (repr(self._clock()), str(self._ttl_seconds), task_id, str(SLOT_IDLE_SECONDS))
        outcome, *holders = json.loads(await self._calls.run(_TAKE_SLOT, batch_keys(batch_id), args))
        return [] if outcome == "ok" else [TaskId(holder) for holder in holders]

    async def free_slots(self, batch_id: BatchId, task_ids: Sequence[TaskId]) -> None:
        """Take the slots of *task_ids* back."""
        await self._calls.command("ZREM", batch_keys(batch_id).slots, *task_ids)

    async def renew_slots(self, held: Sequence[tuple[BatchId, TaskId]]) -> None:
        """Note that bodies of these tasks flow; who has no slot gets none by that."""
        now = repr(self._clock())
        await self._calls.together(
            "renew_slots", [("ZADD", batch_keys(batch_id).slots, "XX", now, task_id) for batch_id, task_id in held]
        )


def _file_record(file: BatchFile) -> dict[str, Any]:
    error = file.error
    if error is None:
        return {"task": file.task_id}
    cos = None if error.cos is None else dict(error.cos)
    return {
        "error": {
            "code": error.code,
            "title": error.title,
            "detail": error.detail,
            "retryable": error.retryable,
            "cos": cos,
        }
    }


def _file(record: dict[str, Any]) -> BatchFile:
    if "error" in record:
        return BatchFile(None, TaskError(**record["error"]))
    return BatchFile(TaskId(record["task"]))

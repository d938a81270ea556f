"""What has ended is kept while there is room for it in its owner's share; then the oldest is forgotten.

That is ended tasks with all their keys and notes, batches, and the notes of Idempotency-Keys. A task that came back to
life since it was noted is left alone.
"""

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.domain.batch import BatchId
from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.objects import UploadId
from gateway.domain.task import FINAL_STATES, TaskId, TaskState
from gateway.store.due_index import DueIndex
from gateway.store.duties import NOTICE_FIELD
from gateway.store.ledgers import Ledgers, Noted, noted
from gateway.store.redis_calls import RedisCalls, Script
from gateway.store.redis_keys import (
    EVERY_OWNER,
    NOTICES,
    batch_keys,
    idempotency_note,
    ledger_keys,
    owner_index,
    task_keys,
    upload_key,
)
from gateway.store.redis_pool import Command
from gateway.store.script_answers import mapping
from gateway.store.task_index import member_text

BATCH: Final = "batch:"
"""Begins a batch's name in a ledger."""
ONCE: Final = "once:"
"""Begins the name of an Idempotency-Key's note; a task's name is its id."""
ROUNDS: Final = 10
"""How often an owner's share is looked at again in one go: enough for one batch of the largest."""

_READ_HASH: Final = Script("read_hash")

log = logging.getLogger(__name__)


class EndedThings:
    """Forgets what is too much."""

    def __init__(self, calls: RedisCalls, ledgers: Ledgers) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._notices = DueIndex(calls, NOTICES)

    async def leave(self, owner: str, name: str, size: int) -> None:
        """Note that *owner*, given as ``owner_key``, leaves *name* with *size* bytes, and make room for it.

        Raises:
            StateStoreUnavailable: Redis does not answer.
        """
        answers = await self._calls.in_turn("ledger", [self._ledgers.leaving(owner, name, size)])
        await self.make_room(owner, answers[0])

    async def make_room(self, owner: str, answer: bytes) -> None:
        """Forget what a ledger's *answer* finds too much of *owner*'s; what a failing Redis leaves is found again."""
        found = noted(answer)
        with contextlib.suppress(StateStoreUnavailable):
            for _ in range(ROUNDS):
                if not found.oldest:
                    break
                found = await self._forget(owner, found.oldest)

    async def _forget(self, owner: str, names: Sequence[str]) -> Noted:
        ids = [TaskId(name) for name in names if not name.startswith((BATCH, ONCE))]
        texts = await self._calls.run_each(_READ_HASH, [(task_keys(task_id)[:1], ()) for task_id in ids]) if ids else []
        commands: list[Command] = []
        for name in names:
            if name.startswith(BATCH):
                commands.append(("DEL", *batch_keys(BatchId(name.removeprefix(BATCH)))))
            elif name.startswith(ONCE):
                commands.append(("DEL", idempotency_note(owner, name.removeprefix(ONCE))))
        for task_id, text in zip(ids, texts, strict=True):
            commands += self._forgetting(task_id, mapping(json.loads(text)), owner)
        if commands:
            await self._calls.each("forget", commands)
        log.info(
            "%d of a subject's ended tasks, batches and keys are forgotten", len(names), extra={"subject": owner[:16]}
        )
        answers = await self._calls.in_turn(
            "ledger", [self._ledgers.striking(ledger_keys(owner).ended, *names, most_bytes=self._ledgers.shares.ended)]
        )
        return noted(answers[0])

    def _forgetting(self, task_id: TaskId, fields: Mapping[str, str], owner: str) -> list[Command]:
        """The commands that forget a task which has ended; none for one that is gone or lives."""
        if not fields or not _has_ended(fields):
            return []
        member = member_text(float(fields["created_at"]), task_id, owner)
        commands: list[Command] = [
            ("DEL", *task_keys(task_id)),
            ("ZREM", owner_index(owner), member),
            ("ZREM", EVERY_OWNER, member),
        ]
        if "upload_id" in fields:
            commands.append(("DEL", upload_key(UploadId(fields["upload_id"]))))
        if any(name.startswith(NOTICE_FIELD) for name in fields):
            commands.append(self._notices.dropping(task_id))
        return commands


def _has_ended(fields: Mapping[str, str]) -> bool:
    """Also a file that came whole and that COS refused: it has nothing to go on from.

    A task whose upload is still being aborted is noted again when that is done.
    """
    state = TaskState(fields["state"])
    refused = state is TaskState.ERROR and "upload_id" not in fields
    return (state in FINAL_STATES or refused) and "intent" not in fields

"""Notices in Redis: they lie in fields of their tasks' hashes, and their tasks are listed by when to tell them."""

import json
from typing import Final

from gateway.domain.notices import Notice
from gateway.domain.task import TaskId
from gateway.store.due_index import DueIndex
from gateway.store.duties import NOTICE_FIELD, notices_in
from gateway.store.redis_calls import RedisCalls, Script
from gateway.store.redis_keys import NOTICES, task_keys
from gateway.store.script_answers import mapping


class NoticeStore:
    """The ``NoticeStore`` of ``transfer.notices``. *read_hash* is the script that reads a whole task."""

    def __init__(self, calls: RedisCalls, read_hash: Script) -> None:
        self._calls = calls
        self._read_hash = read_hash
        self.due: Final = DueIndex(calls, NOTICES)

    async def pending(self, task_id: TaskId) -> list[Notice]:
        """Those not delivered yet, the oldest first; none for a task that is gone."""
        text = await self._calls.run(self._read_hash, task_keys(task_id)[:1], ())
        return notices_in(task_id, mapping(json.loads(text)))

    async def forget(self, task_id: TaskId, notice_id: str) -> None:
        """It is delivered, or given up."""
        await self._calls.command("HDEL", task_keys(task_id).task, NOTICE_FIELD + notice_id)

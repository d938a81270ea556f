"""Tasks that something is due for: sorted sets apart from the tasks' own keys, spread so that a cluster shares them.

A member is only a hint: who takes it looks at the task itself, and a task that is not listed is found by ``repair``.
"""

import zlib
from typing import Final

from gateway.domain.task import TaskId
from gateway.store.redis_calls import RedisCalls, Script
from gateway.store.redis_keys import due_key
from gateway.store.redis_pool import Command

SHARDS: Final = 8

_TAKE_DUE: Final = Script("take_due")
_MOVE_DUE: Final = Script("move_due")


class DueIndex:
    """Task ids by the Unix time from which any process may take them.

    Args:
        name: what is due, as the keys say it.
    """

    def __init__(self, calls: RedisCalls, name: str) -> None:
        self._calls = calls
        self._keys = [due_key(name, shard) for shard in range(SHARDS)]

    def noting(self, task_id: TaskId, due: float) -> Command:
        """The command that makes *task_id* due at *due*, whatever it was before."""
        return ("ZADD", self._key(task_id), repr(due), task_id)

    def noting_if_missing(self, task_id: TaskId, due: float) -> Command:
        """The command that lists *task_id*, unless it is listed."""
        return ("ZADD", self._key(task_id), "NX", repr(due), task_id)

    def dropping(self, task_id: TaskId) -> Command:
        """The command that removes *task_id*."""
        return ("ZREM", self._key(task_id), task_id)

    async def take(self, now: float, until: float, limit: int) -> list[TaskId]:
        """About *limit* tasks due at *now*, the longest due first in each shard; nobody else takes them before *until*.

        Raises:
            StateStoreUnavailable: Redis does not answer.
        """
        args = (repr(now), repr(until), str(-(-limit // SHARDS)))
        answers = await self._calls.run_each(_TAKE_DUE, [((key,), args) for key in self._keys])
        return [TaskId(member.decode()) for members in answers for member in members]

    async def move(self, task_id: TaskId, due: float, later: float) -> bool:
        """Make *task_id* due at *later*, and answer True, unless it is not due at *due* any more."""
        return await self._move(task_id, due, repr(later))

    async def settle(self, task_id: TaskId, due: float) -> bool:
        """Remove *task_id*, and answer True, unless it is not due at *due* any more: something else came since."""
        return await self._move(task_id, due, "")

    async def _move(self, task_id: TaskId, due: float, later: str) -> bool:
        moved: int = await self._calls.run(_MOVE_DUE, (self._key(task_id),), (task_id, repr(due), later))
        return moved == 1

    async def lists(self, task_id: TaskId) -> bool:
        """Whether *task_id* is listed."""
        return await self._calls.command("ZSCORE", self._key(task_id), task_id) is not None

    async def count(self) -> int:
        """How many tasks are listed."""
        return sum(await self._calls.together("count", [("ZCARD", key) for key in self._keys]))

    def _key(self, task_id: TaskId) -> str:
        return self._keys[zlib.crc32(task_id.encode()) % SHARDS]

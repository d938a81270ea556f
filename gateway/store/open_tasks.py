"""Looks through the ledger of an owner's unfinished tasks for what has ended or is gone, when it is full."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.domain.task import Task, TaskId
from gateway.store.ledgers import Ledgers, noted_at
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import ledger_keys, owner_key
from gateway.store.task_index import YOUNG_SECONDS

LOOKED_AT: Final = 1000
"""Tasks looked at when there is no room: up to this many ended ones are all found, above it some may be overlooked."""

LoadMany = Callable[[Sequence[TaskId]], Awaitable[Sequence[Task | None]]]


class OpenTasks:
    """The ledgers of unfinished tasks, looked through.

    Args:
        load_many: the tasks of some ids, None for those that are gone.
        clock: Unix time.
    """

    def __init__(self, calls: RedisCalls, ledgers: Ledgers, load_many: LoadMany, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._load_many = load_many
        self._clock = clock

    async def strike_ended(self, task: Task) -> bool:
        """Strike off tasks of *task*'s owner that have ended or are gone; whether there were any.

        One that is not there may be about to be created, unless its place is old. Raises StateStoreUnavailable.
        """
        ledger = ledger_keys(owner_key(task.owner)).open
        sampled: list[bytes] = await self._calls.command("ZRANDMEMBER", ledger, LOOKED_AT + 1, "WITHSCORES")
        places = [
            (TaskId(name.decode()), noted_at(score))
            for name, score in zip(sampled[::2], sampled[1::2], strict=True)
            if name
        ]
        old = max(self._clock(), task.updated_at) - YOUNG_SECONDS
        found = await self._load_many([task_id for task_id, _ in places])
        ended = [
            task_id
            for (task_id, at), now in zip(places, found, strict=True)
            if (now.is_final if now is not None else at < old)
        ]
        if ended:
            await self._calls.in_turn("quota", [self._ledgers.striking(ledger, *ended)])
        return bool(ended)

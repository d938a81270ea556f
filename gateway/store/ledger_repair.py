"""Notes again, in their owners' ledgers, the tasks that a walk finds, and strikes off those that are gone.

A ledger that Redis lost would let its owner have as much again; one from before an upgrade lists nothing yet.
"""

from collections.abc import Iterator, Mapping, Sequence

from gateway.domain.task import FINAL_STATES, Task, TaskState
from gateway.store.duties import NOTICE_FIELD
from gateway.store.ended_things import EndedThings
from gateway.store.ledgers import Ledgers, tail_bytes
from gateway.store.redis_calls import RedisCalls, ScriptCall
from gateway.store.redis_keys import ALL_TAILS, ledger_keys
from gateway.store.task_codec import decode_task
from gateway.store.task_index import Member


class LedgerRepair:
    """Repairs ledgers by what ``index_repair`` sees."""

    def __init__(self, calls: RedisCalls, ledgers: Ledgers) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._ended = EndedThings(calls, ledgers)

    async def note(self, found: Sequence[tuple[Member, Mapping[str, str]]]) -> None:
        """Note the tasks *found*, each with its fields, and forget what is too much.

        Raises:
            StateStoreUnavailable: Redis does not answer.
        """
        steps = [step for member, fields in found for step in self._steps(member, fields)]
        if not steps:
            return
        answers = await self._calls.in_turn("repair", [call for _, call in steps])
        for (owner, call), answer in zip(steps, answers, strict=True):
            if call.keys[0] == ledger_keys(owner).ended:
                await self._ended.make_room(owner, answer)

    async def strike(self, gone: Sequence[Member]) -> None:
        """Strike off the tasks of *gone*. Raises StateStoreUnavailable."""
        steps = [
            self._ledgers.striking(ledger, member.task_id)
            for member in gone
            for ledger in (*ledger_keys(member.owner_key), ALL_TAILS)
        ]
        if steps:
            await self._calls.in_turn("repair", steps)

    def _steps(self, member: Member, fields: Mapping[str, str]) -> Iterator[tuple[str, ScriptCall]]:
        owner, task = member.owner_key, decode_task(member.task_id, fields, member.created_at, 0.0)
        if task.state in FINAL_STATES:
            yield owner, self._ledgers.ending(task, fields)
        elif not _is_refused_file(task):
            besides = sum(len(text) for name, text in fields.items() if name.startswith(NOTICE_FIELD))
            yield owner, self._ledgers.opening(task, must_fit=False, at=task.updated_at, besides=besides)
        if task.tail_size:
            for ledger in (ledger_keys(owner).tails, ALL_TAILS):
                yield owner, self._ledgers.keeping_tail(ledger, task.id, tail_bytes(task.tail_size), must_fit=False)


def _is_refused_file(task: Task) -> bool:
    """It may be listed with what has ended, or not; either is right."""
    return task.state is TaskState.ERROR and task.upload_id is None

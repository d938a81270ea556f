"""Walks everybody's index: strikes off what is gone, and lists again what its owner's index, or the list of what a
task's own fields show to be open, has lost."""

import json
import time
from collections.abc import Callable, Mapping, Sequence

from gateway.store.duties import Duties
from gateway.store.ledger_repair import LedgerRepair
from gateway.store.redis_calls import RedisCalls, Script
from gateway.store.redis_keys import task_keys
from gateway.store.redis_pool import Command
from gateway.store.script_answers import mapping
from gateway.store.task_index import YOUNG_SECONDS, Member, TaskIndex


class IndexRepair:
    """The walk, page by page. *read_hash* is the script that reads a whole task; *clock* gives Unix seconds."""

    def __init__(
        self,
        calls: RedisCalls,
        index: TaskIndex,
        duties: Duties,
        read_hash: Script,
        ledgers: LedgerRepair,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._calls = calls
        self._index = index
        self._duties = duties
        self._read_hash = read_hash
        self._ledgers = ledgers
        self._clock = clock

    async def page(self, cursor: str | None, limit: int) -> str | None:
        """Repair up to *limit* tasks after *cursor*; where to go on, or None at the end.

        Raises:
            StateStoreUnavailable: Redis does not answer.
        """
        members = await self._index.page(None, cursor, limit)
        if not members:
            return None
        keys: Sequence[tuple[Sequence[str], Sequence[str]]] = [
            (task_keys(member.task_id)[:1], ()) for member in members
        ]
        gone, commands, now = [], list[Command](), self._clock()
        there: list[tuple[Member, Mapping[str, str]]] = []
        for member, text in zip(members, await self._calls.run_each(self._read_hash, keys), strict=True):
            fields = mapping(json.loads(text))
            if fields:
                commands.append(self._index.listing(member))
                there.append((member, fields))
            else:
                gone.append(member)
            commands += self._duties.missing(member.task_id, fields, now)
        await self._index.forget(gone, now)
        if commands:
            await self._calls.together("repair", commands)
        await self._ledgers.note(there)
        await self._ledgers.strike([member for member in gone if now - member.created_at > YOUNG_SECONDS])
        return members[-1].text if len(members) == limit else None

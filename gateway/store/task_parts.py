"""The bytes of a task in Redis: its numbered parts, the writers of a sequential body, its tail."""

import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Final

from gateway.domain.errors import QuotaExceeded, StateStoreUnavailable, TaskNotFound
from gateway.domain.objects import StoredPart
from gateway.domain.policy import ANYWHERE, Policy
from gateway.domain.task import TRANSITIONS, BodyStarted, PartStored, Task, TaskEvent, TaskId, states_that_take
from gateway.store.ledgers import Ledgers
from gateway.store.part_room import PartRoom
from gateway.store.redis_calls import RedisCalls, Script
from gateway.store.redis_keys import owner_key, task_keys
from gateway.store.script_answers import Answer, mapping, read_answer, refused
from gateway.store.tails import Tails
from gateway.store.task_codec import decode_part, decode_task, encode_part
from gateway.transfer.ports import ContentClaim, PartClaim

RESTORED: Final = "restored"
"""The attempt that brought a part of which only COS told."""

UNPACKED_MOST: Final = 2000
"""Words that a script takes from one array: Lua's stack holds 8,000."""

READ_HASH: Final = Script("read_hash")
_BEGIN_PART: Final = Script("begin_part")
_END_PART: Final = Script("end_part")
_STORE_PART: Final = Script("store_part")
_BEGIN_CONTENT: Final = Script("begin_content")
_STORE_CONTENT_PART: Final = Script("store_content_part")
_KEEP_TAIL: Final = Script("keep_tail")
_OF_STORED_BYTES: Final = frozenset({_STORE_PART, _STORE_CONTENT_PART, _KEEP_TAIL})
"""They write down what COS, or this process, holds: refused unsent, it would have to be sent again."""
_FORGET_PARTS: Final = Script("forget_parts")
_REFILL: Final = Script("refill")

PARTS_WEIGHED_TOGETHER: Final = 64
"""How many parts more a sequential body stores before they are counted in what its owner has in Redis."""

_FORGOTTEN: Final = "forgotten"
"""A script's outcome: the task has parts, and their key has vanished."""

Held = Callable[[Task], Awaitable[Sequence[StoredPart]]]
"""Tells the parts that COS holds of a task's upload, ascending. May raise Storage."""


async def nothing_held(task: Task) -> Sequence[StoredPart]:
    """For a store that cannot ask COS: parts that vanished count no longer, and are sent again."""
    del task
    return ()


def _moves(event: type[TaskEvent]) -> str:
    """Where *event* leads from each state that takes it, as the scripts read it."""
    return "".join(f" {state}>{TRANSITIONS[state][event]} " for state in sorted(states_that_take(event)))


_PART_MOVES: Final = _moves(PartStored)
_BODY_MOVES: Final = _moves(BodyStarted)


class TaskParts:
    """The part of a ``TaskStore`` that stores bytes.

    When the key of a task's parts has vanished while the task has not, they are filled in by *held*.
    """

    def __init__(
        self,
        calls: RedisCalls,
        ledgers: Ledgers,
        room: PartRoom,
        *,
        ttl_seconds: int,
        clock: Callable[[], float],
        held: Held,
    ) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._room = room
        self._tails = Tails(calls, ledgers, clock)
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._held = held

    async def begin_part(
        self, task_id: TaskId, number: int, attempt: str, owner: str | None = None, inside: Policy = ANYWHERE
    ) -> PartClaim:
        """Note the body *attempt*; see ``transfer.ports.TaskStore``."""
        places = ("any",) if inside.places is None else ("of", *chain.from_iterable(inside.places))
        args = (str(number), _word(attempt), owner or "", inside.prefix, *places)
        answer = await self._run(_BEGIN_PART, task_id, *args)
        record, contested, in_flight = answer.more
        task = self._decode(task_id, answer.fields)
        if not record and not task.is_final:
            try:
                await self._room.require(task, in_flight + 1)
            except (QuotaExceeded, StateStoreUnavailable):
                with contextlib.suppress(StateStoreUnavailable):
                    await self.end_part(task_id, number, attempt)
                raise
        return PartClaim(task, decode_part(number, record) if record else None, contested is not False)

    async def end_part(self, task_id: TaskId, number: int, attempt: str) -> None:
        """Forget the body *attempt*, if it is known at all."""
        await self._calls.run(_END_PART, task_keys(task_id), (str(number), attempt))

    async def store_part(self, task: Task, part: StoredPart, *, attempt: str, decided: bool = False) -> Task:
        """Record *part* in ``parts`` mode; see ``transfer.ports.TaskStore``."""
        record = encode_part(part, _word(attempt))
        args = (_PART_MOVES, task.upload_id or "", str(part.number), record, attempt, flag(decided))
        answer = await self._run(_STORE_PART, task.id, *args)
        return self._taken(task.id, answer, PartStored)

    async def begin_content(self, task_id: TaskId, offset: int, size: int | None) -> ContentClaim:
        """Become the newest writer of a sequential body; see ``transfer.ports.TaskStore``."""
        told = "" if size is None else str(size)
        answer, tail = await self._run_for_two(_BEGIN_CONTENT, task_id, op_id(), _BODY_MOVES, str(offset), told)
        task = self._taken(task_id, answer, BodyStarted)
        await self._room.require(task, 1)  # what one body adds after that costs its sender 1 MiB a part
        return ContentClaim(task, tail)

    async def store_content_part(self, task: Task, part: StoredPart) -> Task:
        """Record a part of the body of ``task.writer``; see ``transfer.ports.TaskStore``."""
        record = encode_part(part, f"writer-{task.writer}")
        args = (_PART_MOVES, task.upload_id or "", str(task.writer), str(part.number), record)
        answer = await self._run(_STORE_CONTENT_PART, task.id, *args)
        stored = self._taken(task.id, answer, PartStored)
        if task.tail_size and not stored.tail_size:
            with contextlib.suppress(StateStoreUnavailable):  # it is found when there is no room
                await self._tails.forget(owner_key(task.owner), task.id)
        return await self._weighed(stored)

    async def _weighed(self, task: Task) -> Task:
        """*task*, whose parts count every so often in what its owner has."""
        if task.stored_count and task.stored_count % PARTS_WEIGHED_TOGETHER == 0:
            with contextlib.suppress(StateStoreUnavailable):  # the part is stored; the next one comes
                await self._calls.in_turn("ledger", [self._ledgers.opening(task, must_fit=False)])
        return task

    async def keep_tail(self, task: Task, tail: bytes) -> Task:
        """Replace the tail, for ``task.writer``; see ``transfer.ports.TaskStore``."""
        if not await self._tails.make_room(owner_key(task.owner), task.id, len(tail)):
            return await self._as_it_is(task.id)
        begins_at = str(task.next_offset - task.tail_size)
        args = (op_id(), _PART_MOVES, task.upload_id or "", str(task.writer), begins_at, tail)
        return self._taken(task.id, await self._run(_KEEP_TAIL, task.id, *args), PartStored)

    async def _as_it_is(self, task_id: TaskId) -> Task:
        fields = mapping(json.loads(await self._calls.run(READ_HASH, task_keys(task_id)[:1], ())))
        if not fields:
            raise TaskNotFound("No such task.")
        return self._decode(task_id, fields)

    async def parts(self, task_id: TaskId) -> list[StoredPart]:
        """Every stored part in ascending order; empty for an unknown task."""
        stored, fields = await self._read_parts(task_id)
        task = self._decode(task_id, fields) if fields and not stored else None
        if task is not None and task.stored_count and not task.is_final:
            await self._refill(task)
            stored, _ = await self._read_parts(task_id)
        return stored

    async def _read_parts(self, task_id: TaskId) -> tuple[list[StoredPart], Mapping[str, str]]:
        keys = task_keys(task_id)
        both = await self._calls.run_each(READ_HASH, [((keys.parts,), ()), ((keys.task,), ())])
        records, fields = (mapping(json.loads(text)) for text in both)
        stored = (decode_part(int(number), text) for number, text in records.items())
        return sorted(stored, key=lambda part: part.number), fields

    async def forget_parts(self, task: Task, numbers: Sequence[int]) -> Task:
        """Drop parts that COS turned out not to hold, and count again."""
        gone = (str(number) for number in sorted(set(numbers)))
        answer = await self._run(_FORGET_PARTS, task.id, op_id(), task.upload_id or "", *gone)
        return self._taken(task.id, answer, PartStored)

    async def _refill(self, task: Task) -> None:
        """Write down again what COS holds of *task*, unless its parts are back or its upload is another."""
        records = restored_records(await self._held(task))
        await self._calls.run(_REFILL, task_keys(task.id), (*self._when(), task.upload_id or "", records))

    def _when(self) -> tuple[str, str]:
        return repr(self._clock()), str(self._ttl_seconds)

    async def _run(self, script: Script, task_id: TaskId, *args: str | bytes) -> Answer:
        return (await self._run_for_two(script, task_id, *args))[0]

    async def _run_for_two(self, script: Script, task_id: TaskId, *args: str | bytes) -> tuple[Answer, bytes]:
        """What *script* answers, and the bytes that may follow; run again once its task's parts are filled in."""
        patient = script in _OF_STORED_BYTES
        for _ in range(2):
            told = await self._calls.run(script, task_keys(task_id), (*self._when(), *args), patient=patient)
            text, more = told if isinstance(told, list) else (told, b"")
            answer = read_answer(text)
            if answer.outcome != _FORGOTTEN:
                return answer, more
            await self._refill(self._decode(task_id, answer.fields))
        raise StateStoreUnavailable("Redis keeps losing the task's parts.")

    def _decode(self, task_id: TaskId, fields: Mapping[str, str]) -> Task:
        return decode_task(task_id, fields, self._clock(), self._ttl_seconds)

    def _decode_if_any(self, task_id: TaskId, text: bytes) -> Task | None:
        fields = mapping(json.loads(text))
        return self._decode(task_id, fields) if fields else None

    def _taken(self, task_id: TaskId, answer: Answer, event: type[TaskEvent]) -> Task:
        """The task, or the error that the script's outcome stands for."""
        task = self._decode(task_id, answer.fields)
        if answer.outcome == "ok":
            return task
        raise refused(answer.outcome, task, event)


def restored_records(parts: Sequence[StoredPart]) -> str:
    """*parts* as scripts take them: JSON arrays of part numbers and records, each short enough to unpack."""
    words = [word for part in parts for word in (str(part.number), encode_part(part, RESTORED))]
    return json.dumps([words[start : start + UNPACKED_MOST] for start in range(0, len(words), UNPACKED_MOST)])


def flag(value: bool) -> str:
    """A truth as the scripts read it."""
    return "1" if value else "0"


def op_id() -> str:
    """A name for one change, by which its repetition is known."""
    return secrets.token_hex(6)


def _word(attempt: str) -> str:
    if not attempt or not attempt.isascii() or any(character.isspace() for character in attempt):
        raise ValueError("an attempt is named by ASCII letters and digits")
    return attempt

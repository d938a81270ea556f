"""Tasks in Redis: each change is one script on one task's keys, repeatable by its op id, guarded by the version.

The scripts publish what they change themselves: a separate publish would cost a second round trip and be lost when
its process dies in between.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from redis.asyncio import Redis

from gateway.domain.errors import Conflict, QuotaExceeded, StateStoreUnavailable, TaskNotFound, VersionMismatch
from gateway.domain.objects import Bucket, StoredPart, UploadId
from gateway.domain.policy import ANYWHERE, Policy
from gateway.domain.task import CancelRequested, Task, TaskEvent, TaskId, TaskState
from gateway.store.due_index import DueIndex
from gateway.store.duties import NOTICES_MOST, Duties, Duty, dropped, may_end_bodies
from gateway.store.ended_things import EndedThings
from gateway.store.idempotency import IdempotencyNotes, Made
from gateway.store.index_repair import IndexRepair
from gateway.store.ledger_repair import LedgerRepair
from gateway.store.ledgers import Ledgers, Shares, noted
from gateway.store.notice_store import NoticeStore
from gateway.store.open_tasks import OpenTasks
from gateway.store.part_room import PartRoom
from gateway.store.redis_calls import Observe, RedisCalls, Script, ScriptCall
from gateway.store.redis_keys import ALL_TAILS, owner_key, task_keys
from gateway.store.redis_pool import Command
from gateway.store.replication import Replication
from gateway.store.script_answers import Answer, flat, read_answer
from gateway.store.task_codec import difference, encode_new_task, encode_task
from gateway.store.task_index import Member, TaskIndex, member_of, require_cursor
from gateway.store.task_parts import READ_HASH, Held, TaskParts, flag, nothing_held, op_id, restored_records
from gateway.store.upload_index import UploadIndex
from gateway.transfer.ports import Idempotency, TaskPage

APPLY_ATTEMPTS: Final = 20
"""How often a change is judged again because another came first: parts may commit at hundreds a second."""

TOMBSTONE_SECONDS: Final = 2 * 24 * 3600
"""How much longer a final task is remembered: a ticket ends up to a day after its task, and a day is added to that."""

SCAN_FACTOR: Final = 10
"""A filtered page looks at this many times its limit, then ends short with a cursor."""

LOADED_AT_ONCE: Final = 100
"""A thousand at once would hold up the event loop for 50 ms."""

GLANCES: Final = 4
"""So many tasks that a filter leaves out cost as much as one that is loaded."""

_CREATE: Final = Script("create")
_CHANGE: Final = Script("change")


class RedisTaskStore(TaskParts):
    """The ``TaskStore`` of ``transfer.ports``, in Redis 6.2 or newer.

    Every key of a task lives *ttl_seconds* after its last change. A final task is remembered until a day after its last
    ticket has ended: what was canceled stays known as canceled. *redis* comes from ``redis_address.connect``. *clock*
    gives Unix seconds. *observe_move* is told of every event that was applied, by its name, and the task it led to;
    of new tasks as ``Created``, and as ``Restored`` where Redis had lost them. *intent_seconds*, *announced* and
    *on_notice* are those of ``Duties``, *held* is that of ``TaskParts``. *shares* bound what an owner has here.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        ttl_seconds: int,
        clock: Callable[[], float] = time.time,
        observe: Observe | None = None,
        observe_move: Callable[[str, Task], None] = lambda event, task: None,
        intent_seconds: float = 60.0,
        announced: frozenset[Bucket] = frozenset(),
        on_notice: Callable[[TaskId, float], None] = lambda task_id, due: None,
        held: Held = nothing_held,
        shares: Shares | None = None,
    ) -> None:
        calls = RedisCalls(redis, observe)
        self.ledgers: Final = Ledgers(shares or Shares(), ttl_seconds + TOMBSTONE_SECONDS, clock)
        room = PartRoom(OpenTasks(calls, self.ledgers, self.load_many, clock=clock), self.ledgers.shares)
        super().__init__(calls, self.ledgers, room, ttl_seconds=ttl_seconds, clock=clock, held=held)
        self.intents: Final = DueIndex(self._calls, "intents")
        self.notices: Final = NoticeStore(self._calls, READ_HASH)
        self._duties = Duties(
            self.intents,
            self.notices.due,
            intent_seconds=intent_seconds,
            announced=announced,
            on_notice=on_notice,
        )
        self._observe_move = observe_move
        self._index = TaskIndex(self._calls)
        self._uploads = UploadIndex(self._calls, self._index, ttl_seconds, clock)
        self._replication = Replication(self._calls)
        self._notes = IdempotencyNotes(self._calls, self.ledgers)
        self._ended: Final = EndedThings(self._calls, self.ledgers)
        self.repair: Final = IndexRepair(
            self._calls, self._index, self._duties, READ_HASH, LedgerRepair(self._calls, self.ledgers), clock
        )

    async def create(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        """Store *task* and list it, or return the one that the same id or Idempotency-Key already stands for."""
        if idempotency is not None:
            # Under one key all creators store one id, so whichever comes first wins and nobody is left without a task.
            first = await self._notes.first(task.owner, idempotency, Made(task.id, task.created_at))
            task = replace(task, id=TaskId(first.id), created_at=first.created_at)
        return await self._created(task)

    async def created_under(self, owner: str, key: str) -> TaskId | None:
        """The first task that *owner* created under an Idempotency-Key; see ``transfer.ports.TaskStore``."""
        found = await self._notes.find(owner, key)
        return None if found is None else TaskId(found.id)

    async def restore(self, task: Task, parts: Sequence[StoredPart]) -> Task:
        """Store *task*, which Redis had lost, with *parts*, unless it is back; see ``transfer.ports.TaskStore``."""
        if not task.is_final:
            [answer] = await self._calls.in_turn("ledger", [self.ledgers.opening(task, must_fit=True)])
            if not noted(answer).fits:
                raise QuotaExceeded("The subject has too many unfinished tasks for one more to be made again.")
        if task.upload_id is not None:
            await self._uploads.note(task, task.upload_id)
        return await self._created(task, restored_records(parts))

    async def _created(self, task: Task, *restored: str) -> Task:
        duty = self._duties.of(None, task)
        fields = {**encode_new_task(task), **duty.fields}
        create = ScriptCall(_CREATE, task_keys(task.id), (str(self._ttl_seconds), json.dumps(flat(fields)), *restored))
        # Listed first: a member without a task is removed when found, a task without a member would stay hidden.
        listing = [*self._index.adding(task, self._ttl_seconds), *duty.before]
        ending = [self.ledgers.ending(task, fields, was_open=False, had_tail=False)] if _is_over(task) else []
        answers = await self._calls.in_turn("create", [*listing, create, *ending])
        self._duties.done(duty)
        if ending:
            await self._ended.make_room(owner_key(task.owner), answers[-1])
        answer = read_answer(answers[len(listing)])
        if answer.outcome != "created":
            return self._decode(task.id, answer.fields)
        self._observe_move("Restored" if restored else "Created", task)
        return replace(task, expires_at=task.updated_at + self._ttl_seconds)

    async def load(self, task_id: TaskId) -> Task | None:
        """The task, or None."""
        return self._decode_if_any(task_id, await self._calls.run(READ_HASH, task_keys(task_id)[:1], ()))

    async def load_many(self, task_ids: Sequence[TaskId]) -> list[Task | None]:
        """The tasks in the order asked, ``LOADED_AT_ONCE`` in a round trip."""
        found: list[Task | None] = []
        for at in range(0, len(task_ids), LOADED_AT_ONCE):
            some = task_ids[at : at + LOADED_AT_ONCE]
            texts = await self._calls.run_each(READ_HASH, [(task_keys(task_id)[:1], ()) for task_id in some])
            found += [self._decode_if_any(task_id, text) for task_id, text in zip(some, texts, strict=True)]
        return found

    async def apply(self, task: Task, event: TaskEvent, *, expected_version: int | None = None) -> Task:
        """Store the task after *event*; see ``transfer.ports.TaskStore``. A cancel waits for a replica."""
        if expected_version is not None and task.version != expected_version:
            raise _version_mismatch(task, expected_version)
        for _ in range(APPLY_ATTEMPTS):
            stored, now = await self._apply_once(task, event)
            if stored:
                if isinstance(event, CancelRequested):
                    await self._replication.reached(task.id)
                return now
            if expected_version is not None:
                raise _version_mismatch(now, expected_version)
            task = now
        raise StateStoreUnavailable(f"The task changed {APPLY_ATTEMPTS} times while one change was stored.")

    async def _apply_once(self, task: Task, event: TaskEvent) -> tuple[bool, Task]:
        """True and the task after *event*; False and the task as it is now when another change came first."""
        try:
            after = task.after(event, self._clock())
            after = replace(after, expires_at=after.updated_at + self._ttl_seconds)
        except Conflict:
            now = await self._current(task.id)
            if now.version == task.version:
                raise
            return False, now
        duty = self._duties.of(task, after)
        answer = await self._change(task, after, duty)
        if answer.outcome != "ok":
            await self._list_again(task.id, answer, duty)
            return False, self._decode(task.id, answer.fields)
        self._observe_move(type(event).__name__, after)
        self._duties.done(duty)
        return True, replace(after, version=int(answer.more[0]))

    async def _list_again(self, task_id: TaskId, answer: Answer, duty: Duty) -> None:
        """What *duty* struck off behind a change that was not stored may still be open: the task's fields tell."""
        commands = self._duties.missing(task_id, answer.fields, self._clock()) if duty.behind else []
        if commands:
            await self._calls.together("repair", commands)

    async def _current(self, task_id: TaskId) -> Task:
        task = await self.load(task_id)
        if task is None:
            raise TaskNotFound("No such task.")
        return task

    async def _change(self, task: Task, after: Task, duty: Duty) -> Answer:
        if after.upload_id is not None and after.upload_id != task.upload_id:
            await self._uploads.note(task, after.upload_id)
        new = encode_task(after)
        sets, deletes = difference(encode_task(task), new)
        ttl = self._ttl_seconds + (TOMBSTONE_SECONDS if after.is_final else 0)
        fields = json.dumps(flat({**sets, **duty.fields}))
        what = (dropped(task, after), flag(may_end_bodies(task, after)))
        args = (repr(self._clock()), str(ttl), op_id(), str(task.version), *what, fields, json.dumps(deletes))
        change = ScriptCall(_CHANGE, task_keys(task.id), args)
        ending = self._ending(task, after, {**new, **duty.fields}) if after.is_final else []
        noticed = self._noticed(after, duty) if duty.notice is not None and not after.is_final else []
        steps = [*duty.before, change, *duty.behind, *self._leaving(task, after), *noticed, *ending]
        # A full Redis may refuse to list what is due, which the walk over all tasks finds, but not the change itself.
        answers = await self._calls.in_turn("change", steps, hints=len(duty.before))
        if ending:
            await self._ended.make_room(owner_key(task.owner), answers[-1])
        return read_answer(answers[len(duty.before)])

    def _leaving(self, task: Task, after: Task) -> list[Command | ScriptCall]:
        return [*self._uploads.leaving(task, after), *self._index.leaving(task, after)]

    def _noticed(self, after: Task, duty: Duty) -> list[ScriptCall]:
        return [self.ledgers.opening(after, must_fit=False, besides=NOTICES_MOST * sum(map(len, duty.fields.values())))]

    def _ending(self, task: Task, after: Task, fields: Mapping[str, str]) -> list[ScriptCall]:
        tails = [self.ledgers.striking(ALL_TAILS, task.id)] if task.tail_size else []
        return [*tails, self.ledgers.ending(after, fields, had_tail=bool(tails))]

    async def list_tasks(
        self,
        owner: str | None,
        *,
        states: frozenset[TaskState] | None = None,
        batch_id: str | None = None,
        inside: Policy = ANYWHERE,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        """Tasks newest first; see ``transfer.ports.TaskStore``. Looks at ``SCAN_FACTOR`` × *limit* tasks at most."""
        if cursor is not None:
            require_cursor(cursor)
        wanted = _Wanted(owner, states, batch_id, inside)
        found: list[Task] = []
        seen = loaded = 0
        for _ in range(SCAN_FACTOR):
            members = await self._index.page(owner, cursor, limit + 1)
            seen += len(members)
            tasks = await self._listed(members[:limit], wanted)
            loaded += len(tasks)
            for task in tasks:
                if wanted.takes(task):
                    found.append(task)
                    if len(found) == limit and task.id != members[-1].task_id:
                        return TaskPage(tuple(found), member_of(task), loaded + seen // GLANCES)
            if len(members) <= limit:
                return TaskPage(tuple(found), None, loaded + seen // GLANCES)
            cursor = members[limit - 1].text
        return TaskPage(tuple(found), cursor, loaded + seen // GLANCES)

    async def _listed(self, members: Sequence[Member], wanted: "_Wanted") -> list[Task]:
        """The tasks of *members*, without some that are not *wanted*: a glance at those costs a fifth of loading."""
        if wanted.is_narrow and members:
            members = await self._glanced(members, wanted)
        tasks = await self.load_many([member.task_id for member in members])
        await self._forget([member for member, task in zip(members, tasks, strict=True) if task is None])
        return [task for task in tasks if task is not None]

    async def _glanced(self, members: Sequence[Member], wanted: "_Wanted") -> list[Member]:
        fields = ("state", "batch_id", "bucket", "key")
        glances: list[Command] = [("HMGET", task_keys(member.task_id)[0], *fields) for member in members]
        answers: list[list[bytes | None]] = await self._calls.together("glance", glances)
        await self._forget([member for member, told in zip(members, answers, strict=True) if told[0] is None])
        return [member for member, told in zip(members, answers, strict=True) if wanted.may_take(*told)]

    async def _forget(self, gone: Sequence[Member]) -> None:
        await self._index.forget(gone, self._clock())

    async def find_uploads(self, upload_ids: Sequence[UploadId], owner: str | None) -> list[TaskId | None]:
        """The tasks of *owner* that opened *upload_ids*; see ``transfer.ports.TaskStore``."""
        return await self._uploads.find(upload_ids, owner)

    async def next_upload(
        self, owner: str, bucket: Bucket, prefix: str, after: str, *, with_it: bool = False
    ) -> str | None:
        """The key of the next upload that a task of *owner* has open; see ``transfer.ports.TaskStore``."""
        return await self._uploads.next(owner, bucket, prefix, after, with_it=with_it)

    async def find_content(self, owner: str, content: str) -> Task | None:
        """The newest task of *owner* with this ``content``; see ``transfer.ports.TaskStore``."""
        task_id = await self._index.find_content(owner, content, self._ttl_seconds)
        return None if task_id is None else await self.load(task_id)

    async def ping(self) -> None:
        """Raise StateStoreUnavailable unless Redis answers."""
        await self._calls.command("PING")


def _is_over(task: Task) -> bool:
    """Whether a task that is written for the first time has ended by then: it came whole, and COS took it or not."""
    return task.is_final or (task.state is TaskState.ERROR and task.upload_id is None)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which tasks a list shows."""

    owner: str | None
    states: frozenset[TaskState] | None
    batch_id: str | None
    inside: Policy

    @property
    def is_narrow(self) -> bool:
        """Whether many of an owner's tasks may not be shown."""
        return self.states is not None or self.batch_id is not None or self.inside != ANYWHERE

    def may_take(self, state: bytes | None, batch_id: bytes | None, bucket: bytes | None, key: bytes | None) -> bool:
        """Whether a task with these fields may be shown."""
        if state is None or (self.states is not None and state.decode() not in self.states):
            return False
        if self.batch_id is not None and batch_id != self.batch_id.encode():
            return False
        return self.inside.covers((bucket or b"").decode(), (key or b"").decode())

    def takes(self, task: Task) -> bool:
        """Whether *task* is shown."""
        return (
            (self.owner is None or task.owner == self.owner)
            and (self.states is None or task.state in self.states)
            and (self.batch_id is None or task.batch_id == self.batch_id)
            and self.inside.covers(task.at.bucket.name, task.at.key)
        )


def _version_mismatch(task: Task, expected: int) -> VersionMismatch:
    return VersionMismatch(f"The task has version {task.version}, expected {expected}.", version=task.version)

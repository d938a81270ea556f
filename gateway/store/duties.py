"""What a change of a task leaves to be done, written with the change: open intents and notices, listed by when.

Both are listed before the task changes and looked up afterwards, so a process may die anywhere in between. A notice
lies in a field of the task's own hash: it is there exactly when the change is.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.domain.notices import Notice, NoticeKind, notice_of
from gateway.domain.objects import Bucket
from gateway.domain.task import Intent, Task, TaskId, TaskState
from gateway.store.due_index import DueIndex
from gateway.store.redis_pool import Command
from gateway.store.task_codec import decode_task, encode_task
from gateway.tracing import traceparent

NOTICE_FIELD: Final = "notice:"
"""Begins the names of fields that hold a notice not yet delivered."""
NOTICES_MOST: Final = 4
"""Notices of one task that wait to be delivered; the oldest beyond are dropped, by ``change.lua``."""
NOTICE_GRACE_SECONDS: Final = 3.0
"""How long a notice is left to the process that made it: longer than a call to Redis may take."""

_ENDS_BODIES: Final = frozenset({TaskState.PAUSED, TaskState.ERROR, TaskState.CANCELED})


@dataclass(slots=True)
class Duty:
    """What one change adds: commands to go before and behind it, fields to store with it, and what it announces."""

    before: list[Command] = field(default_factory=list)
    behind: list[Command] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    notice: Notice | None = None
    notice_due: float = 0.0


class Duties:
    """Finds the duties of changes.

    Args:
        intent_seconds: how long the process that begins a call to COS has, before another looks after it.
        announced: the buckets whose tasks give notices.
        on_notice: told of each task that has a new notice, once that is stored, and when others may take it.
    """

    def __init__(
        self,
        intents: DueIndex,
        notices: DueIndex,
        *,
        intent_seconds: float,
        announced: frozenset[Bucket],
        on_notice: Callable[[TaskId, float], None],
    ) -> None:
        self._intents = intents
        self._notices = notices
        self._intent_seconds = intent_seconds
        self._announced = announced
        self._on_notice = on_notice

    def of(self, before: Task | None, after: Task) -> Duty:
        """What the move from *before* (None: a new task) to *after* leaves to be done."""
        duty = Duty()
        intent = Intent.NONE if before is None else before.intent
        if after.intent is not intent:
            if after.intent is Intent.NONE:
                duty.behind.append(self._intents.dropping(after.id))
            else:
                duty.before.append(self._intents.noting(after.id, after.updated_at + self._intent_seconds))
        if after.at.bucket in self._announced:
            told = after if before is None else replace(after, version=before.version + 1)
            duty.notice = notice_of(before, told)
        if duty.notice is not None:
            duty.notice_due = after.updated_at + NOTICE_GRACE_SECONDS
            duty.before.append(self._notices.noting(after.id, duty.notice_due))
            duty.fields[NOTICE_FIELD + duty.notice.id] = _encode(duty.notice)
        return duty

    def done(self, duty: Duty) -> None:
        """The change is stored."""
        if duty.notice is not None:
            self._on_notice(duty.notice.task.id, duty.notice_due)

    def missing(self, task_id: TaskId, fields: Mapping[str, str], now: float) -> list[Command]:
        """The commands that list again what *fields* of a task show to be open."""
        commands = []
        if "intent" in fields:
            commands.append(self._intents.noting_if_missing(task_id, now + self._intent_seconds))
        if any(name.startswith(NOTICE_FIELD) for name in fields):
            commands.append(self._notices.noting_if_missing(task_id, now + NOTICE_GRACE_SECONDS))
        return commands


def dropped(task: Task, after: Task) -> str:
    """Which of the task's other keys the move deletes: ``all``, its ``tail`` or none."""
    left_upload = task.upload_id is not None and after.upload_id is None
    if left_upload or after.stored_count < task.stored_count or after.state is TaskState.CANCELED:
        return "all"
    return "tail" if task.tail_size and not after.tail_size else ""


def may_end_bodies(task: Task, after: Task) -> bool:
    """Whether bodies in flight have to look at the task again."""
    return after.writer != task.writer or (after.state is not task.state and after.state in _ENDS_BODIES)


def _encode(notice: Notice) -> str:
    task = replace(notice.task, object_headers={}, part_headers={}, content=None)  # which no receiver is told
    told = {"version": str(task.version), **encode_task(task)}
    trace = traceparent()
    return json.dumps(
        {"kind": notice.kind, "at": notice.at, "expires_at": task.expires_at, "task": told}
        | ({} if trace is None else {"traceparent": trace})
    )


def notices_in(task_id: TaskId, fields: Mapping[str, str]) -> list[Notice]:
    """The notices among the *fields* of a task, the oldest first."""
    found = []
    for name, text in fields.items():
        if name.startswith(NOTICE_FIELD):
            told = json.loads(text)
            task = decode_task(task_id, told["task"], told["at"], 0.0)
            task = replace(task, expires_at=told["expires_at"])
            notice_id = name.removeprefix(NOTICE_FIELD)
            found.append(Notice(notice_id, NoticeKind(told["kind"]), told["at"], task, told.get("traceparent")))
    return sorted(found, key=lambda notice: (notice.at, notice.task.version))

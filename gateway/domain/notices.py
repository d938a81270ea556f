"""Notices: what a bucket's webhook is told of a task that ended, or that cannot go on by itself."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.domain.task import Task, TaskState


class NoticeKind(StrEnum):
    """What happened, in the words that receivers read."""

    SUCCESS = "task.success"
    ERROR = "task.error"
    CANCELED = "task.canceled"


_KINDS: Final[Mapping[TaskState, NoticeKind]] = {
    TaskState.SUCCESS: NoticeKind.SUCCESS,
    TaskState.ERROR: NoticeKind.ERROR,
    TaskState.CANCELED: NoticeKind.CANCELED,
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One event for a receiver: *task* as it was when it happened, at Unix time *at*.

    A receiver may be told twice, each time with the same ``id``. ``traceparent``: the trace in which it happened.
    """

    id: str
    kind: NoticeKind
    at: float
    task: Task
    traceparent: str | None = None


class NoticeRefused(Exception):
    """The receiver did not take a notice: it is told again later. The text holds nothing of its answer."""


def notice_of(before: Task | None, after: Task) -> Notice | None:
    """The notice that the move from *before* (None: a new task) to *after* gives, if any. ``after.version`` is the new.

    A task succeeds, and is canceled, once; so its notice keeps its id even when it is made again after a loss of Redis.
    """
    kind = _KINDS.get(after.state)
    if kind is None or (before is not None and before.state is after.state):
        return None
    once = "" if after.is_final else str(after.version)
    digest = hashlib.sha256(f"{after.id} {kind} {once}".encode()).hexdigest()
    return Notice(f"evt_{digest[:32]}", kind, after.updated_at, after)

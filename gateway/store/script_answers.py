"""What the scripts answer, read into a task or into the error that an outcome stands for."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from gateway.domain.errors import (
    BodySuperseded,
    GatewayError,
    InvalidSize,
    OffsetMismatch,
    PartInProgress,
    TaskMode,
    TaskNotFound,
    UploadLost,
)
from gateway.domain.task import Task, TaskEvent, refusal


class Answer(NamedTuple):
    """A script's answer; ``fields`` are the task's as they stand now, ``more`` what else it tells."""

    outcome: str
    fields: Mapping[str, str]
    more: tuple[Any, ...]


def read_answer(text: bytes) -> Answer:
    """The answer in *text*.

    Raises:
        TaskNotFound: Redis does not know the task.
    """
    outcome, *rest = json.loads(text)
    if outcome == "gone":
        raise TaskNotFound("No such task.")
    if rest and not isinstance(rest[0], str):
        return Answer(outcome, mapping(rest[0]), tuple(rest[1:]))
    return Answer(outcome, {}, tuple(rest))


def flat(fields: Mapping[str, str]) -> list[str]:
    """Fields and values in turn, as HSET takes them."""
    return [word for pair in fields.items() for word in pair]


def mapping(words: Any) -> dict[str, str]:
    """Fields and values in turn as a mapping; Lua writes an empty array as ``{}``."""
    each = iter(words)
    return dict(zip(each, each, strict=True))


_REFUSALS: Final[Mapping[str, Callable[[Task], GatewayError]]] = {
    "upload": lambda task: UploadLost("The task has another upload now."),
    "mode": lambda task: TaskMode(f"The task takes its bytes as {task.mode}.", mode=str(task.mode)),
    "overlap": lambda task: PartInProgress("Another body for this part overlapped in time."),
    "writer": lambda task: BodySuperseded(f"Writer {task.writer} took over."),
    "size": lambda task: InvalidSize(f"The task's size is {task.size} bytes."),
    "offset": lambda task: OffsetMismatch(f"Expected byte {task.next_offset}.", next_offset=task.next_offset),
}


def refused(outcome: str, task: Task, event: type[TaskEvent]) -> GatewayError:
    """The error for *outcome* of a script that would have carried out *event*."""
    return refusal(task.state, event) if outcome == "state" else _REFUSALS[outcome](task)

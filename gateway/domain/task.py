"""A task: our record of one file's transfer. Every state and every move between states is in this file.

``TRANSITIONS`` is the specification: what it does not list is refused. The data that a move changes follows in
``Task.after``.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NewType

from gateway.domain.errors import (
    Conflict,
    CosAnswer,
    GatewayError,
    IllegalTransition,
    TaskCanceled,
    TaskCompleting,
    TaskInError,
    TaskPaused,
    TaskSucceeded,
    all_codes,
)
from gateway.domain.objects import ETag, ObjectAddress, UploadId

TaskId = NewType("TaskId", str)


def task_id_of(raw: bytes) -> TaskId:
    """The id in 22 base64url characters that 127 of the 128 bits of *raw* (16 bytes) make.

    The first bit is dropped: the id begins with a letter then, and no command line takes it for an option.
    """
    return TaskId(base64.urlsafe_b64encode(bytes([raw[0] & 0x7F]) + raw[1:]).decode().rstrip("="))


class TaskState(StrEnum):
    """The seed SDK's own words; ``completing`` is ours: COS's merge can take minutes."""

    WAITING = "waiting"
    CHECKING = "checking"
    UPLOADING = "uploading"
    COMPLETING = "completing"
    SUCCESS = "success"
    PAUSED = "paused"
    ERROR = "error"
    CANCELED = "canceled"


class BodyMode(StrEnum):
    """How a task takes its bytes; the first body fixes it."""

    UNDECIDED = ""
    PARTS = "parts"
    CONTENT = "content"


class Intent(StrEnum):
    """A COS call that was about to be made: whoever finds it finishes or undoes it."""

    NONE = ""
    INITIATE = "initiate"
    PUT = "put"
    COMPLETE = "complete"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The finished object. ``crc64_verified`` is False when part CRCs were lost with Redis and nobody restored them.

    ``processed`` is what COS made of a picture beside; see ``StoredObject``.
    """

    location: str
    etag: ETag
    version_id: str | None
    crc64: int | None
    size: int
    crc64_verified: bool
    processed: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task is in ``error``; the same words as a problem document."""

    code: str
    title: str
    detail: str
    retryable: bool
    cos: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, error: GatewayError) -> "TaskError":
        """The record of *error*."""
        cos = error.cos
        told = None if cos is None else {"status": cos.status, "code": cos.code, "request_id": cos.request_id}
        return cls(error.code, error.title, error.detail, error.retryable, told)

    def as_exception(self) -> GatewayError:
        """The error again, to be raised for another caller."""
        cos = None if self.cos is None else CosAnswer(self.cos["status"], self.cos["code"], self.cos["request_id"])
        return all_codes().get(self.code, GatewayError)(self.detail, cos=cos)


# --- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UploadOpened:
    """COS initiated the upload."""

    upload_id: UploadId


@dataclass(frozen=True, slots=True)
class BodyStarted:
    """A body began to flow. ``size`` is the file's size where the body tells it."""

    mode: BodyMode
    size: int | None = None


@dataclass(frozen=True, slots=True)
class PartStored:
    """COS acknowledged a part."""


@dataclass(frozen=True, slots=True)
class CheckStarted:
    """What COS holds is compared with what the file is said to be; ``percent`` of it, 0-1, has been."""

    percent: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckFinished:
    """It was compared; what differed is forgotten."""


@dataclass(frozen=True, slots=True)
class CompleteRequested:
    """Every byte is in COS, or about to be in one PUT. A size that nobody told is known only with success.

    ``headers`` are object headers that only now became known, to go with that call beside the task's own.
    """

    intent: Intent
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompleteRenewed:
    """The process that completes lives, or another takes over from it."""


@dataclass(frozen=True, slots=True)
class PartsLost:
    """COS refused to complete: parts it was thought to hold are gone or differ."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The object stands in COS and was compared."""

    result: TaskResult


@dataclass(frozen=True, slots=True)
class Failed:
    """The task cannot go on by itself."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """The user's pause."""


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """The user's restart."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The user's cancel."""


@dataclass(frozen=True, slots=True)
class AbortFinished:
    """COS no longer holds any part of a canceled task."""


TaskEvent = (
    UploadOpened
    | BodyStarted
    | PartStored
    | CheckStarted
    | CheckFinished
    | CompleteRequested
    | CompleteRenewed
    | PartsLost
    | Succeeded
    | Failed
    | PauseRequested
    | RestartRequested
    | CancelRequested
    | AbortFinished
)

_S = TaskState

TRANSITIONS: Final[Mapping[TaskState, Mapping[type[TaskEvent], TaskState]]] = {
    _S.WAITING: {
        UploadOpened: _S.WAITING,
        CheckStarted: _S.CHECKING,
        BodyStarted: _S.UPLOADING,
        PartStored: _S.UPLOADING,
        CompleteRequested: _S.COMPLETING,
        Failed: _S.ERROR,
        PauseRequested: _S.PAUSED,
        RestartRequested: _S.WAITING,
        CancelRequested: _S.CANCELED,
    },
    _S.CHECKING: {
        UploadOpened: _S.CHECKING,
        CheckStarted: _S.CHECKING,
        CheckFinished: _S.WAITING,
        BodyStarted: _S.UPLOADING,
        PartStored: _S.UPLOADING,
        CompleteRequested: _S.COMPLETING,
        Failed: _S.ERROR,
        PauseRequested: _S.PAUSED,
        RestartRequested: _S.CHECKING,
        CancelRequested: _S.CANCELED,
    },
    _S.UPLOADING: {
        UploadOpened: _S.UPLOADING,
        CheckStarted: _S.CHECKING,
        CheckFinished: _S.UPLOADING,  # bytes came meanwhile
        BodyStarted: _S.UPLOADING,
        PartStored: _S.UPLOADING,
        CompleteRequested: _S.COMPLETING,
        Failed: _S.ERROR,
        PauseRequested: _S.PAUSED,
        RestartRequested: _S.UPLOADING,
        CancelRequested: _S.CANCELED,
    },
    _S.COMPLETING: {
        CompleteRenewed: _S.COMPLETING,
        PartsLost: _S.UPLOADING,
        Succeeded: _S.SUCCESS,
        Failed: _S.ERROR,
    },
    _S.PAUSED: {
        UploadOpened: _S.PAUSED,
        PartStored: _S.PAUSED,  # it was in flight when the user paused
        PauseRequested: _S.PAUSED,
        RestartRequested: _S.WAITING,
        CancelRequested: _S.CANCELED,
    },
    _S.ERROR: {
        UploadOpened: _S.ERROR,
        PartStored: _S.ERROR,  # it was in flight when another part failed
        RestartRequested: _S.WAITING,
        CancelRequested: _S.CANCELED,
    },
    _S.SUCCESS: {},
    _S.CANCELED: {
        CancelRequested: _S.CANCELED,
        AbortFinished: _S.CANCELED,
    },
}

FINAL_STATES: Final = frozenset({_S.SUCCESS, _S.CANCELED})
NEW_UPLOAD_AFTER: Final = frozenset({"upload_lost", "integrity_failed", "digest_mismatch", "object_conflict"})
"""Errors after which what COS holds is worthless: a restart begins a new upload."""

_REFUSALS: Final[Mapping[TaskState, type[Conflict]]] = {
    _S.PAUSED: TaskPaused,
    _S.ERROR: TaskInError,
    _S.CANCELED: TaskCanceled,
    _S.SUCCESS: TaskSucceeded,
    _S.COMPLETING: TaskCompleting,
}
_BODY_EVENTS: Final = (BodyStarted, PartStored, CompleteRequested, UploadOpened)
_SPENT: Final[Mapping[str, Any]] = {"object_headers": {}, "part_headers": {}, "content": None}
"""What a final task no longer needs: most of its bytes, and nothing reads them again."""


def states_that_take(event: type[TaskEvent]) -> frozenset[TaskState]:
    """The states in which *event* is legal."""
    return frozenset(state for state, moves in TRANSITIONS.items() if event in moves)


def refusal(state: TaskState, event: type[TaskEvent]) -> Conflict:
    """The error for an *event* that *state* does not take: bytes are told why, control moves that they are illegal."""
    if event in _BODY_EVENTS and state in _REFUSALS:
        return _REFUSALS[state](f"The task is in state {state}.", state=str(state))
    return IllegalTransition(f"The task is in state {state}, which does not allow this.", state=str(state))


# --- the task -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One file's transfer.

    ``loaded`` and ``next_offset`` are bytes; both count the tail. ``next_offset`` is contiguous from 0.
    ``contiguous_count`` is how many parts from number 1 on are stored without a gap, ``stored_count`` all of them.
    ``writer`` is the fencing counter of sequential bodies: only the newest may store. ``object_headers`` go with PUT or
    Initiate, ``part_headers`` with every body. Times are Unix seconds. ``content`` names the file's content where its
    creator told it, ``hash_percent`` (0-1) is how much of it was compared. A final task has neither headers nor
    ``content``.
    """

    id: TaskId
    owner: str
    at: ObjectAddress
    size: int | None
    part_size: int
    slice_size: int
    async_limit: int
    created_at: float
    updated_at: float
    expires_at: float
    state: TaskState = TaskState.WAITING
    mode: BodyMode = BodyMode.UNDECIDED
    upload_id: UploadId | None = None
    intent: Intent = Intent.NONE
    stored_count: int = 0
    contiguous_count: int = 0
    loaded: int = 0
    next_offset: int = 0
    tail_size: int = 0
    writer: int = 0
    speed: float = 0.0
    version: int = 1
    batch_id: str | None = None
    client_ref: str | None = None
    content: str | None = None
    hash_percent: float | None = None
    object_headers: Mapping[str, str] = field(default_factory=dict)
    part_headers: Mapping[str, str] = field(default_factory=dict)
    result: TaskResult | None = None
    error: TaskError | None = None

    @property
    def part_count(self) -> int | None:
        """How many parts the file has, in ``parts`` mode or before any byte came; None while the size is unknown."""
        if self.size is None:
            return None
        if self.mode is BodyMode.CONTENT:
            return self.stored_count if self.state is TaskState.SUCCESS else None
        return max(1, -(-self.size // self.part_size))

    @property
    def is_final(self) -> bool:
        """Whether nothing can move this task any more."""
        return self.state in FINAL_STATES

    def require(self, event: type[TaskEvent]) -> None:
        """Raise the Conflict that tells why *event* is not possible now, if it is not."""
        if event not in TRANSITIONS[self.state]:
            raise refusal(self.state, event)

    def after(self, event: TaskEvent, now: float) -> "Task":
        """The task after *event* at Unix time *now*; ``self`` is unchanged.

        ``version`` is not touched: it belongs to whoever stores the task.

        Raises:
            Conflict: the event is not possible in this state.
        """
        self.require(type(event))
        state = TRANSITIONS[self.state][type(event)]
        return replace(self, state=state, updated_at=now, **self._changes(event))

    def _changes(self, event: TaskEvent) -> dict[str, Any]:  # noqa: C901 -- one arm an event, nothing nested
        match event:
            case UploadOpened(upload_id):
                return {"upload_id": upload_id, "intent": Intent.NONE}
            case BodyStarted(mode, size):
                return {"mode": mode, "size": self.size if size is None else size}
            case CheckStarted(percent):
                return {"hash_percent": percent}
            case CheckFinished():
                return {"hash_percent": 1.0}
            case CompleteRequested(intent, headers):
                return {"intent": intent, "object_headers": {**self.object_headers, **headers}}
            case PartsLost():
                return {"intent": Intent.NONE}
            case Succeeded(result):
                return {
                    "intent": Intent.NONE,
                    "result": result,
                    "size": result.size,
                    "loaded": result.size,
                    "next_offset": result.size,
                    "tail_size": 0,
                    **_SPENT,
                }
            case Failed(error):
                return {"intent": Intent.NONE, "error": error}
            case RestartRequested():
                return self._restarted()
            case CancelRequested() if self.state is not TaskState.CANCELED:
                return {"intent": Intent.ABORT, "error": None, **_SPENT}
            case AbortFinished():
                return {"intent": Intent.NONE}
            case _:
                return {}

    def _restarted(self) -> dict[str, Any]:
        if self.error is None or self.error.code not in NEW_UPLOAD_AFTER:
            return {"error": None}
        return {
            "error": None,
            "hash_percent": None,
            "upload_id": None,
            "mode": BodyMode.UNDECIDED,
            "stored_count": 0,
            "contiguous_count": 0,
            "loaded": 0,
            "next_offset": 0,
            "tail_size": 0,
            "writer": self.writer + 1,
        }

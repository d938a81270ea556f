"""What the use cases need of the world: a store for objects, a store for tasks, a bus that tells of changes.

Each method says what it does, what it may assume and which errors it raises; ``cos.client`` and ``store`` provide them.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.batch import Batch, BatchId
from gateway.domain.objects import (
    Appended,
    Bucket,
    ETag,
    ObjectAddress,
    PartBody,
    PartsPage,
    StoredObject,
    StoredPart,
    UploadId,
    UploadsPage,
)
from gateway.domain.policy import ANYWHERE, Policy
from gateway.domain.task import Task, TaskEvent, TaskId, TaskState


class ObjectStore(Protocol):
    """COS. Every call has its own deadline, retries what may be retried and raises ``errors.Storage`` and its kin.

    What a body's ``chunks`` raises comes out unchanged. ``put_object`` and ``upload_part`` return only after COS's
    CRC-64 equalled the body's.
    """

    async def put_object(self, at: ObjectAddress, body: PartBody, headers: Mapping[str, str]) -> StoredObject:
        """PUT Object (doc 7749)."""

    async def append_object(
        self, at: ObjectAddress, position: int, body: PartBody, headers: Mapping[str, str]
    ) -> Appended:
        """APPEND Object (doc 7741); never repeated."""

    async def head_object(self, at: ObjectAddress) -> StoredObject:
        """HEAD Object (doc 7745). Raises ObjectNotFound."""

    async def initiate(self, at: ObjectAddress, headers: Mapping[str, str]) -> UploadId:
        """Initiate Multipart Upload (doc 7746)."""

    async def upload_part(
        self, at: ObjectAddress, upload_id: UploadId, number: int, body: PartBody, headers: Mapping[str, str]
    ) -> StoredPart:
        """Upload Part (doc 7750). Raises UploadLost."""

    async def list_parts(
        self, at: ObjectAddress, upload_id: UploadId, *, marker: int = 0, limit: int = 1000
    ) -> PartsPage:
        """One page of List Parts (doc 7747), after part number *marker*. Raises UploadLost."""

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        limit: int = 1000,
    ) -> UploadsPage:
        """One page of List Multipart Uploads (doc 7736)."""

    async def complete(
        self, at: ObjectAddress, upload_id: UploadId, parts: Sequence[tuple[int, ETag]], headers: Mapping[str, str]
    ) -> StoredObject:
        """Complete Multipart Upload (doc 7742), once. Raises UploadLost, PartsMissing; doubt: StorageUnavailable."""

    async def abort(self, at: ObjectAddress, upload_id: UploadId) -> None:
        """Abort Multipart Upload (doc 7740). Raises UploadLost when COS does not know the upload."""


@dataclass(frozen=True, slots=True)
class PartClaim:
    """What the task store says when a body for a part begins.

    ``stored`` is the part as it stands. ``contested`` is True when another body for the same part was under way.
    """

    task: Task
    stored: StoredPart | None
    contested: bool


@dataclass(frozen=True, slots=True)
class ContentClaim:
    """What the task store says when a sequential body begins: the task (its ``writer`` is now ours) and the tail."""

    task: Task
    tail: bytes


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of a listing; ``next_cursor`` is opaque, None at the end. ``loaded``: what it cost, in tasks loaded."""

    tasks: tuple[Task, ...]
    next_cursor: str | None
    loaded: int = 0


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's Idempotency-Key and a digest of what was asked under it."""

    key: str
    request_digest: str


class TaskStore(Protocol):
    """Redis. Every change is one atomic, repeatable script that raises ``version`` by one and tells the bus.

    All methods raise StateStoreUnavailable when Redis does not answer within 2 s, and TaskNotFound for a task
    Redis does not know (unless they say otherwise).
    """

    async def create(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        """Store a new task and index it under its owner.

        With *idempotency*: a second create under the same owner and key returns the first task unchanged. Raises
        IdempotencyConflict when the digests differ.
        """

    async def created_under(self, owner: str, key: str) -> TaskId | None:
        """The first task that *owner* created under an Idempotency-Key within the last day; it may be gone since."""

    async def restore(self, task: Task, parts: Sequence[StoredPart]) -> Task:
        """Store a task that had been lost, as *task* and its *parts* tell it; one that is back already is returned."""

    async def load(self, task_id: TaskId) -> Task | None:
        """The task, or None."""

    async def load_many(self, task_ids: Sequence[TaskId]) -> list[Task | None]:
        """The tasks in the order asked, in few round trips."""

    async def apply(self, task: Task, event: TaskEvent, *, expected_version: int | None = None) -> Task:
        """Store ``task.after(event)``, compare-and-set on ``task.version``.

        When another change came first, the task is loaded again and the event judged again (a bounded number of
        times), unless *expected_version* is given: then VersionMismatch. A task that leaves its upload
        (``upload_id`` becomes None) or ends canceled loses its parts and tail in the same step. Raises the Conflict
        that ``Task.after`` raises.
        """

    async def begin_part(
        self, task_id: TaskId, number: int, attempt: str, owner: str | None = None, inside: Policy = ANYWHERE
    ) -> PartClaim:
        """Note that the body *attempt* for part *number* begins, and return what is known. Changes no version.

        Another's task, if *owner* is given, and one outside of the policy *inside* are as unknown as none: whoever
        guesses an id changes nothing.
        """

    async def end_part(self, task_id: TaskId, number: int, attempt: str) -> None:
        """Forget the body *attempt*, which stored nothing; an unknown task is nothing to forget."""

    async def store_part(
        self,
        task: Task,
        part: StoredPart,
        *,
        attempt: str,
        decided: bool = False,
    ) -> Task:
        """Record a part COS acknowledged, in ``parts`` mode; the same attempt again changes nothing.

        The first one fixes the mode. Raises PartInProgress, recording nothing, when another body for this part
        overlapped with this attempt: then List Parts decides, and the next call is *decided*. That raises it again
        when yet another was recorded in between: List Parts may have changed. Raises UploadLost when the task has
        another upload now, TaskMode in ``content`` mode, and the Conflict of a state that takes no parts.
        """

    async def begin_content(self, task_id: TaskId, offset: int, size: int | None) -> ContentClaim:
        """Become the newest writer of a sequential body that starts at *offset*.

        Older writers are told to stop. ``content`` mode and, where given, *size* are fixed. Parts stored beyond
        ``next_offset`` are forgotten. Raises OffsetMismatch with ``next_offset``, TaskMode, InvalidSize when the
        task has another size, and the Conflict of a state that takes no bytes.
        """

    async def store_content_part(self, task: Task, part: StoredPart) -> Task:
        """Record a part of a sequential body for the writer ``task.writer``; the tail it began with is consumed.

        Raises BodySuperseded when there is a newer writer, UploadLost, or the Conflict of a state that takes no
        parts.
        """

    async def keep_tail(self, task: Task, tail: bytes) -> Task:
        """Replace the tail, for the writer ``task.writer``: what follows the contiguous parts as *task* tells them.

        Raises as above, and OffsetMismatch when parts were forgotten since: there the bytes would be others.
        """

    async def parts(self, task_id: TaskId) -> list[StoredPart]:
        """Every stored part in ascending order; empty for an unknown task."""

    async def forget_parts(self, task: Task, numbers: Sequence[int]) -> Task:
        """Drop parts that COS turned out not to hold, and count again."""

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
        """Tasks inside the policy *inside*, newest first; *owner* None means everybody's.

        A page may end short, with a cursor, where many tasks were looked at and few fit. BadQuery for a cursor that is
        not ours.
        """

    async def find_uploads(self, upload_ids: Sequence[UploadId], owner: str | None) -> list[TaskId | None]:
        """Which tasks of *owner* (None: anybody's) opened these uploads, in the order asked and one round trip.

        A task may have left the upload since: its ``upload_id`` tells.
        """

    async def next_upload(
        self, owner: str, bucket: Bucket, prefix: str, after: str, *, with_it: bool = False
    ) -> str | None:
        """The key of the first upload in *bucket* that a task of *owner* has open, perhaps no more.

        In COS's order, among keys that begin with *prefix*, and behind the key *after*, or from it on *with_it*. None:
        there is no other. An empty text: that is not known.
        """

    async def find_content(self, owner: str, content: str) -> Task | None:
        """The newest task of *owner* that was created with this ``content``, in whichever state."""

    async def ping(self) -> None:
        """Raise StateStoreUnavailable unless Redis answers."""


class BatchStore(Protocol):
    """Redis, for batches. All methods raise StateStoreUnavailable when Redis does not answer within 2 s."""

    async def claim(self, owner: str, batch_id: BatchId, idempotency: Idempotency) -> BatchId:
        """The batch that *owner*'s Idempotency-Key stands for: *batch_id* if it was not used before.

        Raises IdempotencyConflict when the digests differ.
        """

    async def save(self, batch: Batch) -> None:
        """Write *batch* down; the same again changes nothing."""

    async def load(self, batch_id: BatchId) -> Batch | None:
        """The batch, or None."""

    async def take_slot(self, batch_id: BatchId, task_id: TaskId) -> Sequence[TaskId]:
        """Let *task_id* take, or keep, a slot: empty when it has one, else the tasks that hold them all.

        A slot whose task has been idle for 30 s is free. An unknown batch has slots for everybody.
        """

    async def free_slots(self, batch_id: BatchId, task_ids: Sequence[TaskId]) -> None:
        """Take the slots of *task_ids*, at least one, back."""

    async def renew_slots(self, held: Sequence[tuple[BatchId, TaskId]]) -> None:
        """Note that bodies of these tasks flow; who has no slot gets none by that."""


class BodySlots(Protocol):
    """What a body has to pass before its first byte, in a batch."""

    async def take(self, batch_id: BatchId, task_id: TaskId) -> None:
        """Raise TaskWaiting unless a body of *task_id* may flow now."""


@dataclass(frozen=True, slots=True)
class Change:
    """Task *task_id* of *owner* (as the bus names owners) now has at least *version*."""

    task_id: TaskId
    version: int


class ChangeFeed(Protocol):
    """The changes a watcher waits for, coalesced: each task at most once, the latest version wins."""

    async def next(self, timeout_seconds: float) -> Mapping[TaskId, int] | None:
        """Changed tasks and versions; None: nothing changed in time; an empty mapping: changes may have been lost."""


class ProgressBus(Protocol):
    """Tells of changes, at most once each: whoever needs certainty reads the task."""

    def watch_owner(self, owner: str, only: TaskId | None = None) -> AbstractAsyncContextManager[ChangeFeed]:
        """Changes of every task of *owner*, or of one alone."""

    def watch_control(self) -> AbstractAsyncContextManager[AsyncIterator[TaskId]]:
        """Tasks whose bodies in flight may have to end: paused, canceled, failed, or taken over by a newer writer."""


class TaskQuota(Protocol):
    """Bounds how many unfinished tasks an owner has, over all processes."""

    async def claim(self, task: Task) -> None:
        """Count *task*, which is about to be created. Raises QuotaExceeded, and counts it not, when it is too many."""


class Revocations(Protocol):
    """Tells whose tokens are good no more."""

    async def load(self) -> Mapping[str, float]:
        """Names (``Caller.revocable_names``), and the Unix time up to which each one's tokens were revoked.

        Raises:
            StateStoreUnavailable: Redis does not tell.
        """

    async def revoked_until(self, names: Sequence[str]) -> float | None:
        """The latest time of one of *names*, None where none was revoked. Raises StateStoreUnavailable."""


class Clock(Protocol):
    """Unix time in seconds."""

    def __call__(self) -> float: ...

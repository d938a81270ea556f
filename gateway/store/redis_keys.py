"""The name of every Redis key and channel; no other module spells one."""

import hashlib
from typing import Final, NamedTuple

from gateway.domain.batch import BatchId
from gateway.domain.objects import UploadId
from gateway.domain.pseudonyms import subject_digest
from gateway.domain.task import TaskId

EVERY_OWNER: Final = "gw:tasks"
"""The index of everybody's tasks."""

REVOKED: Final = "gw:revoked"
"""Subjects, each with the time up to which its tokens are good no more."""

CONTROL_CHANNEL: Final = "gw:control"
"""Tells ids of tasks whose bodies in flight may have to end."""

_PROGRESS: Final = "gw:progress:"
_DIGITS: Final = 32


class TaskKeys(NamedTuple):
    """One task's keys, under one hash tag: every script takes all four, in this order.

    ``task``: a hash, one field a fact of the task. ``parts``: a hash, part number → stored part. ``tail``: bytes that
    follow the contiguous parts. ``bodies``: a hash, part number → the bodies in flight for it.
    """

    task: str
    parts: str
    tail: str
    bodies: str


def task_keys(task_id: TaskId) -> TaskKeys:
    """The keys of *task_id*."""
    tag = f"gw:{{{task_id}}}"
    return TaskKeys(tag, f"{tag}:parts", f"{tag}:tail", f"{tag}:bodies")


class BatchKeys(NamedTuple):
    """One batch's keys, under one hash tag.

    ``batch``: a hash, what it is made of. ``slots``: a sorted set, task id → when a body of it was last seen.
    """

    batch: str
    slots: str


def batch_keys(batch_id: BatchId) -> BatchKeys:
    """The keys of *batch_id*."""
    tag = f"gw:batch:{{{batch_id}}}"
    return BatchKeys(tag, f"{tag}:slots")


def owner_key(owner: str) -> str:
    """*owner* as keys and channels name it: 128 bits of SHA-256, so that no caller's string is ever part of a key."""
    return subject_digest(owner)[:_DIGITS]


def owner_index(owner: str) -> str:
    """The index of *owner*'s tasks, given as ``owner_key``."""
    return f"gw:tasks:{owner}"


ALL_TAILS: Final = "gw:ledger:tails"
"""The ledger of everybody's tails."""

OWNER_LEDGERS: Final = "gw:ledger:{gw:tasks:*}:*"
"""Matches every ledger of an owner."""


class LedgerKeys(NamedTuple):
    """The ledgers of one owner, in the slot of the owner's index; see ``ledgers``.

    ``open``: unfinished tasks. ``tails``: tasks that have one. ``ended``: tasks, batches and Idempotency-Keys.
    """

    open: str
    tails: str
    ended: str


def ledger_keys(owner: str) -> LedgerKeys:
    """The ledgers of *owner*, given as ``owner_key``."""
    tag = f"gw:ledger:{{{owner_index(owner)}}}"
    return LedgerKeys(f"{tag}:open", f"{tag}:tails", f"{tag}:ended")


def ledger_owner(key: str) -> str:
    """The ``owner_key`` in the name of a ledger."""
    return key.partition("{gw:tasks:")[2].partition("}")[0]


def idempotency_key(owner: str, key: str) -> str:
    """Where the first task that *owner* created under the Idempotency-Key *key* is noted."""
    return idempotency_note(owner_key(owner), idempotency_name(key))


def idempotency_name(key: str) -> str:
    """The Idempotency-Key *key* as the names of notes hold it."""
    return _digest(key)


def idempotency_note(owner: str, name: str) -> str:
    """The note of the Idempotency-Key of that ``idempotency_name``; *owner* is given as ``owner_key``."""
    return f"gw:once:{owner}:{name}"


def upload_key(upload_id: UploadId) -> str:
    """Where the task that opened *upload_id* at COS is noted, with its owner."""
    return f"gw:upload:{_digest(upload_id)}"


def uploads_index(owner: str, bucket: str) -> str:
    """The uploads that tasks of *owner*, given as ``owner_key``, have open in *bucket*, by key."""
    return f"gw:uploads:{owner}:{bucket}"


def content_key(owner: str, content: str) -> str:
    """Where the newest task of *owner* with this ``content`` is noted."""
    return f"gw:content:{owner_key(owner)}:{content}"


NOTICES: Final = "notices"
"""What is due for tasks with notices, as ``due_key`` names it."""


def due_key(name: str, shard: int) -> str:
    """One shard of the tasks that *name* is due for, by when."""
    return f"gw:due:{name}:{{{shard}}}"


def claim_key(name: str) -> str:
    """Where the process that does the periodic work *name* is noted."""
    return f"gw:claim:{name}"


def progress_channel(owner: str) -> str:
    """The channel of *owner*'s changes; the scripts spell it too, from the task's ``owner_key``."""
    return _PROGRESS + owner_key(owner)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

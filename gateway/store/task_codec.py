"""A task as the fields of a Redis hash, and back.

A field at its default is not stored, so a new task is small. Fields that this version does not know are left alone:
only differences are ever written. ``version``, ``speed`` and its window are written by the scripts.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.domain.objects import Bucket, ETag, ObjectAddress, StoredPart
from gateway.domain.task import BodyMode, Intent, Task, TaskError, TaskId, TaskResult, TaskState
from gateway.store.redis_keys import owner_key

SPEED_IS_STALE_AFTER_SECONDS: Final = 10.0

Fields = Mapping[str, str]


def _headers(text: str) -> dict[str, str]:
    headers: dict[str, str] = json.loads(text)
    return headers


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _known(cls: type[Any], text: str) -> dict[str, Any]:
    """The members of a JSON object that *cls* has here; a newer version may write more."""
    names = {member.name for member in dataclasses.fields(cls)}
    return {name: value for name, value in json.loads(text).items() if name in names}


def _result(text: str) -> TaskResult:
    return TaskResult(**_known(TaskResult, text))


def _error(text: str) -> TaskError:
    return TaskError(**_known(TaskError, text))


def _record(value: TaskResult | TaskError) -> str:
    return _json({member.name: getattr(value, member.name) for member in dataclasses.fields(value)})


_WRITE: Final[Mapping[str, Callable[[Any], str]]] = {
    "owner": str,
    "size": str,
    "part_size": str,
    "slice_size": str,
    "async_limit": str,
    "created_at": repr,
    "updated_at": repr,
    "state": str,
    "mode": str,
    "upload_id": str,
    "intent": str,
    "stored_count": str,
    "contiguous_count": str,
    "loaded": str,
    "next_offset": str,
    "tail_size": str,
    "writer": str,
    "batch_id": str,
    "client_ref": str,
    "content": str,
    "hash_percent": repr,
    "object_headers": lambda headers: _json(dict(headers)),
    "part_headers": lambda headers: _json(dict(headers)),
    "result": _record,
    "error": _record,
}
_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "owner": str,
    "size": int,
    "part_size": int,
    "slice_size": int,
    "async_limit": int,
    "created_at": float,
    "updated_at": float,
    "state": TaskState,
    "mode": BodyMode,
    "upload_id": str,
    "intent": Intent,
    "stored_count": int,
    "contiguous_count": int,
    "loaded": int,
    "next_offset": int,
    "tail_size": int,
    "writer": int,
    "speed": float,
    "version": int,
    "batch_id": str,
    "client_ref": str,
    "content": str,
    "hash_percent": float,
    "object_headers": _headers,
    "part_headers": _headers,
    "result": _result,
    "error": _error,
}
_ALWAYS: Final = frozenset({"state"})
_DEFAULTS: Final[Mapping[str, Any]] = {
    member.name: {} if member.default is dataclasses.MISSING else member.default
    for member in dataclasses.fields(Task)
    if member.name in _WRITE
    and member.name not in _ALWAYS
    and (member.default is not dataclasses.MISSING or member.default_factory is not dataclasses.MISSING)
}
_ABSENT: Final = object()


def encode_task(task: Task) -> dict[str, str]:
    """The fields of *task* that are not at their defaults, without those that the scripts keep."""
    fields = {"bucket": task.at.bucket.name, "region": task.at.bucket.region, "key": task.at.key}
    for name, write in _WRITE.items():
        value = getattr(task, name)
        if value is not None and value != _DEFAULTS.get(name, _ABSENT):
            fields[name] = write(value)
    return fields


def encode_new_task(task: Task) -> dict[str, str]:
    """Every field of a task that is stored for the first time."""
    return {"version": str(task.version), "owner_key": owner_key(task.owner), **encode_task(task)}


def difference(old: Fields, new: Fields) -> tuple[dict[str, str], list[str]]:
    """The fields to set and the fields to delete that turn *old* into *new*, both from ``encode_task``."""
    sets = {name: text for name, text in new.items() if old.get(name) != text}
    return sets, [name for name in old if name not in new]


def decode_task(task_id: TaskId, fields: Fields, now: float, ttl_seconds: float) -> Task:
    """The task that *fields* describe, at Unix time *now*.

    ``expires_at`` follows from the last change. ``speed`` is what the last part told while bytes flow, else 0.
    """
    known: dict[str, Any] = {"size": None}
    known.update((name, read(fields[name])) for name, read in _READ.items() if name in fields)
    bucket = Bucket(fields["bucket"], fields["region"])
    updated_at = known["updated_at"]
    if known["state"] is not TaskState.UPLOADING or now - updated_at > SPEED_IS_STALE_AFTER_SECONDS:
        known["speed"] = 0.0
    return Task(id=task_id, at=ObjectAddress(bucket, fields["key"]), expires_at=updated_at + ttl_seconds, **known)


def encode_part(part: StoredPart, attempt: str) -> str:
    """*part* and the body that brought it: size, CRC-64 (``-``: unknown), attempt and ETag between single spaces."""
    return f"{part.size} {'-' if part.crc64 is None else part.crc64} {attempt} {part.etag}"


def decode_part(number: int, text: str) -> StoredPart:
    """The part that ``encode_part`` wrote."""
    size, crc64, _attempt, etag = text.split(" ", 3)
    return StoredPart(number, int(size), ETag(etag), None if crc64 == "-" else int(crc64))

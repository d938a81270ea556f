"""A task as JSON: the rendering that REST answers and progress messages share, and what single tasks add to it."""

import time
from typing import Any, Final

from gateway.domain.objects import StoredPart
from gateway.domain.task import Task, TaskResult, TaskState
from gateway.web.problems import error_document
from gateway.web.sealing import Sealer
from gateway.web.tickets import Tickets

SPEED_IS_STALE_SECONDS: Final = 10.0


class TaskDocuments:
    """Renders single tasks, each with the sealed ticket from which it can be rebuilt when Redis has lost it."""

    def __init__(self, sealer: Sealer) -> None:
        self._tickets = Tickets(sealer)

    def of(self, task: Task) -> dict[str, Any]:
        """The task document of design §6."""
        if task.is_final:
            self._tickets.forget(task.id)
            return task_document(task, None)
        return task_document(task, self._tickets.of(task))

    def ticket(self, task: Task) -> str:
        """That of a task which has not ended."""
        return self._tickets.of(task)


def task_document(task: Task, ticket: str | None) -> dict[str, Any]:
    """The task as the answers tell it that are about this task alone."""
    return {**listed_document(task), "upload_id": task.upload_id, "ticket": ticket}


def listed_document(task: Task) -> dict[str, Any]:
    """The task as lists and websockets tell it: without its ticket, the larger part of a whole document.

    Sizes are in bytes, ``speed`` in bytes/s, ``percent`` 0-1, times in Unix seconds.
    """
    moving = task.state is TaskState.UPLOADING and time.time() - task.updated_at < SPEED_IS_STALE_SECONDS
    return {
        "id": task.id,
        "state": task.state.value,
        "bucket": task.at.bucket.name,
        "region": task.at.bucket.region,
        "key": task.at.key,
        "size": task.size,
        "loaded": task.loaded,
        "next_offset": task.next_offset,
        "percent": _percent(task),
        "speed": round(task.speed) if moving else 0,
        "hash_percent": None if task.hash_percent is None else round(task.hash_percent, 4),
        "part_size": task.part_size,
        "part_count": task.part_count,
        "stored_parts": task.stored_count,
        "batch_id": task.batch_id,
        "client_ref": task.client_ref,
        "version": task.version,
        "created_at": round(task.created_at, 3),
        "updated_at": round(task.updated_at, 3),
        "expires_at": round(task.expires_at, 3),
        "result": None if task.result is None else _result_document(task, task.result),
        "error": None if task.error is None else error_document(task.error),
    }


def part_document(part: StoredPart) -> dict[str, Any]:
    """A stored part; the CRC-64 is a string, since it does not fit a JavaScript number."""
    return {"number": part.number, "size": part.size, "etag": part.etag, "crc64": _decimal(part.crc64)}


def _percent(task: Task) -> float | None:
    if task.state is TaskState.SUCCESS:
        return 1.0
    if task.size is None:
        return None
    return int(task.loaded / task.size * 10_000) / 10_000 if task.size else 0.0


def _result_document(task: Task, result: TaskResult) -> dict[str, Any]:
    return {
        "location": result.location,
        "bucket": task.at.bucket.name,
        "key": task.at.key,
        "etag": result.etag,
        "version_id": result.version_id,
        "crc64": _decimal(result.crc64),
        "crc64_verified": result.crc64_verified,
        "size": result.size,
        **({} if result.processed is None else {"upload_result": dict(result.processed)}),
    }


def _decimal(crc64: int | None) -> str | None:
    return None if crc64 is None else str(crc64)

"""``python -m tests.fakes.crashing_gateway serve``: the gateway, killed at the point that ``CRASH_AT`` names.

Its two ports are wrapped here, before it is built, so the gateway itself knows of no such thing. ``CRASH_AT=name`` or
``name:count``: the process ends by SIGKILL when it comes there (for the *count*-th time).
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import gateway.app
from gateway.cli import main
from gateway.cos.client import CosClient
from gateway.domain.objects import ETag, ObjectAddress, PartBody, StoredObject, StoredPart, UploadId
from gateway.domain.task import CancelRequested, CompleteRequested, Succeeded, Task, TaskEvent
from gateway.store.task_store import RedisTaskStore

POINTS: Final = (
    *("create.written", "create.cos_ok", "part.start", "part.cos_ok", "part.committed", "put.cos_ok"),
    *("complete.begun", "complete.cos_ok", "complete.committed", "abort.begun", "abort.sent"),
)
_EVENTS: Final[Mapping[type[TaskEvent], str]] = {
    CompleteRequested: "complete.begun",
    Succeeded: "complete.committed",
    CancelRequested: "abort.begun",
}


class CrashPoint:
    """Where the process ends."""

    def __init__(self, told: str) -> None:
        self._name, _, count = told.partition(":")
        self._left = int(count or 1)
        if self._name not in POINTS:
            raise ValueError(f"CRASH_AT is {told!r}, expected one of {POINTS}")

    def reach(self, name: str) -> None:
        """Be at point *name*."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


POINT: Final = CrashPoint(os.environ.get("CRASH_AT", ""))


class CrashingCos(CosClient):
    """COS, before and after some of its calls the end may come."""

    async def initiate(self, at: ObjectAddress, headers: Mapping[str, str]) -> UploadId:
        upload_id = await super().initiate(at, headers)
        POINT.reach("create.cos_ok")
        return upload_id

    async def upload_part(
        self, at: ObjectAddress, upload_id: UploadId, number: int, body: PartBody, headers: Mapping[str, str]
    ) -> StoredPart:
        POINT.reach("part.start")
        part = await super().upload_part(at, upload_id, number, body, headers)
        POINT.reach("part.cos_ok")
        return part

    async def put_object(self, at: ObjectAddress, body: PartBody, headers: Mapping[str, str]) -> StoredObject:
        stored = await super().put_object(at, body, headers)
        POINT.reach("put.cos_ok")
        return stored

    async def complete(
        self, at: ObjectAddress, upload_id: UploadId, parts: Sequence[tuple[int, ETag]], headers: Mapping[str, str]
    ) -> StoredObject:
        stored = await super().complete(at, upload_id, parts, headers)
        POINT.reach("complete.cos_ok")
        return stored

    async def abort(self, at: ObjectAddress, upload_id: UploadId) -> None:
        await super().abort(at, upload_id)
        POINT.reach("abort.sent")


class CrashingTasks(RedisTaskStore):
    """Redis, after some of whose changes the end may come."""

    async def create(self, *args: Any, **options: Any) -> Task:
        task = await super().create(*args, **options)
        POINT.reach("create.written")
        return task

    async def store_part(self, *args: Any, **options: Any) -> Task:
        task = await super().store_part(*args, **options)
        POINT.reach("part.committed")
        return task

    async def store_content_part(self, task: Task, part: StoredPart) -> Task:
        stored = await super().store_content_part(task, part)
        POINT.reach("part.committed")
        return stored

    async def apply(self, task: Task, event: TaskEvent, *, expected_version: int | None = None) -> Task:
        after = await super().apply(task, event, expected_version=expected_version)
        POINT.reach(_EVENTS.get(type(event), ""))
        return after


if __name__ == "__main__":
    vars(gateway.app).update(CosClient=CrashingCos, RedisTaskStore=CrashingTasks)
    sys.exit(main())

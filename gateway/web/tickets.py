"""Tickets: what of a task its client keeps, sealed, so that the task can be made again when Redis has lost it."""

import math
import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from gateway.domain.errors import TaskExpired, TicketInvalid
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.objects import Bucket, ObjectAddress, UploadId
from gateway.domain.task import BodyMode, Task, TaskId
from gateway.web.sealing import MAX_SEALED_BYTES, SealBroken, Sealer

DAY_SECONDS: Final = 86_400
_KEPT: Final = 4096
_HEADERS: Final = "object_headers"


def upload_ticket(request: Request) -> str | None:
    """What the request says in ``Upload-Ticket``. Raises TicketInvalid when that is too long, needed or not."""
    ticket = request.headers.get("upload-ticket")
    if ticket is not None and len(ticket) > MAX_SEALED_BYTES:
        raise TicketInvalid(f"Upload-Ticket has {len(ticket)} bytes, expected at most {MAX_SEALED_BYTES}.")
    return ticket


class Tickets:
    """Seals a task's ticket, and opens it again."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._sealed: dict[TaskId, tuple[tuple[object, ...], str]] = {}

    def of(self, task: Task) -> str:
        """The task's ticket: mostly under 1 KiB, never above 5. It holds as long as the task, and up to a day more."""
        expires = math.ceil(task.expires_at / DAY_SECONDS) * DAY_SECONDS
        # All else in it never changes.
        changing = (task.upload_id, task.size, task.mode, expires)
        of_what, ticket = self._sealed.get(task.id, (None, ""))
        if of_what != changing:
            if len(self._sealed) >= _KEPT:
                self._sealed.clear()
            ticket = self._seal({**_facts(task), "expires": expires})
            self._sealed[task.id] = changing, ticket
        return ticket

    def forget(self, task_id: TaskId) -> None:
        """Nobody will ask for the ticket of *task_id* again: it has ended."""
        self._sealed.pop(task_id, None)

    def open(self, text: str, task_id: TaskId) -> Task:
        """The task *task_id* as its ticket tells it: nothing is known to be stored.

        Raises:
            TicketInvalid: no ticket of ours, or another task's.
            TaskExpired: it ended, with its task.
        """
        try:
            facts = self._sealer.open("ticket", text)
        except SealBroken:
            raise TicketInvalid("Upload-Ticket is no ticket of this gateway.") from None
        if facts["id"] != task_id:
            raise TicketInvalid("Upload-Ticket belongs to another task.")
        if facts.get("expires", 0) < time.time():
            raise TaskExpired("The task of this Upload-Ticket has expired, and what it had stored is gone.")
        return _task(facts)

    def _seal(self, facts: Mapping[str, Any]) -> str:
        try:
            return self._sealer.seal("ticket", facts)
        except ValueError:  # with headers of several KiB: an upload that is open has them, but for this one
            overwrite = {name: value for name, value in facts[_HEADERS].items() if name == FORBID_OVERWRITE}
            return self._sealer.seal("ticket", {**facts, _HEADERS: overwrite or None})


def _facts(task: Task) -> dict[str, Any]:
    """What cannot be read from COS; what is at its default is left out."""
    facts = {
        "id": task.id,
        "owner": task.owner,
        "bucket": task.at.bucket.name,
        "region": task.at.bucket.region,
        "key": task.at.key,
        "upload_id": task.upload_id,
        "size": task.size,
        "part_size": task.part_size,
        "slice_size": task.slice_size,
        "async_limit": task.async_limit,
        "mode": task.mode.value,
        "created_at": task.created_at,
        "batch_id": task.batch_id,
        "client_ref": task.client_ref,
        "content": task.content,
        "part_headers": dict(task.part_headers),
        _HEADERS: dict(task.object_headers),
    }
    return {name: value for name, value in facts.items() if value or name == "size"}


def _task(facts: Mapping[str, Any]) -> Task:
    upload_id, created_at = facts.get("upload_id"), facts["created_at"]
    return Task(
        id=TaskId(facts["id"]),
        owner=facts["owner"],
        at=ObjectAddress(Bucket(facts["bucket"], facts["region"]), facts["key"]),
        size=facts["size"],
        part_size=facts["part_size"],
        slice_size=facts["slice_size"],
        async_limit=facts["async_limit"],
        created_at=created_at,
        updated_at=created_at,
        expires_at=facts["expires"],
        mode=BodyMode(facts.get("mode", "")),
        upload_id=None if upload_id is None else UploadId(upload_id),
        batch_id=facts.get("batch_id"),
        client_ref=facts.get("client_ref"),
        content=facts.get("content"),
        part_headers=facts.get("part_headers", {}),
        object_headers=facts.get(_HEADERS) or {},
    )

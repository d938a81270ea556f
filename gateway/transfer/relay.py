"""Client bytes become COS parts: the path of one numbered part.

Commit order: bytes, COS, CRC-64, Redis, answer. A body that arrived whole is committed even if its client is gone.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from gateway.domain.checksums import crc64
from gateway.domain.errors import (
    GatewayError,
    PartInProgress,
    PreconditionFailed,
    Storage,
    TaskMode,
    TaskSucceeded,
    UploadLost,
)
from gateway.domain.objects import ETag, StoredPart
from gateway.domain.parts import check_part
from gateway.domain.policy import Action, Caller
from gateway.domain.task import BodyMode, BodyStarted, Failed, Task, TaskError, TaskId, TaskState
from gateway.transfer.access import require_visible
from gateway.transfer.bodies_in_flight import BodiesInFlight
from gateway.transfer.interrupt import Interrupt
from gateway.transfer.opening import open_upload
from gateway.transfer.owned import OwnedTasks
from gateway.transfer.ports import ObjectStore, PartClaim, TaskStore
from gateway.transfer.replay import IncomingBody, Lease, ReplayBudget

log = logging.getLogger(__name__)

ATTEMPT_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Digests:
    """What the client says of its bytes: MD5 as base64 (checked by COS) and CRC-64 (checked here)."""

    md5_base64: str | None = None
    crc64: int | None = None


@dataclass(frozen=True, slots=True)
class PartConditions:
    """``if_match``: the stored part's ETag must be this; ``if_absent``: the part must not be stored yet."""

    if_match: ETag | None = None
    if_absent: bool = False

    def check(self, stored: StoredPart | None) -> None:
        """Raise PreconditionFailed instead of a silent replacement."""
        if self.if_absent and stored is not None:
            raise PreconditionFailed("The part is stored already.")
        if self.if_match is not None and (stored is None or stored.etag != self.if_match):
            raise PreconditionFailed("The stored part has another ETag.")


@dataclass(frozen=True, slots=True)
class Engine:
    """What every path of bytes needs."""

    tasks: TaskStore
    objects: ObjectStore
    bodies: BodiesInFlight
    budget: ReplayBudget
    owned: OwnedTasks

    async def fail_for_good(self, task: Task, error: GatewayError) -> None:
        """Put the task into ``error`` if *error* is COS's last word on it."""
        if isinstance(error, UploadLost) or (isinstance(error, Storage) and not error.retryable):
            try:
                await self.tasks.apply(task, Failed(TaskError.of(error)))
            except GatewayError as refused:
                log.warning("the failure could not be noted: %s", refused.code, extra={"task_id": task.id})


class PartRelay:
    """Receives numbered parts, in any order and in parallel."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def receive_part(
        self,
        caller: Caller,
        task_id: TaskId,
        number: int,
        length: int,
        source: AsyncIterator[bytes],
        *,
        digests: Digests,
        conditions: PartConditions,
    ) -> StoredPart:
        """Relay part *number* of exactly *length* bytes from *source*; the receipt means that COS holds it.

        Raises:
            GatewayError: as ``openapi.yaml`` lists them; nothing was acknowledged.
        """
        attempt = secrets.token_hex(ATTEMPT_ID_BYTES)
        claim = await self._engine.tasks.begin_part(task_id, number, attempt)
        try:
            task = claim.task
            require_visible(caller, task, Action.UPLOAD)
            if task.mode is BodyMode.CONTENT:
                raise TaskMode("The task takes its bytes as content.")
            if task.state is TaskState.SUCCESS:
                return await self._compare(claim, source)
            task.require(BodyStarted)
            check_part(number, length, task.part_size, task.size)
            conditions.check(claim.stored)
            return await self._relay(claim, number, length, source, digests, attempt)
        except BaseException:
            self._engine.owned.start(self._engine.tasks.end_part(task_id, number, attempt), "end part")
            raise

    async def _compare(self, claim: PartClaim, source: AsyncIterator[bytes]) -> StoredPart:
        """After success the same bytes are good, others are not; COS is not asked."""
        crc = size = 0
        async for chunk in source:
            crc = crc64(chunk, crc)
            size += len(chunk)
        if claim.stored is None or (size, crc) != (claim.stored.size, claim.stored.crc64):
            raise TaskSucceeded("The task has succeeded with other bytes in this part.", state="success")
        return claim.stored

    async def _relay(
        self,
        claim: PartClaim,
        number: int,
        length: int,
        source: AsyncIterator[bytes],
        digests: Digests,
        attempt: str,
    ) -> StoredPart:
        engine = self._engine
        task = await open_upload(engine.tasks, engine.objects, claim.task)
        lease = engine.budget.try_take(length)
        body = IncomingBody(length, replayable=lease is not None, expected_crc64=digests.crc64)
        storing: asyncio.Task[StoredPart] | None = None
        try:
            async with Interrupt() as interrupt:
                with engine.bodies.registered(task, interrupt):
                    if lease is not None and claim.stored is not None and claim.stored.size == length:
                        await body.pump(source)
                        if body.crc64 == claim.stored.crc64:
                            engine.owned.start(engine.tasks.end_part(task.id, number, attempt), "end part")
                            return claim.stored
                    storing = engine.owned.start(
                        self._store(task, number, body, digests, attempt), f"store part {number}"
                    )
                    storing.add_done_callback(lambda done: _pass_on_failure(done, interrupt))
                    if body.received != length:
                        await body.pump(source)
            return await asyncio.shield(storing)
        except BaseException as error:
            if body.received != length or storing is None:
                body.fail(error)
            raise
        finally:
            if lease is not None:
                _release_after(storing, lease)

    async def _store(self, task: Task, number: int, body: IncomingBody, digests: Digests, attempt: str) -> StoredPart:
        engine = self._engine
        assert task.upload_id is not None
        headers = dict(task.part_headers)
        if digests.md5_base64 is not None:
            headers["content-md5"] = digests.md5_base64
        try:
            part = await engine.objects.upload_part(task.at, task.upload_id, number, body, headers)
            await self._record(task, part, attempt)
        except GatewayError as error:
            await engine.fail_for_good(task, error)
            raise
        return part

    async def _record(self, task: Task, part: StoredPart, attempt: str) -> None:
        """Write the part down; where two bodies for it overlapped, COS's List Parts says which one it kept."""
        try:
            await self._engine.tasks.store_part(task, part, attempt=attempt)
            return
        except PartInProgress:
            pass
        assert task.upload_id is not None
        page = await self._engine.objects.list_parts(task.at, task.upload_id, marker=part.number - 1, limit=1)
        if not any(kept.number == part.number and kept.etag == part.etag for kept in page.parts):
            raise PartInProgress("Another body for this part came at the same time and won.")
        await self._engine.tasks.store_part(task, part, attempt=attempt, decided=True)


def _release_after(storing: "asyncio.Task[StoredPart] | None", lease: Lease) -> None:
    """The bytes are needed until COS has spoken, whatever became of the client."""
    if storing is None or storing.done():
        lease.release()
    else:
        storing.add_done_callback(lambda _: lease.release())


def _pass_on_failure(storing: "asyncio.Task[StoredPart]", interrupt: Interrupt) -> None:
    """COS may answer before the client has sent everything: the client is told at once."""
    if not storing.cancelled() and isinstance(error := storing.exception(), GatewayError):
        interrupt(error)

"""Client bytes become COS parts: the path of one numbered part.

Commit order: bytes, COS, CRC-64, Redis, answer. A body that arrived whole is committed even if its client is gone.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.domain.checksums import crc64
from gateway.domain.errors import (
    GatewayError,
    PartInProgress,
    PreconditionFailed,
    StateStoreUnavailable,
    Storage,
    TaskMode,
    TaskNotFound,
    TaskSucceeded,
    UploadLost,
)
from gateway.domain.objects import ETag, ObjectAddress, StoredPart, UploadId
from gateway.domain.parts import check_part
from gateway.domain.policy import Action, Caller
from gateway.domain.task import BodyMode, BodyStarted, Task, TaskId, TaskState
from gateway.tracing import span
from gateway.transfer.access import require_fits, require_visible
from gateway.transfer.digests import Digests
from gateway.transfer.engine import Engine
from gateway.transfer.interrupt import Interrupt
from gateway.transfer.memory_budget import Lease
from gateway.transfer.ports import PartClaim
from gateway.transfer.replay import IncomingBody

ATTEMPT_ID_BYTES: Final = 8
RECORD_AGAIN_SECONDS: Final = 0.5
RECORD_LATER_SECONDS: Final = 600.0
"""How long a part that was acknowledged without Redis is kept in mind, to be written down once Redis is back."""
RECORD_ATTEMPTS: Final = 8
"""How often a part is written down again because Redis lost the task, or another body for it was written down."""
_NOT_COMPARED: Final = "The task has succeeded. What was stored as this part is no longer known: nothing was compared."


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
        headers: Mapping[str, str] | None = None,
        upload: tuple[ObjectAddress, UploadId] | None = None,
        on_open: Callable[[Task], None] = lambda task: None,
    ) -> StoredPart:
        """Relay part *number* of exactly *length* bytes from *source*; the receipt means that COS holds it.

        *headers* go with this part besides the task's own. *upload*: which one the task must still have, and where.
        *on_open* is told of the task once its upload is open.

        Raises:
            UploadLost: the task's upload is another.
            GatewayError: as ``openapi.yaml`` lists them; nothing was acknowledged.
        """
        engine = self._engine
        attempt = secrets.token_hex(ATTEMPT_ID_BYTES)
        caller.require(Action.UPLOAD)
        owner = None if caller.policy.allows(Action.ALL_TASKS) else caller.owner
        claim = await engine.tasks.begin_part(task_id, number, attempt, owner, caller.policy)
        arriving = _ArrivingPart(engine, claim, number, length, digests, headers or {}, attempt, on_open)
        try:
            task = require_visible(caller, claim.task, Action.UPLOAD)
            if upload not in (None, (task.at, task.upload_id)):
                raise UploadLost("No upload of this id is open here.")
            if task.mode is BodyMode.CONTENT:
                raise TaskMode("The task takes its bytes as content.")
            if task.state is TaskState.SUCCESS:
                return await _compare(claim, source)
            task.require(BodyStarted)
            require_fits(caller, task)
            check_part(number, length, task.part_size, task.size)
            if task.size is None:
                caller.check_size(task.loaded + length - (claim.stored.size if claim.stored else 0))
            conditions.check(claim.stored)
            await engine.admit(task)
            if number == 1 and (look := engine.look(caller, task.at, task.object_headers)) is not None:
                source = look.watched(source)
            with span("relay part", attributes={"task_id": task_id, "part": number, "bytes": length}):
                return await arriving.relay(source)
        finally:
            if not arriving.storing:
                engine.owned.start(engine.tasks.end_part(task_id, number, attempt), "end part")


async def _compare(claim: PartClaim, source: AsyncIterator[bytes]) -> StoredPart:
    """After success the same bytes are good, others are not; COS is not asked.

    Where Redis lost the part, or its CRC-64, in between, nothing tells whether they are: ``differs`` is null then.
    """
    if claim.stored is None or claim.stored.crc64 is None:
        raise TaskSucceeded(_NOT_COMPARED, state="success", differs=None)
    crc = size = 0
    async for chunk in source:
        crc = crc64(chunk, crc)
        size += len(chunk)
    if (size, crc) != (claim.stored.size, claim.stored.crc64):
        raise TaskSucceeded("The task has succeeded with other bytes in this part.", state="success", differs=True)
    return claim.stored


class _ArrivingPart:
    """One body for one part, from its first chunk to COS's acknowledgement.

    Once ``storing``, the attempt ends with what happens at COS, not with the request.
    """

    def __init__(
        self,
        engine: Engine,
        claim: PartClaim,
        number: int,
        length: int,
        digests: Digests,
        headers: Mapping[str, str],
        attempt: str,
        on_open: Callable[[Task], None],
    ) -> None:
        self._engine = engine
        self._claim = claim
        self._number = number
        self._digests = digests
        self._headers = headers
        self._attempt = attempt
        self._on_open = on_open
        self._length = length
        self.storing = False

    async def relay(self, source: AsyncIterator[bytes]) -> StoredPart:
        """Send the bytes of *source* to COS as they come; the same bytes as before only if they are stored nowhere."""
        engine = self._engine
        task = await engine.open(self._claim.task)
        self._on_open(task)
        lease = engine.budget.try_take(self._length, task.owner)
        body = IncomingBody(self._length, replayable=lease is not None, expected_crc64=self._digests.crc64)
        storing: asyncio.Task[StoredPart] | None = None
        try:
            async with Interrupt() as interrupt:
                with engine.bodies.registered(task, interrupt):
                    stored = self._claim.stored
                    if lease is not None and stored is not None and self._may_be(stored):
                        await body.pump(source)
                        if body.crc64 == stored.crc64:
                            return stored
                    if task.state is TaskState.WAITING:  # beside the body; whatever else changes the task goes first
                        begun = engine.tasks.apply(task, BodyStarted(BodyMode.PARTS), expected_version=task.version)
                        engine.owned.start(begun, "begin parts")
                    storing = engine.owned.start(self._store(task, body), f"store part {self._number}")
                    storing.add_done_callback(lambda done: pass_on_failure(done, interrupt))
                    self.storing = True
                    if not body.whole:
                        await body.pump(source)
            return await asyncio.shield(storing)
        except BaseException as error:
            body.fail(error)
            raise
        finally:
            release_after(storing, body, lease)

    def _may_be(self, stored: StoredPart) -> bool:
        """Whether the body may turn out to be *stored* again. An MD5 is COS's to check, so that body goes there."""
        return stored.size == self._length and stored.crc64 is not None and self._digests.md5_base64 is None

    async def _store(self, task: Task, body: IncomingBody) -> StoredPart:
        engine = self._engine
        assert task.upload_id is not None
        headers = {**task.part_headers, **self._headers}
        if self._digests.md5_base64 is not None:
            headers["content-md5"] = self._digests.md5_base64
        try:
            part = await engine.objects.upload_part(task.at, task.upload_id, self._number, body, headers)
            await self._acknowledge(task, part)
        except GatewayError as error:
            # Only now: whoever begins this part before COS has spoken must know that another body is under way.
            engine.owned.start(engine.tasks.end_part(task.id, self._number, self._attempt), "end part")
            told = await engine.judged(task, error)
            if told is error:
                raise
            raise told from error
        return part

    async def _acknowledge(self, task: Task, part: StoredPart) -> None:
        """Write the part down, or let the client go without that where the settings say so: COS holds it."""
        try:
            await self._record(task, part)
        except StateStoreUnavailable as error:
            if not self._engine.ack_without_state:
                receipt = {"number": part.number, "size": part.size, "etag": part.etag, "crc64": str(part.crc64)}
                raise StateStoreUnavailable(error.detail, receipt=receipt) from error
            self._engine.owned.start(self._record_later(task, part), f"record part {self._number}")

    async def _record_later(self, task: Task, part: StoredPart) -> None:
        deadline = time.monotonic() + RECORD_LATER_SECONDS
        while True:
            await asyncio.sleep(RECORD_AGAIN_SECONDS)
            try:
                return await self._record(task, part)
            except Storage:
                if time.monotonic() > deadline:
                    raise

    async def _record(self, task: Task, part: StoredPart) -> None:
        """Write the part down; where two bodies for it overlapped, COS's List Parts says which one it kept."""
        for again in range(RECORD_ATTEMPTS):
            try:
                await self._engine.tasks.store_part(task, part, attempt=self._attempt, decided=again > 0)
                return
            except TaskNotFound:
                await self._engine.rebuild(task)
            except PartInProgress:
                await self._require_kept(task, part)
        # No 404 for a body that was read: it would be asked for again.
        raise StateStoreUnavailable("Redis keeps losing the task, or other bodies keep coming for its part.")

    async def _require_kept(self, task: Task, part: StoredPart) -> None:
        assert task.upload_id is not None
        page = await self._engine.objects.list_parts(task.at, task.upload_id, marker=part.number - 1, limit=1)
        if not any(kept.number == part.number and kept.etag == part.etag for kept in page.parts):
            raise PartInProgress("Another body for this part came at the same time and won.")


def release_after(storing: "asyncio.Task[Any] | None", body: IncomingBody, lease: Lease | None) -> None:
    """Let go of *body* and of its *lease* once COS has spoken, whatever became of the client."""

    def release(_: object) -> None:
        body.forget()
        if lease is not None:
            lease.release()

    if storing is None or storing.done():
        release(storing)
    else:
        storing.add_done_callback(release)


def pass_on_failure(storing: "asyncio.Task[Any]", interrupt: Interrupt) -> None:
    """COS may answer before the client has sent everything: the client is told at once.

    So it is of a defect of ours: nobody reads the body any more, so that it would wait for ever.
    """
    if not storing.cancelled() and (error := storing.exception()) is not None:
        interrupt(error if isinstance(error, GatewayError) else GatewayError())

"""Whole files, and their rests from some offset on, as one body each: the doors to ``SequentialFlow``."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from gateway.domain.errors import OffsetMismatch, StateStoreUnavailable, TaskNotFound
from gateway.domain.policy import Action, Caller
from gateway.domain.signatures import PEEK_BYTES
from gateway.domain.task import BodyMode, BodyStarted, Task, TaskId
from gateway.transfer.access import require_fits, require_may_replace, require_visible
from gateway.transfer.completion import Completion
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.digests import Digests
from gateway.transfer.ending import revived
from gateway.transfer.engine import Engine
from gateway.transfer.part_window import PartWindow
from gateway.transfer.replay import BufferedBody
from gateway.transfer.sequential_flow import ContentRange, SequentialFlow


class SequentialRelay:
    """Receives whole files and their rests."""

    def __init__(self, engine: Engine, completion: Completion) -> None:
        self._engine = engine
        self._completion = completion

    async def receive_content(
        self, caller: Caller, task_id: TaskId, span: ContentRange, source: AsyncIterator[bytes], digests: Digests
    ) -> Task:
        """Take the bytes of *span* for a task that exists; the newest writer wins.

        Returns the task: in ``success`` or ``completing`` when the file's last byte came, else ``uploading``.

        Raises:
            OffsetMismatch: with the true ``next_offset``.
            GatewayError: as ``openapi.yaml`` lists them; what arrived before is kept.
        """
        engine = self._engine
        task = require_visible(caller, await engine.tasks.load(task_id), Action.UPLOAD)
        self._completion.watch(task)
        task = await revived(engine.tasks, task)
        task.require(BodyStarted)
        require_fits(caller, task)
        require_may_replace(caller, task)
        size = span.total
        if size is None and span.ends_file and span.length is not None:
            size = span.offset + span.length
        if size is not None:
            caller.check_size(size)
        await engine.admit(task)
        claim = await engine.tasks.begin_content(task_id, span.offset, size)
        span = replace(span, total=claim.task.size)
        look = engine.look(caller, task.at, task.object_headers) if span.offset == len(claim.tail) else None
        if look is not None:
            source = look.watched(source, before=claim.tail[:PEEK_BYTES], ends_file=span.ends_after)
        flow = SequentialFlow(engine, self._completion, caller, claim.task, span, digests, tail=claim.tail, look=look)
        try:
            return await flow.run(source)
        except TaskNotFound:  # no answer for a body that was read: it would be asked for again
            now = await self._settled(flow.task)
            if now.next_offset == now.size:
                return now
            expected = now.next_offset
            raise OffsetMismatch(f"Redis had lost the task; expected byte {expected}.", next_offset=expected) from None

    async def receive_file(
        self, caller: Caller, task: Task, source: AsyncIterator[bytes], digests: Digests, at_most: int | None = None
    ) -> Task:
        """Take all bytes of a task just created in ``content`` mode, whose type has been looked at.

        *at_most* bounds a size that is unknown.
        """
        span = ContentRange(length=task.size, total=task.size)
        flow = SequentialFlow(self._engine, self._completion, caller, task, span, digests, at_most=at_most)
        try:
            return await flow.run(source)
        except TaskNotFound:
            now = await self._settled(flow.task)
            if now.next_offset == now.size:
                return now
            raise StateStoreUnavailable("Redis lost the task while its file came.") from None

    async def _settled(self, lost: Task) -> Task:
        """*lost*, made again after its body came, and completed if the whole file is stored.

        Raises StateStoreUnavailable when it cannot be made again: TaskNotFound would ask for a body that was read.
        """
        try:
            now = await self._engine.rebuild(lost)
            return await self._completion.complete(now, CompleteWanted()) if now.next_offset == now.size else now
        except TaskNotFound:
            raise StateStoreUnavailable("Redis has lost the task of this body.") from None

    async def receive_whole(self, draft: Task, chunks: Sequence[bytes], digests: Digests) -> Task:
        """Store a file whose bytes are all here; *draft* is its task, not written yet. Raises DigestMismatch."""
        digests.require(chunks)
        return await self._completion.put_new(draft, BufferedBody(chunks), digests.md5_base64)

    async def flush_tail(self, caller: Caller, task: Task, size: int | None) -> Task:
        """Make the tail, if there is one, the last part, so that the task can be completed.

        *size* is what the caller says of the file. A file that has more bytes to come keeps its tail: as a part it
        would be too small to stand before another.
        """
        size = task.size if task.size is not None else size
        if task.mode is not BodyMode.CONTENT or not task.tail_size or size not in (None, task.next_offset):
            return task
        claim = await self._engine.tasks.begin_content(task.id, task.next_offset, None)
        look = self._engine.look(caller, task.at, task.object_headers)
        if look is not None and task.next_offset == len(claim.tail):
            look.judge(claim.tail)
        window = PartWindow(self._engine, claim.task, on_failure=lambda _: None)
        await window.send(BufferedBody([claim.tail]), None)
        await window.drain()
        return window.task

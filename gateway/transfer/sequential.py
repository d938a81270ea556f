"""A body that is read once from some offset on, a whole file or its rest, becomes parts with a window in flight.

Parts are buffered from the replay budget, so where the body breaks off, 1 MiB or more becomes a part and less the tail:
the client goes on at the very byte. Without budget a part of known size streams, and a break loses that part.
"""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.domain.errors import BodyIncomplete, BodyTooLarge, DigestMismatch, GatewayError
from gateway.domain.parts import MAX_PART_COUNT, MIN_PART_BYTES, PartCutter, sequential_part_size
from gateway.domain.policy import Action, Caller
from gateway.domain.task import BodyMode, BodyStarted, Failed, Task, TaskError, TaskId
from gateway.transfer.access import require_visible
from gateway.transfer.completion import Completion
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.interrupt import Interrupt
from gateway.transfer.opening import open_upload
from gateway.transfer.relay import Digests, Engine
from gateway.transfer.replay import BufferedBody, IncomingBody, Lease

BUDGET_WAIT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Which bytes of the file a body holds.

    ``length`` is the body's exact length and ``total`` the file's size, None where unknown. ``ends_file``: the file
    ends where the body ends.
    """

    offset: int = 0
    length: int | None = None
    total: int | None = None
    ends_file: bool = True


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
        task.require(BodyStarted)
        size = span.total
        if size is None and span.ends_file and span.length is not None:
            size = span.offset + span.length
        if size is not None:
            caller.check_size(size)
        claim = await engine.tasks.begin_content(task_id, span.offset, size)
        span = replace(span, total=claim.task.size)
        flow = _Flow(engine, self._completion, caller, claim.task, span, digests, claim.tail)
        return await flow.run(source)

    async def receive_file(
        self, caller: Caller, task: Task, source: AsyncIterator[bytes], digests: Digests, at_most: int | None = None
    ) -> Task:
        """Take all bytes of a task just created in ``content`` mode; *at_most* bounds a size that is unknown."""
        span = ContentRange(length=task.size, total=task.size)
        flow = _Flow(self._engine, self._completion, caller, task, span, digests, b"", at_most)
        return await flow.run(source)

    async def receive_whole(self, task: Task, chunks: Sequence[bytes], digests: Digests) -> Task:
        """Store a file whose bytes are all here for a task that was born ``completing``."""
        body = BufferedBody(chunks)
        if digests.crc64 not in (None, body.crc64):
            error = DigestMismatch("The CRC-64 of the bytes that came is not the one that was announced.")
            await self._engine.tasks.apply(task, Failed(TaskError.of(error)))
            raise error
        return await self._completion.put_whole(task, body, digests.md5_base64)

    async def flush_tail(self, task: Task) -> Task:
        """Make the tail, if there is one, the last part, so that the task can be completed."""
        if task.mode is not BodyMode.CONTENT or not task.tail_size:
            return task
        claim = await self._engine.tasks.begin_content(task.id, task.next_offset, None)
        opened = await open_upload(self._engine.tasks, self._engine.objects, claim.task)
        assert opened.upload_id is not None
        part = await self._engine.objects.upload_part(
            opened.at, opened.upload_id, opened.contiguous_count + 1, BufferedBody([claim.tail]), opened.part_headers
        )
        return await self._engine.tasks.store_content_part(opened, part)


class _Flow:
    """One sequential body from its first chunk to its last, or to where it broke off."""

    def __init__(
        self,
        engine: Engine,
        completion: Completion,
        caller: Caller,
        task: Task,
        span: ContentRange,
        digests: Digests,
        tail: bytes,
        at_most: int | None = None,
    ) -> None:
        self._engine = engine
        self._completion = completion
        self._caller = caller
        self._task = task
        self._span = span
        self._digests = digests
        self._tail = tail
        self._at_most = at_most
        self._received = 0
        self._cut_offset = span.offset - len(tail)
        self._next_number = task.contiguous_count + 1
        self._cutter: PartCutter | None = None
        self._lease: Lease | None = None
        self._stream: IncomingBody | None = None
        self._in_flight: set[asyncio.Task[None]] = set()
        self._failure: GatewayError | None = None
        self._interrupt = Interrupt()
        wants_md5 = digests.md5_base64 is not None and span.offset == 0
        self._md5 = hashlib.md5(usedforsecurity=False) if wants_md5 else None

    # --- reading, in the order things happen

    async def run(self, source: AsyncIterator[bytes]) -> Task:
        try:
            async with self._interrupt:
                with self._engine.bodies.registered(self._task, self._interrupt):
                    await self._cut(self._tail)
                    async for chunk in source:
                        await self._take(chunk)
                    self._check_length()
            if not self._ends_here():
                await self._keep_what_came()
                return self._task
        except BaseException as error:
            saving = self._engine.owned.start(self._break_off(error), "keep what came")
            await asyncio.shield(saving)
            raise
        return await self._finish()

    async def _take(self, chunk: bytes) -> None:
        self._received += len(chunk)
        end, total = self._span.offset + self._received, self._span.total
        if self._span.length is not None and self._received > self._span.length:
            raise BodyTooLarge(f"The body has more than {self._span.length} bytes.", expected=self._span.length)
        if total is None:
            self._caller.check_size(end)
        elif end > total:
            raise BodyTooLarge(f"The file has more than {total} bytes.", expected=total)
        if self._md5 is not None:
            self._md5.update(chunk)
        await self._cut(chunk)

    def _check_length(self) -> None:
        span = self._span
        expected = span.length
        if expected is None and span.ends_file and span.total is not None:
            expected = span.total - span.offset
        if expected not in (None, self._received):
            raise BodyIncomplete(f"The body has {self._received} bytes, expected {expected}.", expected=expected)

    def _ends_here(self) -> bool:
        end = self._span.offset + self._received
        return end == self._span.total if self._span.total is not None else self._span.ends_file

    async def _cut(self, chunk: bytes) -> None:
        while chunk:
            if self._cutter is None and self._stream is None:
                await self._begin_part()
            if self._stream is not None:
                chunk = await self._feed_stream(self._stream, chunk)
            elif self._cutter is not None:
                chunk = self._cutter.feed(chunk)
                if self._cutter.full and not self._may_be_whole():
                    await self._send_cut()

    def _may_be_whole(self) -> bool:
        """Whether the buffered bytes may still turn out to be a whole file that one PUT stores."""
        cutter = self._cutter
        return self._fits_one_put() and cutter is not None and cutter.size == self._span.total

    def _fits_one_put(self) -> bool:
        size = self._span.offset + self._received
        return self._task.upload_id is None and self._next_number == 1 and size <= self._task.slice_size

    # --- parts

    async def _begin_part(self) -> None:
        """Take memory for the next part: what it needs, or else the least that makes a part, or else stream it."""
        total = self._span.total
        size = sequential_part_size(self._task.part_size, self._next_number - 1, self._cut_offset, total)
        left = self._left()
        undecided = self._task.upload_id is None and self._next_number == 1
        if undecided:
            size = max(size, self._task.slice_size + 1)
        least = MIN_PART_BYTES
        if total is not None:
            least = max(least, -(-(total - self._cut_offset) // max(1, MAX_PART_COUNT + 1 - self._next_number)))
        if left is not None:
            size, least = max(1, min(size, left)), max(1, min(least, left))
        lease = self._engine.budget.try_take(size) or self._engine.budget.try_take(least)
        while lease is None and self._in_flight:
            await self._wait_for_a_part()
            lease = self._engine.budget.try_take(size) or self._engine.budget.try_take(least)
        if lease is None and (total is None or undecided):
            lease = await self._engine.budget.take(least, BUDGET_WAIT_SECONDS)
        if lease is None:
            await self._begin_stream(size)
        else:
            self._lease, self._cutter = lease, PartCutter(lease.size)

    def _left(self) -> int | None:
        """An upper bound of the bytes that follow ``_cut_offset``."""
        if self._span.total is not None:
            return self._span.total - self._cut_offset
        if self._at_most is not None:
            return self._at_most - self._cut_offset
        return None

    async def _send_cut(self) -> None:
        """Send the buffered part as soon as the window has room."""
        cutter, lease = self._cutter, self._lease
        assert cutter is not None
        assert lease is not None
        while len(self._in_flight) >= self._task.async_limit:
            await self._wait_for_a_part()
        self._raise_failure()
        await self._open()
        self._cutter = self._lease = None
        self._start_store(BufferedBody(cutter.chunks), lease)

    async def _begin_stream(self, size: int) -> None:
        await self._open()
        self._stream = IncomingBody(size, replayable=False)
        self._start_store(self._stream, None)

    async def _feed_stream(self, stream: IncomingBody, chunk: bytes) -> bytes:
        room = stream.size - stream.received
        await stream.feed(chunk[:room])
        if stream.received == stream.size:
            self._stream = None
            while self._in_flight:
                await self._wait_for_a_part()
            self._raise_failure()
        return chunk[room:]

    async def _open(self) -> None:
        if self._task.upload_id is None:
            self._task = await open_upload(self._engine.tasks, self._engine.objects, self._task)

    def _start_store(self, body: BufferedBody | IncomingBody, lease: Lease | None) -> None:
        number = self._next_number
        self._next_number += 1
        self._cut_offset += body.size
        storing = self._engine.owned.start(self._store(number, body, lease), f"store part {number}")
        self._in_flight.add(storing)
        storing.add_done_callback(self._in_flight.discard)

    async def _store(self, number: int, body: BufferedBody | IncomingBody, lease: Lease | None) -> None:
        task = self._task
        assert task.upload_id is not None
        try:
            part = await self._engine.objects.upload_part(task.at, task.upload_id, number, body, task.part_headers)
            stored = await self._engine.tasks.store_content_part(task, part)
        except GatewayError as error:
            self._failure = self._failure or error
            self._interrupt(error)
            await self._engine.fail_for_good(task, error)
        else:
            if stored.version > self._task.version:
                self._task = stored
        finally:
            if lease is not None:
                lease.release()

    async def _wait_for_a_part(self) -> None:
        await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # --- the end

    async def _finish(self) -> Task:
        try:
            if self._fits_one_put():
                return await self._put_whole()
            if self._cutter is not None and self._cutter.size:
                await self._send_cut()
            while self._in_flight:
                await self._wait_for_a_part()
            self._raise_failure()
        finally:
            self._release()
        await self._check_md5()
        wanted = CompleteWanted(size=self._span.offset + self._received, crc64=self._digests.crc64)
        return await self._completion.complete(self._task, wanted)

    async def _put_whole(self) -> Task:
        body = BufferedBody(self._cutter.chunks if self._cutter is not None else ())
        if self._digests.crc64 not in (None, body.crc64):
            await self._fail(DigestMismatch("The CRC-64 of the bytes that came is not the one that was announced."))
        return await self._completion.put_whole(self._task, body, self._digests.md5_base64)

    async def _check_md5(self) -> None:
        if self._md5 is None:
            return
        if b64encode(self._md5.digest()).decode() != self._digests.md5_base64:
            await self._fail(DigestMismatch("The MD5 of the bytes that came is not the one that was announced."))

    async def _fail(self, error: GatewayError) -> None:
        await self._engine.tasks.apply(self._task, Failed(TaskError.of(error)))
        raise error

    async def _break_off(self, error: BaseException) -> None:
        """After a break: keep what came, then say so if *error* is the end of the task."""
        if self._stream is not None:
            self._stream.fail(error)
        try:
            await self._keep_what_came()
            if isinstance(error, GatewayError) and error.status_hint in (400, 403, 413, 415) and not error.retryable:
                await self._engine.tasks.apply(self._task, Failed(TaskError.of(error)))
        except GatewayError as refused:
            self._failure = self._failure or refused
        finally:
            self._release()

    async def _keep_what_came(self) -> None:
        """1 MiB or more becomes a part, less the tail; then every part in flight is waited for."""
        cutter = self._cutter
        if cutter is not None and cutter.size >= MIN_PART_BYTES and self._failure is None:
            await self._send_cut()
            cutter = None
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        if cutter is not None and cutter.size and self._failure is None:
            self._task = await self._engine.tasks.keep_tail(self._task, b"".join(cutter.chunks))
        self._cutter = None
        self._release()

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

"""A body that is read once from some offset on, a whole file or its rest, becomes parts with a window in flight.

Parts are buffered from the replay budget, so where the body breaks off, 1 MiB or more becomes a part and less the tail:
the client goes on at the very byte. Without budget a part of known size streams, and a break loses that part.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import (
    BadInput,
    BodyIncomplete,
    BodySuperseded,
    BodyTooLarge,
    DigestMismatch,
    GatewayError,
    NotAllowed,
    TaskCanceled,
    TaskNotFound,
    TokenExpired,
    TokenInvalid,
)
from gateway.domain.parts import MAX_PART_COUNT, MIN_PART_BYTES, PartCutter, sequential_part_size
from gateway.domain.policy import Caller
from gateway.domain.task import Task
from gateway.tracing import span
from gateway.transfer.completion import Completion
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.digests import DigestCheck, Digests
from gateway.transfer.engine import Engine
from gateway.transfer.interrupt import Interrupt
from gateway.transfer.memory_budget import Lease
from gateway.transfer.part_window import PartWindow
from gateway.transfer.replay import BufferedBody, IncomingBody
from gateway.transfer.typed_source import TypeLook

BUDGET_WAIT_SECONDS: Final = 10.0
_NOT_WORTH_KEEPING: Final = (BodySuperseded, TaskCanceled, DigestMismatch)
"""After these no further byte goes to COS: a newer writer sends the same part numbers, or nobody wants them."""

_CURABLE: Final = (TaskNotFound, TokenExpired, TokenInvalid)
"""Not the body's fault: with the task's ticket, or another token, the same bytes are good."""


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

    def ends_after(self, size: int) -> bool:
        """Whether a body of *size* bytes ends the file."""
        return self.offset + size == self.total if self.total is not None else self.ends_file


class SequentialFlow:
    """One sequential body from its first chunk to its last, or to where it broke off.

    Args:
        tail: bytes before *span* that are no part yet.
        at_most: bounds the size of a file of which nobody says it.
        look: has seen the file's first bytes once they have been read; None where nobody looks.
    """

    def __init__(
        self,
        engine: Engine,
        completion: Completion,
        caller: Caller,
        task: Task,
        span: ContentRange,
        digests: Digests,
        *,
        tail: bytes = b"",
        at_most: int | None = None,
        look: TypeLook | None = None,
    ) -> None:
        self._engine = engine
        self._completion = completion
        self._caller = caller
        self._span = span
        self._said = digests
        self._check = DigestCheck(digests)
        self._tail = tail
        self._at_most = at_most
        self._look = look
        self._received = 0
        self._cut_offset = span.offset - len(tail)
        self._cutter: PartCutter | None = None
        self._lease: Lease | None = None
        self._stream: IncomingBody | None = None
        self._interrupt = Interrupt()
        self._window = PartWindow(engine, task, self._interrupt)

    @property
    def task(self) -> Task:
        """The task as this body last saw it."""
        return self._window.task

    async def run(self, source: AsyncIterator[bytes]) -> Task:
        """Take all of *source*; complete the task if that is the file's end."""
        with span("relay content", attributes={"task_id": self.task.id, "offset": self._span.offset}):
            return await self._run(source)

    async def _run(self, source: AsyncIterator[bytes]) -> Task:
        try:
            async with self._interrupt:
                with self._engine.bodies.registered(self._window.task, self._interrupt):
                    await self._cut(self._tail)
                    async for chunk in source:
                        await self._take(chunk)
                        del chunk
            self._require_whole()
            if not self._ends_file():
                await self._keep_what_came()
                self._window.raise_failure()
                return self._window.task
            if not self._fits_one_put():
                await self._send_cut()
                await self._window.drain()
        except BaseException as error:
            await self._engine.owned.finish(self._break_off(error), "keep what came")
            raise
        return await self._finish()

    # --- reading, in the order things happen

    async def _take(self, chunk: bytes) -> None:
        self._received += len(chunk)
        end, total = self._end(), self._span.total
        if self._span.length is not None and self._received > self._span.length:
            raise BodyTooLarge(f"The body has more than {self._span.length} bytes.", expected=self._span.length)
        if total is None:
            self._caller.check_size(end)
        elif end > total:
            raise BodyTooLarge(f"The file has more than {total} bytes.", expected=total)
        self._check.update(chunk)
        await self._cut(chunk)

    async def _cut(self, chunk: bytes) -> None:
        while chunk:
            if self._cutter is None and self._stream is None:
                await self._begin_part()
            if self._stream is not None:
                chunk = await self._feed_stream(self._stream, chunk)
            elif self._cutter is not None:
                chunk = self._cutter.feed(chunk)
                if self._cutter.full and not self._may_be_whole(self._cutter):
                    await self._send_cut()

    async def _begin_part(self) -> None:
        """Take memory for the next part: what it needs, or else the least that makes a part, or else stream it."""
        size, least = self._sizes()
        budget, owner = self._engine.budget, self._window.task.owner
        lease = budget.try_take(size, owner) or budget.try_take(least, owner)
        while lease is None and len(self._window):
            await self._window.wait_for_one()
            lease = budget.try_take(size, owner) or budget.try_take(least, owner)
        if lease is None and self._span.total is None:
            lease = await budget.take(least, owner, BUDGET_WAIT_SECONDS)
        if lease is not None:
            self._lease, self._cutter = lease, PartCutter(lease.size)
            return
        stream = IncomingBody(size, replayable=False)
        await self._window.send(stream, None)
        self._stream = stream
        self._cut_offset += size

    def _sizes(self) -> tuple[int, int]:
        """How long the next part should be, and how long it must be at least."""
        task, total, stored_count = self._window.task, self._span.total, self._window.next_number - 1
        size, least = sequential_part_size(task.part_size, stored_count, self._cut_offset, total), MIN_PART_BYTES
        left = self._at_most if total is None else total
        if self._nothing_at_cos() and (total is None or total <= task.slice_size):
            size = max(size, task.slice_size + 1)
        if total is not None:
            least = max(least, -(-(total - self._cut_offset) // max(1, MAX_PART_COUNT - stored_count)))
        if left is not None:
            size, least = (max(1, min(wanted, left - self._cut_offset)) for wanted in (size, least))
        return size, least

    async def _send_cut(self) -> None:
        """Send the buffered part, if there is one."""
        cutter, lease = self._cutter, self._lease
        if cutter is None or not cutter.size:
            return
        await self._window.send(BufferedBody(cutter.chunks), lease)
        self._cutter = self._lease = None
        self._cut_offset += cutter.size

    async def _feed_stream(self, stream: IncomingBody, chunk: bytes) -> bytes:
        room = stream.size - stream.received
        await stream.feed(chunk[:room])
        if stream.whole:
            self._stream = None
            await self._window.drain()
        return chunk[room:]

    # --- what is known by now

    def _end(self) -> int:
        return self._span.offset + self._received

    def _ends_file(self) -> bool:
        return self._span.ends_after(self._received)

    def _nothing_at_cos(self) -> bool:
        return self._window.task.upload_id is None and self._window.next_number == 1

    def _fits_one_put(self) -> bool:
        return self._nothing_at_cos() and self._end() <= self._window.task.slice_size

    def _may_be_whole(self, cutter: PartCutter) -> bool:
        """Whether the buffered bytes may still turn out to be a whole file that one PUT stores."""
        return self._fits_one_put() and cutter.size == self._span.total

    def _require_whole(self) -> None:
        """Raise unless the body is as long as it was said to be, and has the bytes that it was said to have."""
        span = self._span
        expected = span.length
        if expected is None and span.ends_file and span.total is not None:
            expected = span.total - span.offset
        if expected not in (None, self._received):
            raise BodyIncomplete(f"The body has {self._received} bytes, expected {expected}.", expected=expected)
        self._check.require()

    # --- the end

    async def _finish(self) -> Task:
        if not self._fits_one_put():
            return await self._completion.complete(self._window.task, CompleteWanted(size=self._end()))
        return await self._engine.owned.finish(self._put_whole(), "put whole file")

    async def _put_whole(self) -> Task:
        """The file in one PUT; its bytes count as held until COS has spoken, whatever becomes of the client."""
        try:
            body = BufferedBody(self._cutter.chunks if self._cutter is not None else ())
            md5 = self._said.md5_base64 if self._span.offset == 0 else None
            shown = {} if self._look is None else self._look.headers
            return await self._completion.put_whole(self._window.task, body, md5, shown)
        finally:
            self._release()

    async def _break_off(self, error: BaseException) -> None:
        """After a break: keep what came, and put the task into ``error`` if the same body can never be good."""
        if self._stream is not None:
            self._stream.fail(error)
        try:
            if isinstance(error, _NOT_WORTH_KEEPING):
                await self._window.settle()
            else:
                await self._keep_what_came()
        except GatewayError as refused:
            self._window.failure = self._window.failure or refused
        finally:
            self._release()
        hopeless = isinstance(error, BadInput | NotAllowed) and not (error.retryable or isinstance(error, _CURABLE))
        if isinstance(error, GatewayError) and (hopeless or isinstance(error, DigestMismatch)):
            await self._engine.fail(self._window.task, error)

    async def _keep_what_came(self) -> None:
        """1 MiB or more becomes a part, less the tail; then every part in flight is waited for."""
        cutter = self._cutter
        if cutter is not None and cutter.size >= MIN_PART_BYTES and self._window.failure is None:
            await self._send_cut()
            cutter = None
        await self._window.settle()
        if cutter is not None and cutter.size and self._window.failure is None:
            self._window.task = await self._keep_tail(self._window.task, b"".join(cutter.chunks))
        self._cutter = None
        self._release()

    async def _keep_tail(self, task: Task, tail: bytes) -> Task:
        try:
            return await self._keep_if_it_follows(task, tail)
        except TaskNotFound:
            return await self._keep_if_it_follows(await self._engine.rebuild(task), tail)

    async def _keep_if_it_follows(self, task: Task, tail: bytes) -> Task:
        """*task* with *tail*, or without it where the parts before it have been forgotten."""
        if task.next_offset - task.tail_size != self._cut_offset:
            return task
        return await self._engine.tasks.keep_tail(task, tail)

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

"""The parts of one sequential body that are on their way to COS."""

import asyncio
from collections.abc import Callable

from gateway.domain.errors import FileTooLarge, GatewayError, TaskNotFound
from gateway.domain.objects import PartBody, StoredPart
from gateway.domain.parts import MAX_PART_COUNT
from gateway.domain.task import Task
from gateway.transfer.engine import Engine
from gateway.transfer.memory_budget import Lease
from gateway.transfer.replay import BufferedBody


class PartWindow:
    """Numbers the parts of a body and keeps up to ``task.async_limit`` of them in flight.

    ``task`` is the newest that the store told. The first failure is kept in ``failure``; every later call raises it.

    Args:
        on_failure: told of that failure at once, so that a body that waits for its client can end.
    """

    def __init__(self, engine: Engine, task: Task, on_failure: Callable[[GatewayError], None]) -> None:
        self.task = task
        self.next_number = task.contiguous_count + 1
        self.failure: GatewayError | None = None
        self._engine = engine
        self._on_failure = on_failure
        self._in_flight: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._in_flight)

    async def send(self, body: PartBody, lease: Lease | None) -> None:
        """Begin to store *body* as the next part once the window has room; *lease* is then the window's to release.

        Raises:
            FileTooLarge: there are 10,000 parts already.
            GatewayError: an earlier part failed, or the upload could not be opened.
        """
        if self.next_number > MAX_PART_COUNT:
            raise FileTooLarge(f"The body needs more than {MAX_PART_COUNT} parts.")
        while len(self._in_flight) >= self.task.async_limit:
            await self.wait_for_one()
        self.raise_failure()
        if self.task.upload_id is None:
            self.task = await self._engine.open(self.task)
        number = self.next_number
        self.next_number += 1
        storing = self._engine.owned.start(self._store(number, body, lease), f"store part {number}")
        self._in_flight.add(storing)
        storing.add_done_callback(self._in_flight.discard)

    async def wait_for_one(self) -> None:
        """Return when a part has ended; raise the failure if there is one."""
        done, _ = await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
        self.raise_failure()

    async def drain(self) -> None:
        """Return when every part is stored; raise the failure as soon as there is one."""
        while self._in_flight:
            await self.wait_for_one()
        self.raise_failure()

    async def settle(self) -> None:
        """Return when nothing is in flight any more, however it went."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def raise_failure(self) -> None:
        """Raise the failure if there is one."""
        if self.failure is not None:
            raise self.failure

    async def _store(self, number: int, body: PartBody, lease: Lease | None) -> None:
        engine, task = self._engine, self.task
        assert task.upload_id is not None
        try:
            part = await engine.objects.upload_part(task.at, task.upload_id, number, body, task.part_headers)
            stored = await self._record(task, part)
        except GatewayError as error:
            self._fail(await engine.judged(task, error))
        except Exception:  # a defect of ours: the body must not go on as if the part were stored
            self._fail(GatewayError())
            raise
        else:
            if stored.version > self.task.version:
                self.task = stored
        finally:
            if isinstance(body, BufferedBody):
                body.forget()
            if lease is not None:
                lease.release()

    def _fail(self, error: GatewayError) -> None:
        self.failure = self.failure or error
        self._on_failure(error)

    async def _record(self, task: Task, part: StoredPart) -> Task:
        """Write the part down, as the writer that this body is, also in a task that had to be made again."""
        tasks = self._engine.tasks
        try:
            return await tasks.store_content_part(task, part)
        except TaskNotFound:
            await self._engine.rebuild(task)
            return await tasks.store_content_part(task, part)

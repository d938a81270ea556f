"""Notices on their way to webhooks: each is told until its receiver takes it, at least once.

A notice is stored with the change that it tells of. The process that made the change tells at once; when it dies, or
fails, any other goes on.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Sequence
from typing import Final, Protocol

from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.notices import Notice, NoticeRefused
from gateway.domain.task import TaskId
from gateway.telemetry import Metrics
from gateway.transfer.due_tasks import DueTasks
from gateway.transfer.ports import Clock

log = logging.getLogger(__name__)

AT_WORK_MOST: Final = 32
"""Tasks whose notices one process tells at once."""
WOKEN_MOST: Final = 1000
"""Changes of our own that wait to be told; what is beyond is found through the index."""
LOOK_SECONDS: Final = 1.0
CLAIM_SECONDS: Final = 15.0
"""How long a taken task is left alone by others: longer than a receiver may take, and Redis."""
LEAST_WAIT_SECONDS: Final = 2.0
MOST_WAIT_SECONDS: Final = 3600.0
GAUGE_SECONDS: Final = 10.0
LATE_MOST: Final = 1000


class NoticeStore(Protocol):
    """The notices that lie with a task. Every method raises StateStoreUnavailable."""

    async def pending(self, task_id: TaskId) -> Sequence[Notice]:
        """Those not delivered yet, the oldest first."""

    async def forget(self, task_id: TaskId, notice_id: str) -> None:
        """It is delivered, or given up."""


class NoticeSender(Protocol):
    """Tells receivers."""

    async def send(self, notice: Notice) -> None:
        """Tell the receiver of the task's bucket. Raises NoticeRefused; ends within seconds."""


def wait_after(age_seconds: float) -> float:
    """How long to wait, before randomness, after a notice of this age was not taken: its age again, so it doubles."""
    return min(max(age_seconds, LEAST_WAIT_SECONDS), MOST_WAIT_SECONDS)


class Notices:
    """Tells what is due. ``run`` must run as long as the process serves.

    Args:
        give_up_seconds: how old a notice becomes before nobody tells it any more.
    """

    def __init__(
        self,
        due: DueTasks,
        store: NoticeStore,
        sender: NoticeSender,
        metrics: Metrics,
        *,
        give_up_seconds: float,
        clock: Clock = time.time,
    ) -> None:
        self._due = due
        self._store = store
        self._sender = sender
        self._metrics = metrics
        self._give_up_seconds = give_up_seconds
        self._clock = clock
        self._woken: dict[TaskId, float] = {}
        self._awake = asyncio.Event()
        self._at_work: set[asyncio.Task[None]] = set()
        self._late: dict[TaskId, float] = {}

    def wake(self, task_id: TaskId, due: float) -> None:
        """*task_id* has a notice that this process stored and listed as due at *due*: tell it now."""
        if len(self._woken) < WOKEN_MOST:
            self._woken[task_id] = due
            self._awake.set()

    async def run(self) -> None:
        """Tell until cancelled; what is under way then is told again by whoever lives."""
        gauges_at = 0.0
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.5, 1.0) * LOOK_SECONDS):  # noqa: S311 -- jitter
                        await self._awake.wait()
                self._awake.clear()
                try:
                    await self.round()
                    if asyncio.get_running_loop().time() >= gauges_at:
                        gauges_at = asyncio.get_running_loop().time() + GAUGE_SECONDS
                        await self.measure()
                except StateStoreUnavailable:
                    log.warning("redis does not answer: webhooks wait")
        finally:
            for work in self._at_work:
                work.cancel()

    async def round(self) -> None:
        """Begin to tell what is due, as far as there is room."""
        room = AT_WORK_MOST - len(self._at_work)
        if room <= 0:
            return
        own = [(task_id, self._woken.pop(task_id)) for task_id in list(self._woken)[:room]]
        for task_id, due in own:
            self._begin(task_id, due)
        if room > len(own):
            until = self._claimed_until()
            for task_id in await self._due.take(self._clock(), until, room - len(own)):
                self._begin(task_id, until)

    def _claimed_until(self) -> float:
        """A time that no other process claims until: by it a claim is known again."""
        return self._clock() + random.uniform(1.0, 1.1) * CLAIM_SECONDS  # noqa: S311 -- tells claims apart

    def _begin(self, task_id: TaskId, due: float) -> None:
        work = asyncio.create_task(self._tell(task_id, due), name="notices")
        self._at_work.add(work)
        work.add_done_callback(self._ended)

    def _ended(self, work: "asyncio.Task[None]") -> None:
        self._at_work.discard(work)
        if self._woken:
            self._awake.set()
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("telling a webhook failed", exc_info=error)

    async def idle(self) -> None:
        """Return when nothing is being told."""
        while self._at_work:
            await asyncio.wait(self._at_work)

    async def _tell(self, task_id: TaskId, due: float) -> None:
        """Tell every notice of the task, in order, as long as it is *due* as it was: the first that fails ends it.

        A new notice makes the task due at another time, so it is never struck off with that untold.
        """
        try:
            until = self._claimed_until()
            if not await self._due.move(task_id, due, until):
                return
            for notice in await self._store.pending(task_id):
                if not await self._told(notice):
                    now = self._clock()
                    wait = random.uniform(0.8, 1.2) * wait_after(now - notice.at)  # noqa: S311 -- jitter
                    await self._due.move(task_id, until, now + wait)
                    self._note_late(task_id, notice)
                    return
                await self._store.forget(task_id, notice.id)
                due, until = until, self._claimed_until()
                if not await self._due.move(task_id, due, until):
                    return
            self._late.pop(task_id, None)
            await self._due.settle(task_id, until)
        except StateStoreUnavailable:
            log.warning("redis does not answer: a webhook may be told again", extra={"task_id": task_id})

    async def _told(self, notice: Notice) -> bool:
        """Whether *notice* is done with: delivered, or too old."""
        began = time.perf_counter()
        told = {"task_id": notice.task.id, "event": notice.kind.value, "event_id": notice.id}
        try:
            await self._sender.send(notice)
        except NoticeRefused as refused:
            late = self._clock() - notice.at > self._give_up_seconds
            log.log(logging.ERROR if late else logging.WARNING, "a webhook was not told: %s", refused, extra=told)
            self._metrics.count("gateway_webhook_events_total", "given_up" if late else "failed")
            return late
        finally:
            self._metrics.observe("gateway_webhook_seconds", time.perf_counter() - began)
        log.info("a webhook was told", extra=told)
        self._metrics.count("gateway_webhook_events_total", "delivered")
        return True

    def _note_late(self, task_id: TaskId, notice: Notice) -> None:
        if task_id in self._late or len(self._late) < LATE_MOST:
            self._late[task_id] = notice.at

    async def measure(self) -> None:
        """Enter how many tasks have notices, and how old the oldest is that failed here."""
        self._metrics.put("gateway_webhook_tasks_pending", await self._due.count())
        oldest = 0.0
        while self._late and not oldest:
            task_id, at = min(self._late.items(), key=lambda item: item[1])
            if await self._due.lists(task_id):
                oldest = self._clock() - at
            else:  # another process has told it
                del self._late[task_id]
        self._metrics.put("gateway_webhook_oldest_seconds", oldest)

"""``/v1/progress`` and ``/v1/tasks/{id}/progress``: read-only websockets that tell of tasks.

Whoever may not watch is told so by HTTP, before the websocket opens. One message is on its way at a time.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from gateway.domain.batch import BatchId
from gateway.domain.errors import Overloaded, RateLimited, StateStoreUnavailable
from gateway.domain.policy import Action, Caller
from gateway.domain.task import TaskId
from gateway.transfer.access import require_visible
from gateway.transfer.ports import ChangeFeed, Clock, ProgressBus, TaskStore
from gateway.web.admission import Admission
from gateway.web.progress_watch import AddUp, Pace, Render, Watch

TOKEN_EXPIRED: Final = 4401
TOO_SLOW: Final = 4408
TOO_CHATTY: Final = 1008
TOO_BIG: Final = 1009

MAX_MESSAGE_BYTES: Final = 4096
MAX_MESSAGES_PER_SECOND: Final = 5
_TASKS_AT_ONCE: Final = 20
_BATCHES_AT_ONCE: Final = 2
_CLOSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Timing:
    """When things happen on a socket, in seconds.

    ``gap`` lies between two messages for one task, ``batch_gap`` between two for one batch, which may take reading
    1,000 tasks. ``retry`` is how long a socket waits before it asks a store again that did not answer; ``unsent`` how
    long a message may wait for a slow reader.
    """

    snapshot: float = 15.0
    gap: float = 0.25
    batch_gap: float = 0.5
    retry: float = 2.0
    unsent: float = 30.0


class _Ended(Exception):
    """The socket is done; *code* is what it is closed with, None when the client has left."""

    def __init__(self, code: int | None) -> None:
        super().__init__()
        self.code = code


class ProgressSockets:
    """Serves the two routes.

    Args:
        admission: names the caller by the subprotocol ``bearer.<token>``.
        tasks: where tasks are read.
        bus: tells of changes.
        render: a task as a document.
        add_up: what a batch adds up to; without it nothing is told of batches.
        per_subject_count: how many sockets one subject may hold in this process.
        total_count: how many there may be in this process.
        clock: Unix time in seconds, for the tokens' ends.
    """

    def __init__(
        self,
        admission: Admission,
        tasks: TaskStore,
        bus: ProgressBus,
        render: Render,
        per_subject_count: int = 20,
        *,
        add_up: AddUp | None = None,
        total_count: int = 10_000,
        timing: Timing = Timing(),
        clock: Clock = time.time,
    ) -> None:
        self._admission = admission
        self._tasks = tasks
        self._bus = bus
        self._render = render
        self._add_up = add_up
        self._per_subject_count = per_subject_count
        self._total_count = total_count
        self._timing = timing
        self._clock = clock
        self._open: Counter[str] = Counter()

    def routes(self) -> list[WebSocketRoute]:
        """Both routes."""
        return [
            WebSocketRoute("/v1/progress", self.watch_all),
            WebSocketRoute("/v1/tasks/{task_id}/progress", self.watch_one),
        ]

    async def watch_all(self, websocket: WebSocket) -> None:
        """Every task of the caller. Raises, before it opens, what ``Admission`` does, Forbidden or Busy."""
        caller, protocol = self._admission.watcher(websocket)
        caller.require(Action.LIST)
        with self._slot(caller.owner):
            await self._serve(websocket, caller, protocol, caller.owner, None)

    async def watch_one(self, websocket: WebSocket) -> None:
        """One task. Raises as above, and TaskNotFound."""
        caller, protocol = self._admission.watcher(websocket)
        with self._slot(caller.owner):
            with self._admission.looking_up(caller):
                found = await self._tasks.load(TaskId(websocket.path_params["task_id"]))
                task = require_visible(caller, found, Action.READ)
            await self._serve(websocket, caller, protocol, task.owner, task.id)

    @contextmanager
    def _slot(self, owner: str) -> Iterator[None]:
        if self._open[owner] >= self._per_subject_count:
            raise RateLimited(f"The subject holds {self._per_subject_count} websockets, the most there may be.")
        if self._open.total() >= self._total_count:
            raise Overloaded("This server holds as many websockets as it may.")
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    async def _serve(
        self, websocket: WebSocket, caller: Caller, protocol: str | None, owner: str, only: TaskId | None
    ) -> None:
        ends_at = time.monotonic() + caller.expires_at - self._clock()
        is_revoked = partial(self._admission.is_revoked, caller)
        watch = Watch(self._tasks, self._render, owner, only, self._add_up)
        async with self._bus.watch_owner(owner) as feed:
            first = await watch.snapshot()
            await websocket.accept(protocol)
            code: int | None = None
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_listen(websocket))
                    both.create_task(_Teller(websocket, watch, self._timing, ends_at, is_revoked).run(feed, first))
            except* _Ended as ended:
                code = _code(ended)
            except* WebSocketDisconnect:
                pass
        if code is not None:
            with suppress(TimeoutError, WebSocketDisconnect, WebSocketDisconnected):
                async with asyncio.timeout(min(_CLOSE_SECONDS, self._timing.unsent)):
                    await websocket.close(code)


def _code(ended: BaseExceptionGroup[_Ended]) -> int | None:
    """What to close with: nothing, if the client has left meanwhile."""
    codes = [error.code for error in ended.exceptions if isinstance(error, _Ended)]
    return None if None in codes else codes[0]


async def _listen(websocket: WebSocket) -> None:
    """Ignore what the client says, within reason, until it leaves. Ends by raising ``_Ended``."""
    second, count = time.monotonic(), 0
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise _Ended(None)
        if _size(message) > MAX_MESSAGE_BYTES:
            raise _Ended(TOO_BIG)
        now = time.monotonic()
        if now - second >= 1:
            second, count = now, 0
        count += 1
        if count > MAX_MESSAGES_PER_SECOND:
            raise _Ended(TOO_CHATTY)


def _size(message: Mapping[str, Any]) -> int:
    text = message.get("text")
    return len(message.get("bytes") or b"") if text is None else len(text.encode())


class _Teller:
    """Sends one socket its messages, until its token ends or its reader is too slow: then raises ``_Ended``."""

    def __init__(
        self, websocket: WebSocket, watch: Watch, timing: Timing, ends_at: float, is_revoked: Callable[[], bool]
    ) -> None:
        self._websocket = websocket
        self._watch = watch
        self._timing = timing
        self._ends_at = ends_at
        self._is_revoked = is_revoked
        self._pace: Pace[TaskId] = Pace(timing.gap)
        self._batch_pace: Pace[BatchId] = Pace(timing.batch_gap)
        self._snapshot_at = 0.0

    async def run(self, feed: ChangeFeed, first: list[dict[str, Any]]) -> None:
        await self._send(first)
        self._batch_pace.note(self._watch.take_moved())
        self._snapshot_at = time.monotonic() + self._timing.snapshot
        while True:
            self._note(await feed.next(self._wait_seconds()))
            if time.monotonic() >= self._ends_at or self._is_revoked():
                raise _Ended(TOKEN_EXPIRED)
            try:
                await self._tell()
            except StateStoreUnavailable:
                self._snapshot_at = time.monotonic() + self._timing.retry

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        turns = (self._pace.next_turn(now), self._batch_pace.next_turn(now))
        until = min(self._snapshot_at, self._ends_at, *(turn for turn in turns if turn is not None))
        return max(0.0, until - now)

    def _note(self, changes: Mapping[TaskId, int] | None) -> None:
        if changes:
            self._pace.note(task_id for task_id in changes if self._watch.concerns(task_id))
        elif changes is not None:  # changes may have been lost
            self._snapshot_at = min(self._snapshot_at, time.monotonic() + self._timing.gap)

    async def _tell(self) -> None:
        now = time.monotonic()
        if now >= self._snapshot_at:
            messages = await self._watch.snapshot()
            self._snapshot_at = now + self._timing.snapshot
            await self._send(messages)
        if task_ids := self._pace.take(now, _TASKS_AT_ONCE):
            await self._send(await self._watch.changes(task_ids))
        self._batch_pace.note(self._watch.take_moved())
        if batch_ids := self._batch_pace.take(now, _BATCHES_AT_ONCE):
            await self._send(await self._watch.batches(batch_ids))

    async def _send(self, messages: list[dict[str, Any]]) -> None:
        """Send *messages*, and take each out of the list: whoever made them holds none that has been sent."""
        while messages:
            text = json.dumps(messages.pop(0), ensure_ascii=False, separators=(",", ":"))
            try:
                async with asyncio.timeout(self._timing.unsent):
                    await self._websocket.send_text(text)
            except TimeoutError:
                raise _Ended(TOO_SLOW) from None

"""``/v1/progress`` and ``/v1/tasks/{id}/progress``: read-only websockets that tell of tasks.

Whoever may not watch is told so by HTTP, before the websocket opens. One message is on its way at a time.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from gateway.domain.errors import Overloaded, RateLimited
from gateway.domain.policy import Action, Caller
from gateway.domain.task import TaskId
from gateway.transfer.access import require_visible
from gateway.transfer.memory_budget import Lease
from gateway.transfer.ports import Clock
from gateway.web.admission import Admission
from gateway.web.progress_fanout import Fanout, Sources
from gateway.web.progress_inbox import Inbox

TOKEN_EXPIRED: Final = 4401
TOO_SLOW: Final = 4408
TOO_CHATTY: Final = 1008
TOO_BIG: Final = 1009

MAX_MESSAGE_BYTES: Final = 4096
MAX_MESSAGES_PER_SECOND: Final = 5
_SMALL_CHARACTERS: Final = 8192
"""What is longer takes memory from the budget until the client has it: pages of snapshots do, and little else."""
_SNAPSHOT_COST: Final = 100
"""The first snapshot counts as so many tasks that are loaded, however many it shows."""
_CLOSE_SECONDS: Final = 5.0


class _Ended(Exception):
    """The socket is done; *code* is what it is closed with, None when the client has left."""

    def __init__(self, code: int | None) -> None:
        super().__init__()
        self.code = code


class ProgressSockets:
    """Serves the two routes.

    Args:
        admission: names the caller by the subprotocol ``bearer.<token>``.
        sources: where what is told comes from.
        per_subject_count: how many sockets one subject may hold in this process.
        total_count: how many there may be in this process.
        clock: Unix time in seconds, for the tokens' ends.
    """

    def __init__(
        self,
        admission: Admission,
        sources: Sources,
        per_subject_count: int = 20,
        *,
        total_count: int = 10_000,
        clock: Clock = time.time,
    ) -> None:
        self._admission = admission
        self._sources = sources
        self._fanout = Fanout(sources)
        self._per_subject_count = per_subject_count
        self._total_count = total_count
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
        self._admission.spending.load(caller.owner, _SNAPSHOT_COST)
        with self._slot(caller.owner):
            await self._serve(websocket, caller, protocol, caller.owner, None)

    async def watch_one(self, websocket: WebSocket) -> None:
        """One task. Raises as above, and TaskNotFound."""
        caller, protocol = self._admission.watcher(websocket)
        with self._slot(caller.owner):
            with self._admission.looking_up(caller):
                found = await self._sources.tasks.load(TaskId(websocket.path_params["task_id"]))
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
        code: int | None = None
        async with self._fanout.watching(caller, owner, only) as inbox:
            await websocket.accept(protocol)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_listen(websocket))
                    both.create_task(self._tell(websocket, inbox, caller, ends_at))
            except* _Ended as ended:
                code = _code(ended)
            except* WebSocketDisconnect:
                pass
        if code is not None:
            with suppress(TimeoutError, WebSocketDisconnect, WebSocketDisconnected):
                async with asyncio.timeout(min(_CLOSE_SECONDS, self._sources.timing.unsent)):
                    await websocket.close(code)

    async def _tell(self, websocket: WebSocket, inbox: Inbox, caller: Caller, ends_at: float) -> None:
        """Send what comes into *inbox* until the token ends or the reader is too slow: then raise ``_Ended``."""
        try:
            with self._sources.budget.open(caller.owner) as unsent:
                async with asyncio.timeout(ends_at - time.monotonic()):
                    while True:
                        texts = await inbox.next()
                        if self._admission.is_revoked(caller):
                            raise _Ended(TOKEN_EXPIRED)
                        while texts:
                            await self._send(websocket, unsent, texts.pop(0))
        except TimeoutError:
            raise _Ended(TOKEN_EXPIRED) from None

    async def _send(self, websocket: WebSocket, unsent: Lease, text: str) -> None:
        """Send *text*; *unsent* is for what the client may not have taken yet, which is no more than the last text."""
        size = len(text) if len(text) > _SMALL_CHARACTERS else 0
        seconds = self._sources.timing.unsent
        try:
            async with asyncio.timeout(seconds):
                if size:
                    await unsent.resize(unsent.size + size, seconds)
                await websocket.send_text(text)
                if unsent.size != size:
                    await unsent.resize(size, 0)
        except (TimeoutError, Overloaded, RateLimited):
            raise _Ended(TOO_SLOW) from None


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

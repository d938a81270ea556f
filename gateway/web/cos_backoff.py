"""Patience on behalf of Tencent's SDKs, which send a failed part again at once, up to twelve times in 0.4 s.

The first repetitions wait here until it makes sense to ask COS again; the later ones are told when to come back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import GatewayError, Storage, StorageUnavailable
from gateway.domain.task import TaskId

WAITS: Final = 2
"""How many repetitions in a row are waited for; by then COS was asked three times as often."""
FIRST_SECONDS: Final = 1.0
MAX_SECONDS: Final = 30.0
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class _Failing:
    count: int
    not_before: float


class Backoff:
    """Remembers which parts failed at COS, and until when they are not tried again; per process, the last 4,096.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._failing: OrderedDict[tuple[TaskId, int], _Failing] = OrderedDict()

    @asynccontextmanager
    async def turn(self, task_id: TaskId, number: int) -> AsyncIterator[None]:
        """Try part *number* (0: the completion) in the block, when its time has come.

        Raises:
            StorageUnavailable: it has failed too often, and its time has not come.
        """
        name = (task_id, number)
        await self._wait(name)
        try:
            yield
        except GatewayError as error:
            if isinstance(error, Storage) and error.retryable:
                self._note_failure(name, error.retry_after_seconds or 0.0)
            raise
        self._failing.pop(name, None)

    async def _wait(self, name: tuple[TaskId, int]) -> None:
        failing = self._failing.get(name)
        if failing is None or (seconds := failing.not_before - self._clock()) <= 0:
            return
        if failing.count > WAITS:
            raise StorageUnavailable(
                f"COS failed {failing.count} times in a row; it is not asked before then.", retry_after_seconds=seconds
            )
        await asyncio.sleep(seconds)

    def _note_failure(self, name: tuple[TaskId, int], retry_after_seconds: float) -> None:
        before = self._failing.pop(name, None)
        count = 1 + (before.count if before else 0)
        seconds = min(MAX_SECONDS, max(FIRST_SECONDS * 2 ** (count - 1), retry_after_seconds))
        self._failing[name] = _Failing(count, self._clock() + seconds)
        if len(self._failing) > _REMEMBERED:
            self._failing.popitem(last=False)

"""Whether a task may have more parts: what its owner's unfinished tasks weigh, their parts included, is bounded.

Parts of one byte cost their sender nothing and Redis as much as any. The first parts of a task are free; then room is
noted in its owner's ledger ahead of them, for the more of them the more there are, so that hardly any part pays for it.
Each process notes for itself: the ledger then holds what one of them allowed last, and what is there fits in any.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Final

from gateway.domain.errors import QuotaExceeded
from gateway.domain.task import Task, TaskId
from gateway.store.ledgers import TASK_BYTES, Shares
from gateway.store.open_tasks import OpenTasks

FREE_PARTS: Final = 16
"""What a task may have before its parts are counted."""
ROOM_AHEAD_MOST: Final = 256
_REMEMBERED: Final = 8192


class PartRoom:
    """Notes room for parts among *open_tasks*, up to what *shares* leave them."""

    def __init__(self, open_tasks: OpenTasks, shares: Shares) -> None:
        self._open_tasks = open_tasks
        self._shares = shares
        self._rooms: OrderedDict[TaskId, int] = OrderedDict()

    async def require(self, task: Task, coming: int) -> None:
        """Make room for *coming* parts besides those that *task* has.

        Raises:
            QuotaExceeded: its owner's unfinished tasks weigh too much.
            StateStoreUnavailable: Redis does not answer.
        """
        needed = task.stored_count + coming
        if needed <= self._rooms.get(task.id, FREE_PARTS):
            return
        room = needed + min(max(needed, FREE_PARTS), ROOM_AHEAD_MOST)
        if task.part_count is not None:
            room = max(needed, min(room, task.part_count))
        most_bytes = self._shares.open_with_parts
        if not await self._open_tasks.take(replace(task, stored_count=room), most_bytes):
            places = most_bytes // TASK_BYTES
            raise QuotaExceeded(
                f"The subject's unfinished tasks count {places} with their parts, the most they may:"
                " complete or cancel some, and send larger parts."
            )
        self._rooms[task.id] = room
        self._rooms.move_to_end(task.id)
        if len(self._rooms) > _REMEMBERED:
            self._rooms.popitem(last=False)

"""The port to a list of tasks that something is due for."""

from collections.abc import Sequence
from typing import Protocol

from gateway.domain.task import TaskId


class DueTasks(Protocol):
    """Tasks by the Unix time from which any process may take them. Hints: whoever takes one looks at the task itself.

    Every method raises StateStoreUnavailable.
    """

    async def take(self, now: float, until: float, limit: int) -> Sequence[TaskId]:
        """About *limit* that are due at *now*; nobody else takes them before *until*."""

    async def move(self, task_id: TaskId, due: float, later: float) -> bool:
        """Make *task_id* due at *later*, and answer True, unless it is not due at *due* any more."""

    async def settle(self, task_id: TaskId, due: float) -> bool:
        """Strike *task_id* off, and answer True, unless it is not due at *due* any more: something else came since."""

    async def lists(self, task_id: TaskId) -> bool:
        """Whether *task_id* is listed."""

    async def count(self) -> int:
        """How many are listed."""

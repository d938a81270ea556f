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

    async def renew(self, task_ids: Sequence[TaskId], due: float) -> None:
        """Make those of *task_ids* that are listed due at *due*."""

    async def settle(self, task_id: TaskId, taken_until: float) -> None:
        """Strike *task_id* off, unless it has been listed anew since it was taken until *taken_until*."""

    async def lists(self, task_id: TaskId) -> bool:
        """Whether *task_id* is listed."""

    async def count(self) -> int:
        """How many are listed."""

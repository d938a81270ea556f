"""A batch: files that were created together, how many of them may move at once, and what they add up to."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NewType

from gateway.domain.task import Task, TaskError, TaskId, TaskState

BatchId = NewType("BatchId", str)

MAX_BATCH_FILES: Final = 1000
DEFAULT_FILE_PARALLEL_LIMIT: Final = 3


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One file of a batch: its task, or why there is none."""

    task_id: TaskId | None
    error: TaskError | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Files in the order in which the caller named them; ``created_at`` is Unix seconds."""

    id: BatchId
    owner: str
    file_parallel_limit: int
    created_at: float
    files: tuple[BatchFile, ...]

    @property
    def task_ids(self) -> tuple[TaskId, ...]:
        """The tasks that there are, in order."""
        return tuple(file.task_id for file in self.files if file.task_id is not None)


@dataclass(frozen=True, slots=True)
class BatchTotals:
    """What the files of a batch add up to: ``size`` in bytes, None while one is unknown; ``speed`` in bytes/s."""

    size: int | None
    loaded: int
    speed: float
    is_done: bool

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> "BatchTotals":
        """The sum of *tasks*. What was canceled counts no longer, or the rest would never be the whole."""
        counted = [task for task in tasks if task.state is not TaskState.CANCELED]
        sizes = [task.size for task in counted if task.size is not None]
        return cls(
            size=sum(sizes) if len(sizes) == len(counted) else None,
            loaded=sum(task.loaded for task in counted),
            speed=sum(task.speed for task in counted if task.state is TaskState.UPLOADING),
            is_done=all(task.state is TaskState.SUCCESS for task in counted),
        )

    @property
    def percent(self) -> float | None:
        """``loaded`` of ``size``, from 0 to 1; None while the size is unknown."""
        if self.is_done:
            return 1.0
        if self.size is None:
            return None
        return int(self.loaded / self.size * 10_000) / 10_000 if self.size else 0.0

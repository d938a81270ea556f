"""Who may see and touch a task."""

from gateway.domain.errors import TaskNotFound
from gateway.domain.policy import Action, Caller
from gateway.domain.task import Task


def require_visible(caller: Caller, task: Task | None, action: Action) -> Task:
    """The task, if *caller* may do *action* to it.

    Another's task is the same 404 as none at all, unless the token holds ``all_tasks`` and its policy covers the task.

    Raises:
        TaskNotFound: there is no such task for this caller.
        Forbidden: the token lacks the action.
    """
    if task is None or not is_visible(caller, task):
        raise TaskNotFound("No such task.")
    caller.require(action)
    return task


def is_visible(caller: Caller, task: Task) -> bool:
    """Whether *caller* may know of *task* at all."""
    return task.owner == caller.owner or _is_overseer(caller, task)


def _is_overseer(caller: Caller, task: Task) -> bool:
    return caller.policy.allows(Action.ALL_TASKS) and caller.policy.covers(task.at.bucket.name, task.at.key)

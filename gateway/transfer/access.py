"""Who may see and touch a task: asked of the task itself, by every call about it.

A token's claims hold for what was begun under another token of the same subject, too.
"""

from gateway.domain.errors import TaskNotFound
from gateway.domain.policy import Action, Caller
from gateway.domain.task import Task


def require_visible(caller: Caller, task: Task | None, action: Action) -> Task:
    """The task, if *caller* may do *action* to it.

    Outside of the token's buckets and prefixes, and of the destinations', a task is the same 404 as none at all. So is
    another's, unless the token holds ``all_tasks``.

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
    if not caller.policy.covers(task.at.bucket.name, task.at.key):
        return False
    return task.owner == caller.owner or caller.policy.allows(Action.ALL_TASKS)


def require_fits(caller: Caller, task: Task) -> None:
    """Refuse to go on with a file that *caller*'s token would not have let begin.

    Raises:
        FileTooLarge, TypeNotAllowed.
    """
    caller.check_size(max(task.size or 0, task.loaded))
    caller.check_type(None, task.object_headers.get("content-type"))

"""Who may see and touch a task: asked of the task itself, by every call about it.

A token's claims hold for what was begun under another token of the same subject, too.
"""

from gateway.domain.errors import OptionNotAllowed, TaskNotFound
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.options import Option, is_among, options_in
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
        FileTooLarge, TypeNotAllowed, OptionNotAllowed.
    """
    caller.check_size(max(task.size or 0, task.loaded))
    caller.check_type(None, task.object_headers.get("content-type"))
    for option in options_in(task.object_headers):
        _require_option(caller, option)


def require_may_replace(caller: Caller, task: Task) -> None:
    """Refuse a file that would replace an object where *caller*'s token forbids that and the task does not.

    Raises:
        OptionNotAllowed.
    """
    if FORBID_OVERWRITE not in task.object_headers:
        if caller.policy.forbid_overwrite:
            raise OptionNotAllowed("The token forbids overwriting, and the task was created without that.")
        _require_option(caller, Option.OVERWRITE)


def _require_option(caller: Caller, option: Option) -> None:
    if not is_among(option, caller.policy.options):
        raise OptionNotAllowed(f"The token does not allow the option {option.value}.")

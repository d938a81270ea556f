from dataclasses import replace

import pytest

from gateway.domain.errors import StorageDenied
from gateway.domain.notices import NoticeKind, notice_of
from gateway.domain.objects import ETag
from gateway.domain.task import (
    CancelRequested,
    Failed,
    RestartRequested,
    Succeeded,
    Task,
    TaskError,
    TaskResult,
    TaskState,
)
from tests.store.conftest import new_task

RESULT = TaskResult("https://x/y", ETag('"e"'), None, 1, 40, True)
ERROR = TaskError.of(StorageDenied("no"))


def _completing() -> Task:
    return replace(new_task(), state=TaskState.COMPLETING)


@pytest.mark.parametrize(
    ("before", "event", "kind"),
    [
        (_completing(), Succeeded(RESULT), NoticeKind.SUCCESS),
        (_completing(), Failed(ERROR), NoticeKind.ERROR),
        (new_task(), Failed(ERROR), NoticeKind.ERROR),
        (new_task(), CancelRequested(), NoticeKind.CANCELED),
    ],
)
def test_the_three_ends_give_a_notice(
    before: Task, event: Succeeded | Failed | CancelRequested, kind: NoticeKind
) -> None:
    after = before.after(event, 2e9)

    notice = notice_of(before, after)

    assert notice is not None
    assert (notice.kind, notice.at, notice.task) == (kind, 2e9, after)


def test_moves_within_a_state_and_other_moves_give_none() -> None:
    canceled = new_task().after(CancelRequested(), 2e9)

    assert notice_of(canceled, canceled.after(CancelRequested(), 2e9)) is None
    assert notice_of(None, new_task()) is None
    failed = new_task().after(Failed(ERROR), 2e9)
    assert notice_of(failed, failed.after(RestartRequested(), 2e9)) is None


def test_what_happens_once_has_one_id_and_what_may_happen_again_has_several() -> None:
    """A success that is found again after Redis was emptied is the same event; a second failure is another."""
    success = _completing().after(Succeeded(RESULT), 2e9)
    failed = new_task().after(Failed(ERROR), 2e9)

    def id_of(after: Task, version: int) -> str:
        notice = notice_of(None, replace(after, version=version))
        assert notice is not None
        return notice.id

    assert id_of(success, 7) == id_of(success, 8)
    assert id_of(failed, 7) != id_of(failed, 8)
    assert id_of(success, 7) != id_of(failed, 7)
    assert len({id_of(replace(success, id=new_task(n).id), 1) for n in range(5)}) == 5

from dataclasses import replace

from gateway.domain.batch import Batch, BatchFile, BatchId, BatchTotals
from gateway.domain.objects import Bucket, ObjectAddress
from gateway.domain.task import Task, TaskId, TaskState

TASK = Task(
    id=TaskId("t"),
    owner="alice",
    at=ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), "k"),
    size=100,
    part_size=1 << 20,
    slice_size=1 << 20,
    async_limit=3,
    created_at=1.0,
    updated_at=1.0,
    expires_at=2.0,
    state=TaskState.UPLOADING,
    speed=10.0,
)


def test_totals_add_up() -> None:
    totals = BatchTotals.of([replace(TASK, loaded=50), replace(TASK, loaded=25, size=200)])

    assert (totals.size, totals.loaded, totals.speed, totals.percent) == (300, 75, 20.0, 0.25)


def test_one_unknown_size_makes_the_whole_unknown() -> None:
    totals = BatchTotals.of([replace(TASK, loaded=50), replace(TASK, size=None, loaded=5)])

    assert (totals.size, totals.loaded, totals.percent) == (None, 55, None)


def test_what_was_canceled_counts_no_longer() -> None:
    done = replace(TASK, state=TaskState.SUCCESS, loaded=100)
    totals = BatchTotals.of([done, replace(TASK, state=TaskState.CANCELED, loaded=50)])

    assert (totals.size, totals.loaded, totals.speed, totals.percent) == (100, 100, 0, 1.0)


def test_only_success_of_all_is_the_whole() -> None:
    everything = replace(TASK, loaded=100)
    empty = replace(TASK, size=0)

    assert BatchTotals.of([replace(everything, loaded=99_999, size=100_000)] * 10).percent == 0.9999
    assert BatchTotals.of([empty]).percent == 0.0
    assert BatchTotals.of([replace(empty, state=TaskState.SUCCESS)]).percent == 1.0
    assert BatchTotals.of([]).percent == 1.0


def test_a_resting_task_has_no_speed() -> None:
    assert BatchTotals.of([replace(TASK, state=TaskState.PAUSED)]).speed == 0


def test_the_tasks_of_a_batch_are_those_that_could_be_created() -> None:
    files = (BatchFile(TaskId("a")), BatchFile(None), BatchFile(TaskId("b")))

    assert Batch(BatchId("b"), "alice", 3, 1.0, files).task_ids == ("a", "b")

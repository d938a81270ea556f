"""The state machine: every cell of the table, what each event changes, and errors that survive being stored."""

import re
from dataclasses import fields, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import (
    Conflict,
    CosAnswer,
    GatewayError,
    IllegalTransition,
    StorageUnavailable,
    TaskCanceled,
    TaskCompleting,
    TaskInError,
    TaskPaused,
    TaskSucceeded,
    UploadLost,
    all_codes,
)
from gateway.domain.objects import Bucket, ETag, ObjectAddress, UploadId
from gateway.domain.task import (
    FINAL_STATES,
    NEW_UPLOAD_AFTER,
    TRANSITIONS,
    AbortFinished,
    BodyMode,
    BodyStarted,
    CancelRequested,
    CheckFinished,
    CheckStarted,
    CompleteRenewed,
    CompleteRequested,
    Failed,
    Intent,
    PartsLost,
    PartStored,
    PauseRequested,
    RestartRequested,
    Succeeded,
    Task,
    TaskError,
    TaskEvent,
    TaskId,
    TaskResult,
    TaskState,
    UploadOpened,
    refusal,
    states_that_take,
    task_id_of,
)

S = TaskState
RESULT = TaskResult("https://host/k", ETag('"e-3"'), None, 7, 42, True)
ERROR = TaskError.of(StorageUnavailable("COS did not answer.", cos=CosAnswer(503, "SlowDown", "id")))
EVENTS: dict[type[TaskEvent], TaskEvent] = {
    UploadOpened: UploadOpened(UploadId("new")),
    BodyStarted: BodyStarted(BodyMode.PARTS),
    PartStored: PartStored(),
    CheckStarted: CheckStarted(0.5),
    CheckFinished: CheckFinished(),
    CompleteRequested: CompleteRequested(Intent.COMPLETE),
    CompleteRenewed: CompleteRenewed(),
    PartsLost: PartsLost(),
    Succeeded: Succeeded(RESULT),
    Failed: Failed(ERROR),
    PauseRequested: PauseRequested(),
    RestartRequested: RestartRequested(),
    CancelRequested: CancelRequested(),
    AbortFinished: AbortFinished(),
}

_OPEN = {
    UploadOpened: None,
    BodyStarted: S.UPLOADING,
    PartStored: S.UPLOADING,
    CheckStarted: S.CHECKING,
    CompleteRequested: S.COMPLETING,
    Failed: S.ERROR,
    PauseRequested: S.PAUSED,
    RestartRequested: None,
    CancelRequested: S.CANCELED,
}
# Written a second time on purpose, from the contract: None stays where it is.
EXPECTED: dict[TaskState, dict[type[TaskEvent], TaskState | None]] = {
    S.WAITING: _OPEN,
    S.CHECKING: {**_OPEN, CheckFinished: S.WAITING},
    S.UPLOADING: {**_OPEN, CheckFinished: None},
    S.COMPLETING: {CompleteRenewed: None, PartsLost: S.UPLOADING, Succeeded: S.SUCCESS, Failed: S.ERROR},
    S.PAUSED: {
        UploadOpened: None,
        PartStored: None,
        PauseRequested: None,
        RestartRequested: S.WAITING,
        CancelRequested: S.CANCELED,
    },
    S.ERROR: {UploadOpened: None, PartStored: None, RestartRequested: S.WAITING, CancelRequested: S.CANCELED},
    S.SUCCESS: {},
    S.CANCELED: {CancelRequested: None, AbortFinished: None},
}
CELLS = [(state, event) for state in TaskState for event in EVENTS]


def task(**facts: object) -> Task:
    given: dict[str, object] = {
        "id": TaskId("t"),
        "owner": "alice",
        "at": ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), "k"),
        "size": 42,
        "part_size": 4,
        "slice_size": 1,
        "async_limit": 3,
        "created_at": 1.0,
        "updated_at": 1.0,
        "expires_at": 9.0,
    }
    return Task(**(given | facts))  # type: ignore[arg-type]


def changed(before: Task, after: Task) -> set[str]:
    return {member.name for member in fields(Task) if getattr(before, member.name) != getattr(after, member.name)}


def test_these_tests_know_every_event_and_state() -> None:
    assert set(EVENTS) == set(get_args(TaskEvent))
    assert set(TRANSITIONS) == set(EXPECTED) == set(TaskState)


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda value: getattr(value, "__name__", value))
def test_every_event_in_every_state_does_what_the_contract_says_or_is_refused(
    state: TaskState, event: type[TaskEvent]
) -> None:
    before = task(state=state)

    if event in EXPECTED[state]:
        after = before.after(EVENTS[event], 5.0)

        assert after.state is (EXPECTED[state][event] or state)
        assert after.updated_at == 5.0
        assert after.version == before.version, "the version belongs to whoever stores the task"
    else:
        with pytest.raises(Conflict) as caught:
            before.after(EVENTS[event], 5.0)
        assert caught.value.facts == {"state": str(state)}


def test_final_states_are_those_that_nothing_leaves() -> None:
    stay = {state for state, moves in TRANSITIONS.items() if all(to is state for to in moves.values())}

    assert stay == FINAL_STATES
    assert {state for state in TaskState if task(state=state).is_final} == FINAL_STATES


@pytest.mark.parametrize("event", [BodyStarted, PartStored, CompleteRequested, UploadOpened])
@pytest.mark.parametrize(
    ("state", "error"),
    [
        (S.PAUSED, TaskPaused),
        (S.ERROR, TaskInError),
        (S.CANCELED, TaskCanceled),
        (S.SUCCESS, TaskSucceeded),
        (S.COMPLETING, TaskCompleting),
    ],
)
def test_bytes_are_told_why_they_are_not_wanted(
    state: TaskState, event: type[TaskEvent], error: type[Conflict]
) -> None:
    assert type(refusal(state, event)) is error


@pytest.mark.parametrize("event", [PauseRequested, RestartRequested, CancelRequested, Failed, Succeeded])
@pytest.mark.parametrize("state", list(TaskState))
def test_control_is_told_that_the_move_is_illegal(state: TaskState, event: type[TaskEvent]) -> None:
    assert type(refusal(state, event)) is IllegalTransition


def test_states_that_take_reads_the_table_by_event() -> None:
    assert states_that_take(AbortFinished) == {S.CANCELED}
    assert states_that_take(Succeeded) == {S.COMPLETING}
    assert states_that_take(PartStored) == {S.WAITING, S.CHECKING, S.UPLOADING, S.PAUSED, S.ERROR}


# --- what events change -------------------------------------------------------------------------------------------


def test_an_opened_upload_settles_its_intent() -> None:
    before = task(intent=Intent.INITIATE)

    after = before.after(UploadOpened(UploadId("new")), 1.0)

    assert (after.upload_id, after.intent) == ("new", Intent.NONE)
    assert changed(before, after) == {"upload_id", "intent"}


@pytest.mark.parametrize(("size", "expected"), [(None, None), (7, 7)])
def test_a_body_fixes_the_mode_and_the_size_if_it_tells_it(size: int | None, expected: int | None) -> None:
    after = task(size=None).after(BodyStarted(BodyMode.CONTENT, size), 1.0)

    assert (after.mode, after.size, after.state) == (BodyMode.CONTENT, expected, S.UPLOADING)


def test_a_body_that_tells_no_size_leaves_the_known_one() -> None:
    assert task(size=42).after(BodyStarted(BodyMode.PARTS), 1.0).size == 42


def test_a_check_tells_how_far_it_is_until_it_is_through() -> None:
    before = task(state=S.WAITING)
    begun = before.after(CheckStarted(), 1.0)
    half = begun.after(CheckStarted(0.5), 2.0)
    through = half.after(CheckFinished(), 3.0)

    assert [now.hash_percent for now in (before, begun, half, through)] == [None, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("size", [None, 42])
def test_completing_notes_its_intent_and_leaves_the_size_to_success(size: int | None) -> None:
    after = task(size=size).after(CompleteRequested(Intent.PUT), 1.0)

    assert (after.intent, after.size, after.state) == (Intent.PUT, size, S.COMPLETING)
    assert after.after(PartsLost(), 2.0).size == size
    assert after.after(Succeeded(RESULT), 2.0).size == 42


def test_success_holds_the_result_and_counts_every_byte() -> None:
    before = task(
        state=S.COMPLETING, intent=Intent.COMPLETE, size=None, loaded=40, next_offset=40, tail_size=2, upload_id="u"
    )

    after = before.after(Succeeded(RESULT), 1.0)

    assert after.result is RESULT
    assert (after.size, after.loaded, after.next_offset, after.tail_size, after.intent) == (42, 42, 42, 0, Intent.NONE)


@pytest.mark.parametrize(("event", "state"), [(PartsLost(), S.UPLOADING), (Failed(ERROR), S.ERROR)])
def test_a_completion_that_came_to_nothing_leaves_the_parts(event: TaskEvent, state: TaskState) -> None:
    before = task(state=S.COMPLETING, intent=Intent.COMPLETE, upload_id="u", stored_count=3, loaded=42)

    after = before.after(event, 1.0)

    assert (after.state, after.intent, after.upload_id, after.stored_count) == (state, Intent.NONE, "u", 3)
    assert after.error is (ERROR if state is S.ERROR else None)


@pytest.mark.parametrize("event", [CancelRequested(), Succeeded(RESULT)])
def test_s5_a_final_task_keeps_no_options(event: TaskEvent) -> None:
    state = S.COMPLETING if isinstance(event, Succeeded) else S.UPLOADING
    before = task(state=state, object_headers={"x-cos-acl": "private"}, part_headers={"a": "b"}, content="c")

    after = before.after(event, 1.0)

    assert (after.object_headers, after.part_headers, after.content) == ({}, {}, None)


def test_a_cancel_intends_the_abort_until_it_is_finished() -> None:
    canceled = task(state=S.UPLOADING, upload_id="u").after(CancelRequested(), 1.0)
    again = canceled.after(CancelRequested(), 2.0)
    finished = again.after(AbortFinished(), 3.0)
    once_more = finished.after(CancelRequested(), 4.0)

    assert [state.intent for state in (canceled, again, finished, once_more)] == [
        Intent.ABORT,
        Intent.ABORT,
        Intent.NONE,
        Intent.NONE,
    ]
    assert canceled.upload_id == "u", "the abort still needs it"


def test_a_cancel_clears_the_error() -> None:
    assert task(state=S.ERROR, error=ERROR).after(CancelRequested(), 1.0).error is None


STORED = {
    "state": S.ERROR,
    "upload_id": UploadId("u"),
    "mode": BodyMode.CONTENT,
    "stored_count": 3,
    "contiguous_count": 2,
    "loaded": 12,
    "next_offset": 9,
    "tail_size": 1,
    "writer": 4,
    "hash_percent": 1.0,
}


@pytest.mark.parametrize("code", sorted(all_codes()))
def test_a_restart_keeps_every_part_unless_what_cos_holds_is_worthless(code: str) -> None:
    before = task(**STORED, error=TaskError(code, "t", "d", False))

    after = before.after(RestartRequested(), 1.0)

    assert (after.state, after.error) == (S.WAITING, None)
    if code in NEW_UPLOAD_AFTER:
        assert (after.upload_id, after.mode) == (None, BodyMode.UNDECIDED)
        assert (after.stored_count, after.contiguous_count, after.loaded, after.next_offset) == (0, 0, 0, 0)
        assert (after.tail_size, after.hash_percent) == (0, None)
        assert after.writer == 5, "bodies of the old upload must not store in the new one"
    else:
        assert changed(before, after) == {"state", "error"}


def test_errors_that_ask_for_a_new_upload_are_registered_codes() -> None:
    assert set(all_codes()) >= NEW_UPLOAD_AFTER


def test_a_restart_of_a_paused_task_keeps_every_part() -> None:
    before = task(**{**STORED, "state": S.PAUSED})

    assert changed(before, before.after(RestartRequested(), 1.0)) == {"state"}


@given(st.lists(st.sampled_from(list(EVENTS.values())), max_size=12))
def test_no_sequence_of_events_leaves_a_task_that_contradicts_itself(events: list[TaskEvent]) -> None:
    now = task(state=S.WAITING)
    for event in events:
        try:
            now = now.after(event, 1.0)
        except Conflict:
            continue
        assert (now.state is S.ERROR) == (now.error is not None)
        assert (now.state is S.SUCCESS) == (now.result is not None)
        assert (now.state is S.COMPLETING) == (now.intent in (Intent.PUT, Intent.COMPLETE))
        assert now.intent is not Intent.ABORT or now.state is S.CANCELED


# --- counting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"size": None}, None),
        ({"size": 0}, 1),
        ({"size": 1}, 1),
        ({"size": 8}, 2),
        ({"size": 9}, 3),
        ({"size": 9, "mode": BodyMode.PARTS}, 3),
        ({"size": 9, "mode": BodyMode.CONTENT, "stored_count": 2}, None),
        ({"size": 9, "mode": BodyMode.CONTENT, "stored_count": 2, "state": S.SUCCESS}, 2),
    ],
)
def test_the_part_count_is_told_where_it_is_certain(facts: dict[str, object], expected: int | None) -> None:
    assert task(**facts).part_count == expected


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", list(all_codes().values()), ids=lambda cls: cls.__name__)
def test_an_error_that_was_stored_is_raised_as_it_was(cls: type[GatewayError]) -> None:
    error = cls("What came and what was expected.", cos=CosAnswer(404, "NoSuchUpload", "NTk5"))

    again = TaskError.of(error).as_exception()

    assert type(again) is cls
    assert (again.detail, again.cos) == (error.detail, error.cos)


def test_an_error_without_an_answer_of_cos_has_none_when_raised_again() -> None:
    stored = TaskError.of(UploadLost("Gone."))

    assert (stored.code, stored.title, stored.retryable) == ("upload_lost", UploadLost.title, False)
    assert stored.cos is None
    assert stored.as_exception().cos is None


def test_a_code_of_a_newer_version_is_raised_as_an_internal_error() -> None:
    again = replace(TaskError.of(UploadLost("Gone.")), code="not_known_here").as_exception()

    assert type(again) is GatewayError
    assert again.detail == "Gone."


@pytest.mark.parametrize("first", range(256))
def test_an_id_is_22_characters_for_a_url_and_no_option_of_a_command_line(first: int) -> None:
    made = task_id_of(bytes([first]) + b"\xff" * 15)

    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{21}", made)
    assert made == task_id_of(bytes([first ^ 0x80]) + b"\xff" * 15)
    assert made != task_id_of(bytes([first]) + b"\xff" * 14 + b"\xfe")

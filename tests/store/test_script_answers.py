"""Answers of scripts become tasks' fields or the errors that callers expect."""

import pytest

from gateway.domain.errors import TaskInError, TaskNotFound, UploadLost
from gateway.domain.task import BodyStarted, TaskState
from gateway.store.script_answers import Answer, mapping, read_answer, refused
from tests.store.conftest import new_task


def test_an_answer_holds_the_fields_and_what_else_is_told() -> None:
    assert read_answer(b'["ok",["a","1"],false,true]') == Answer("ok", {"a": "1"}, (False, True))
    assert read_answer(b'["ok","12"]') == Answer("ok", {}, ("12",))
    assert mapping({}) == {}


def test_a_task_redis_does_not_know_is_an_error() -> None:
    with pytest.raises(TaskNotFound):
        read_answer(b'["gone",{}]')


def test_a_refusal_is_told_in_the_words_of_the_table() -> None:
    failed = new_task(state=TaskState.ERROR)

    assert isinstance(refused("state", failed, BodyStarted), TaskInError)
    assert isinstance(refused("upload", failed, BodyStarted), UploadLost)

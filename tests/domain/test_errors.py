"""The public codes: unique, complete, and with an HTTP status that fits."""

import re

import pytest

from gateway.domain.errors import (
    BadInput,
    Busy,
    Conflict,
    CosAnswer,
    Forbidden,
    GatewayError,
    IllegalTransition,
    NotAllowed,
    Overloaded,
    Storage,
    StorageUnavailable,
    all_codes,
)

GROUPS = (BadInput, NotAllowed, Conflict, Busy, Storage)


def _classes() -> list[type[GatewayError]]:
    found, queue = [], [GatewayError]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if cls.__module__ == "gateway.domain.errors":
            found.append(cls)
    return found


LEAVES = [cls for cls in _classes() if cls not in (GatewayError, *GROUPS)]


def test_no_two_errors_share_a_code() -> None:
    codes = [cls.code for cls in LEAVES]

    assert len(codes) == len(set(codes))


def test_every_code_names_its_own_class() -> None:
    codes = all_codes()

    assert {cls.code for cls in _classes()} == set(codes)
    for cls in LEAVES:
        assert codes[cls.code] is cls, cls
    assert codes["internal"] is GatewayError


@pytest.mark.parametrize(
    ("group", "leaf"),
    [(NotAllowed, Forbidden), (Conflict, IllegalTransition), (Busy, Overloaded), (Storage, StorageUnavailable)],
)
def test_a_group_that_shares_its_code_with_a_leaf_promises_the_same(
    group: type[GatewayError], leaf: type[GatewayError]
) -> None:
    assert (group.code, group.status_hint, group.retryable) == (leaf.code, leaf.status_hint, leaf.retryable)


@pytest.mark.parametrize("cls", _classes(), ids=lambda cls: cls.__name__)
def test_every_error_is_fit_for_a_problem_document(cls: type[GatewayError]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", cls.code)
    assert cls.title
    assert not cls.title.endswith(".")
    assert isinstance(cls.retryable, bool)
    assert 400 <= cls.status_hint <= 599


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_the_status_tells_whose_move_it_is(cls: type[GatewayError]) -> None:
    """4xx: the caller's. 5xx: ours or COS's; 429 and 503 pass by themselves."""
    if issubclass(cls, (BadInput, NotAllowed, Conflict)):
        assert cls.status_hint < 500
    if issubclass(cls, Busy):
        assert cls.status_hint in (429, 503)
    if issubclass(cls, Storage):
        assert cls.status_hint in (502, 503)
    if cls.status_hint in (408, 429, 503):
        assert cls.retryable


def test_only_states_that_a_restart_cures_and_broken_bodies_are_retryable_4xx() -> None:
    retryable = {cls.code for cls in LEAVES if cls.retryable and cls.status_hint < 500}

    assert retryable == {
        *("digest_mismatch", "body_incomplete", "body_timeout", "body_too_slow", "head_timeout", "multipart_truncated"),
        *("task_paused", "task_error", "task_completing", "part_in_progress", "offset_mismatch"),
        *("task_waiting", "rate_limited", "too_many_uploads"),
    }


def test_an_error_carries_what_its_problem_document_tells() -> None:
    cos = CosAnswer(503, "SlowDown", "NTk5")

    error = StorageUnavailable("COS asked to wait.", retry_after_seconds=2.5, cos=cos, next_offset=7)

    assert (error.detail, error.retry_after_seconds, error.cos, error.facts) == (
        "COS asked to wait.",
        2.5,
        cos,
        {"next_offset": 7},
    )
    assert str(error) == "COS asked to wait."


def test_an_error_without_detail_shows_its_title() -> None:
    assert str(Overloaded()) == "The gateway is busy"
    assert Overloaded().detail == ""

"""What the audit trail holds; tests/system/test_who.py shows that every door writes to it."""

import logging
from typing import Any

import pytest

from gateway.audit import AuditEvent, audit, audit_refusal, note_caller, note_door_refusal, note_refusal
from gateway.domain import errors
from gateway.domain.errors import GatewayError
from gateway.domain.policy import Caller, Policy
from gateway.telemetry import CODE, DOOR, SUBJECT, TOKEN, forget_request

DENIED = {
    *("unauthenticated", "token_invalid", "token_expired", "forbidden", "key_not_allowed", "type_not_allowed"),
    *("origin_not_allowed",),
}
NEITHER = {"task_not_found", "bad_json", "overloaded", "task_waiting", "internal"}
LIMIT = {"rate_limited", "too_many_uploads", "quota_exceeded"}


def written(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    """The events so far, each with its code."""
    return [(line.message, getattr(line, "code", None)) for line in caplog.records if line.name == "gateway.audit"]


def every_error(kind: type[GatewayError] = GatewayError) -> set[type[GatewayError]]:
    return {kind}.union(*map(every_error, kind.__subclasses__()))


def test_s12_every_code_is_a_denial_a_limit_or_neither(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for kind in every_error():
        if kind.__module__ == errors.__name__:
            audit_refusal(kind())

    found = written(caplog)
    assert {code for event, code in found if event == AuditEvent.LIMIT} >= LIMIT
    assert {code for event, code in found if event == AuditEvent.DENIED} >= DENIED
    assert {"task_not_found", "bad_json", "overloaded", "task_waiting", "internal"}.isdisjoint(
        code for _, code in found
    )


def test_s12_a_refusal_leaves_its_code_for_the_requests_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    forget_request()
    note_refusal(errors.BadJson())
    assert CODE.get() == "bad_json"
    note_door_refusal("NoSuchUpload", 404)
    assert written(caplog) == []

    note_door_refusal("SignatureDoesNotMatch", 403)
    assert CODE.get() == "SignatureDoesNotMatch"
    assert written(caplog) == [("denied", "SignatureDoesNotMatch")]


def test_s12_a_request_is_its_callers_until_the_next_begins() -> None:
    note_caller(Caller("alice", Policy(), 2e9, token_id="7"))
    assert (SUBJECT.get(), TOKEN.get()) == ("2bd806c97f0e00af", "e3b2cfaf5ae8dc29")
    note_caller(Caller("bob", Policy(), 2e9))
    assert TOKEN.get() is None

    forget_request()
    assert SUBJECT.get() is CODE.get() is None


def test_s12_an_event_names_the_door(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    token = DOOR.set("cos")
    audit(AuditEvent.APPEND, size=5)
    DOOR.reset(token)

    [line] = caplog.records
    assert (line.message, vars(line)["door"], vars(line)["size"]) == ("append", "cos", 5)

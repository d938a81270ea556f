"""COS and Redis fail, answer late or are gone: nothing acknowledged is lost, and what is told is true."""

import signal
import time

import pytest

from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, parts_of, read_answer, require_problem

COS_DEAD_SECONDS = 30.0
REDIS_DEAD_SECONDS = 3.0
RECOVERY_SECONDS = 5.0
STORAGE_CODES = ["storage_unavailable", "storage_slow_down"]


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        ("error", {"status": 500, "code": "InternalError"}),
        ("error", {"status": 503, "code": "SlowDown"}),
        ("early_error", {"status": 503, "code": "ServiceUnavailable"}),
        ("reset", {"after_bytes": 0}),
        ("reset", {"after_bytes": MIB // 2}),
        ("lost_answer", {}),
        ("flip", {"after_bytes": 777}),
        ("wrong_crc", {}),
    ],
)
def test_cos_failing_once_for_each_part_is_invisible(
    stack: Stack, alice: Caller, action: str, rule: dict[str, object]
) -> None:
    key = f"faults/{action}-{'-'.join(map(str, rule.values()))}.bin"
    data = body(key, 3 * MIB)
    stack.cos.fault(action, operation="UploadPart", key=key, attempts=[1], times=None, **rule)
    task_id = alice.create(key, len(data), part_size=MIB)["id"]
    for number, part in enumerate(parts_of(data, MIB), 1):
        good(alice.put_part(task_id, number, part))

    assert good(alice.control(task_id, "complete"))["result"]["crc64_verified"]
    assert stack.cos.read(key) == data
    assert len(stack.cos.journal("UploadPart", key=key)) == 6
    assert len(stack.cos.journal("UploadPart", key=key, fault=action)) == 3


@pytest.mark.parametrize("operation", ["InitiateMultipartUpload", "CompleteMultipartUpload", "PutObject"])
@pytest.mark.parametrize("action", ["error", "reset", "lost_answer"])
def test_any_other_operation_failing_once_is_invisible(
    stack: Stack, alice: Caller, action: str, operation: str
) -> None:
    key = f"faults/{operation}-{action}.bin"
    data = body(key, 1000 if operation == "PutObject" else 5 * MIB)
    stack.cos.fault(action, operation=operation, key=key, status=500, code="InternalError")

    assert good(alice.post_form(key, data), 201)["state"] == "success"
    assert stack.cos.read(key) == data
    assert stack.cos.journal(operation, key=key)[0]["fault"] == action


@pytest.mark.parametrize("action", ["padded", "error_in_200", "truncated"])
def test_a_completion_that_cos_pads_fails_or_cuts_in_its_200_succeeds_in_the_end(
    stack: Stack, alice: Caller, action: str
) -> None:
    key = f"faults/complete-{action}.bin"
    data = body(key, 2 * MIB)
    stack.cos.fault(action, operation="CompleteMultipartUpload", key=key, seconds=1, code="InternalError")

    assert good(alice.post_form(key, data), 201)["state"] == "success"
    assert stack.cos.read(key) == data


def test_a_part_that_cos_never_takes_is_told_to_be_sent_again_later(stack: Stack, alice: Caller) -> None:
    data = body("never", 2 * MIB)
    task_id = alice.create("faults/never.bin", len(data), part_size=MIB)["id"]
    stack.cos.fault("error", operation="UploadPart", status=500, code="InternalError", times=None)
    began = time.monotonic()
    document = require_problem(alice.put_part(task_id, 1, data[:MIB]), 503, STORAGE_CODES)

    assert time.monotonic() - began < COS_DEAD_SECONDS
    assert document["retryable"]
    assert document["cos"]["code"] == "InternalError"
    assert alice.task(task_id)["stored_parts"] == 0
    stack.cos.clear_faults()
    for number, part in enumerate(parts_of(data, MIB), 1):
        good(alice.put_part(task_id, number, part))
    good(alice.control(task_id, "complete"))
    assert stack.cos.read("faults/never.bin") == data


@pytest.mark.promise(8)
def test_b31_a_wrong_object_is_never_a_success(stack: Stack, alice: Caller) -> None:
    task_id = alice.create("faults/wrong.bin", 2 * MIB, part_size=MIB)["id"]
    for number in (1, 2):
        good(alice.put_part(task_id, number, body(number, MIB)))
    stack.cos.fault("wrong_crc", operation="CompleteMultipartUpload", times=None)
    stack.cos.fault("wrong_crc", operation="HeadObject", times=None)

    require_problem(alice.control(task_id, "complete"), 502, "integrity_failed")
    task = alice.task(task_id)
    assert (task["state"], task["error"]["code"]) == ("error", "integrity_failed")
    stack.cos.clear_faults()
    restarted = good(alice.control(task_id, "restart"))
    assert (restarted["state"], restarted["loaded"]) == ("waiting", 0)


def test_with_cos_gone_parts_are_refused_in_time_and_taken_once_it_is_back(stack: Stack, alice: Caller) -> None:
    data = body("cos gone", 2 * MIB)
    task_id = alice.create("faults/cos-gone.bin", len(data), part_size=MIB)["id"]
    good(alice.put_part(task_id, 1, data[:MIB]))
    stack.cos.program.kill()
    try:
        began = time.monotonic()
        document = require_problem(alice.put_part(task_id, 2, data[MIB:]), 503, STORAGE_CODES)
        assert time.monotonic() - began < COS_DEAD_SECONDS
        assert document["retryable"]
        require_problem(
            alice.call("POST", "/v1/tasks", json={"key": "faults/none", "size": 5 * MIB}), 503, STORAGE_CODES
        )
        require_problem(alice.post_form("faults/none", b"x"), 503, STORAGE_CODES)
        assert alice.task(task_id)["stored_parts"] == 1
        ready = good(alice.call("GET", "/readyz"))
        assert ready["cos_state"] == "failing"
    finally:
        stack.cos.start()

    assert wait_until(lambda: alice.put_part(task_id, 2, data[MIB:]).status_code == 200, "COS") < RECOVERY_SECONDS
    good(alice.control(task_id, "complete"))
    assert stack.cos.read("faults/cos-gone.bin") == data


def test_with_redis_gone_calls_fail_in_time_and_nothing_acknowledged_is_lost(stack: Stack, alice: Caller) -> None:
    data = body("redis gone", 3 * MIB)
    task_id = alice.create("faults/redis-gone.bin", len(data), part_size=MIB)["id"]
    pieces = parts_of(data, MIB)
    good(alice.put_part(task_id, 1, pieces[0]))
    stack.redis.program.stop()
    try:
        for method, path, content in (
            ("GET", f"/v1/tasks/{task_id}", None),
            ("GET", "/v1/tasks", None),
            ("PUT", f"/v1/tasks/{task_id}/parts/2", pieces[1]),
            ("POST", f"/v1/tasks/{task_id}/pause", None),
            ("POST", "/v1/files?key=faults/none", b"x"),
        ):
            began = time.monotonic()
            document = require_problem(alice.call(method, path, content=content), 503, "state_store_unavailable")
            assert time.monotonic() - began < REDIS_DEAD_SECONDS
            assert document["retryable"]
        require_problem(alice.call("GET", "/readyz"), 503, "state_store_unavailable")
        good(alice.call("GET", "/livez"))
    finally:
        stack.redis.start()

    assert wait_until(lambda: alice.call("GET", "/readyz").status_code == 200, "Redis") < RECOVERY_SECONDS
    assert alice.task(task_id)["stored_parts"] == 1
    for number in (2, 3):
        good(alice.put_part(task_id, number, pieces[number - 1]))
    good(alice.control(task_id, "complete"))
    assert stack.cos.read("faults/redis-gone.bin") == data


def test_a_redis_that_hangs_is_as_good_as_gone(stack: Stack, alice: Caller) -> None:
    stack.redis.program.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        require_problem(alice.call("GET", "/v1/tasks"), 503, "state_store_unavailable")
        assert time.monotonic() - began < REDIS_DEAD_SECONDS
        began = time.monotonic()
        require_problem(alice.call("POST", "/v1/tasks", json={"key": "a", "size": 1}), 503, "state_store_unavailable")
        assert time.monotonic() - began < REDIS_DEAD_SECONDS
    finally:
        stack.redis.program.signal(signal.SIGCONT)

    assert wait_until(lambda: alice.call("GET", "/v1/tasks").status_code == 200, "Redis") < RECOVERY_SECONDS


def test_a_pause_reaches_bodies_again_after_redis_was_gone(stack: Stack, alice: Caller) -> None:
    stack.redis.program.stop()
    stack.redis.start()
    wait_until(lambda: alice.call("GET", "/readyz").status_code == 200, "Redis")
    task_id = alice.create("faults/pause.bin", 4 * MIB, part_size=4 * MIB)["id"]
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {4 * MIB}") + b"x")
        wait_until(lambda: stack.gateway.metrics()["gateway_bodies_in_flight"] >= 1, "the body", 5)
        began = time.monotonic()
        good(alice.control(task_id, "pause"))
        assert read_answer(connection).json()["code"] == "task_paused"
        assert time.monotonic() - began < 1.0

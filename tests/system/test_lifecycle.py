"""Starting, stopping, several workers, and what is told of it all: logs without secrets, metrics without gaps."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.system.processes import HTTP, LocalCos, cli, wait_until
from tests.system.stack import (
    MIB,
    SEAL_SECRET,
    SECRET,
    Caller,
    Stack,
    body,
    good,
    parts_of,
    read_answer,
    require_problem,
    running_stack,
)

DRAIN_SECONDS = 5.0
MARGIN_SECONDS = 3.0


def test_an_idle_gateway_stops_at_once_and_in_order(stack: Stack) -> None:
    gateway = stack.start_gateway()
    began = time.monotonic()
    gateway.program.signal(signal.SIGTERM)

    assert gateway.program.wait() in (0, -signal.SIGTERM)
    assert time.monotonic() - began < 2
    assert gateway.readiness() == 0


def test_a_stopping_gateway_lets_a_body_end_and_takes_no_new_connection(stack: Stack, alice: Caller) -> None:
    gateway = stack.start_gateway()
    there = alice.at(gateway)
    data = body("stopping", 4 * MIB)
    task_id = there.create("lifecycle/stopping.bin", len(data), part_size=4 * MIB)["id"]
    with there.connect() as connection:
        connection.sendall(there.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {len(data)}"))
        connection.sendall(data[:MIB])
        wait_until(lambda: gateway.metrics()["gateway_bodies_in_flight"] >= 1, "the body", 5)
        gateway.program.signal(signal.SIGTERM)
        wait_until(lambda: gateway.readiness() == 0, "the end of listening", 5)
        connection.sendall(data[MIB:])
        answer = read_answer(connection)
        good(answer)
        assert answer.headers["connection"] == "close"

    gateway.program.wait(DRAIN_SECONDS)
    good(alice.control(task_id, "complete"))
    assert stack.cos.read("lifecycle/stopping.bin") == data


def test_a_body_slower_than_the_drain_time_does_not_hold_the_gateway_up(stack: Stack, alice: Caller) -> None:
    gateway = stack.start_gateway(drain_seconds="1")
    there = alice.at(gateway)
    task_id = there.create("lifecycle/slow.bin", 3 * MIB, part_size=MIB)["id"]
    good(there.put_part(task_id, 1, bytes(MIB)))
    with there.connect() as connection:
        connection.sendall(there.head("PUT", f"/v1/tasks/{task_id}/parts/2", f"Content-Length: {MIB}") + b"x")
        wait_until(lambda: gateway.metrics()["gateway_bodies_in_flight"] >= 1, "the body", 5)
        began = time.monotonic()
        gateway.program.signal(signal.SIGTERM)
        gateway.program.wait()
        assert time.monotonic() - began < 1 + MARGIN_SECONDS

    assert alice.task(task_id)["stored_parts"] == 1


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("workers"), workers="2") as stack:
        yield stack


def test_two_workers_serve_count_together_and_stop(workers: Stack) -> None:
    alice = workers.caller("alice")
    for number in range(20):
        key = f"lifecycle/worker-{number}.bin"
        fresh = Caller(workers, workers.gateway, alice.bearer)  # its own connection may reach the other worker
        good(fresh.post_form(key, body(number, 10_000)), 201)
        fresh.close()
        assert workers.cos.read(key) == body(number, 10_000)

    stored = workers.gateway.metrics()["gateway_parts_stored_total"]
    assert stored == 20, "one scrape tells of both"
    began = time.monotonic()
    workers.gateway.program.signal(signal.SIGTERM)
    assert workers.gateway.program.wait(DRAIN_SECONDS + MARGIN_SECONDS) == 0
    assert time.monotonic() - began < DRAIN_SECONDS + MARGIN_SECONDS
    assert workers.gateway.readiness() == 0


def test_metrics_tell_what_happened(stack: Stack, alice: Caller) -> None:
    before = stack.gateway.metrics()
    data = body("metrics", 3 * MIB)
    task_id = alice.create("lifecycle/metrics.bin", len(data), part_size=MIB)["id"]
    stack.cos.fault("error", operation="UploadPart", key="lifecycle/metrics.bin", status=500, part_number=2)
    for number, piece in enumerate(parts_of(data, MIB), 1):
        good(alice.put_part(task_id, number, piece))
    good(alice.control(task_id, "complete"))
    require_problem(alice.call("GET", "/v1/tasks/none"), 404, "task_not_found")

    part = '{method="PUT",route="/v1/tasks/{task_id}/parts/{number}",status="200"}'
    expected = {
        f"gateway_http_requests_total{part}": 3,
        'gateway_http_requests_total{method="GET",route="/v1/tasks/{task_id}",status="404"}': 1,
        "gateway_body_bytes_total": 3 * MIB,
        "gateway_cos_bytes_total": 4 * MIB,
        "gateway_parts_stored_total": 3,
        "gateway_part_seconds_count": 3,
        'gateway_cos_retries_total{operation="upload_part"}': 1,
        'gateway_cos_calls_total{operation="upload_part",status="200"}': 3,
        'gateway_cos_calls_total{operation="upload_part",status="500"}': 1,
        'gateway_cos_calls_total{operation="complete",status="200"}': 1,
        'gateway_task_transitions_total{event="Succeeded",state="success"}': 1,
    }

    def grown() -> dict[str, float]:
        after = stack.gateway.metrics()
        grown = {name: after.get(name, 0) - before.get(name, 0) for name in expected}
        body_bytes = grown["gateway_body_bytes_total"]
        grown["gateway_body_bytes_total"] = body_bytes - body_bytes % MIB  # the JSON bodies
        return grown

    wait_until(lambda: grown()[f"gateway_http_requests_total{part}"] == 3, "the count", 5)
    assert grown() == expected
    names = " ".join(stack.gateway.metrics())
    assert task_id not in names
    assert "lifecycle" not in names


def test_version_and_metrics_are_on_the_admin_port_only(stack: Stack) -> None:
    admin = f"http://127.0.0.1:{stack.gateway.admin_port}"

    assert good(httpx.get(f"{admin}/version", **HTTP))["version"]
    assert good(httpx.get(f"{admin}/readyz", **HTTP))["status"] == "ready"
    assert httpx.get(f"{admin}/v1/tasks", **HTTP).status_code == 404


def _say_everything(stack: Stack, alice: Caller) -> tuple[str, list[str]]:
    """Do a bit of everything, well and badly; the task's id, and what no log may hold."""
    data = body("canary", 3 * MIB)
    task = alice.create("lifecycle/canary.bin", len(data), part_size=MIB)
    stack.cos.fault("error", operation="UploadPart", key="lifecycle/canary.bin", status=403, code="AccessDenied")
    alice.put_part(task["id"], 1, data[:MIB])
    good(alice.control(task["id"], "restart"))
    for number, part in enumerate(parts_of(data, MIB), 1):
        good(alice.put_part(task["id"], number, part))
    good(alice.control(task["id"], "complete"))
    alice.call("GET", f"/v1/tasks?token={alice.bearer}")
    alice.call("GET", f"/v1/tasks/{task['id']}", headers={"Upload-Ticket": task["ticket"]})
    alice.call("GET", "/v1/tasks", headers={"Authorization": f"Basic {alice.bearer}"})
    alice.call("PUT", f"/v1/tasks/{alice.bearer}/content", content=b"x")
    alice.call("POST", "/v1/tasks", content=b'{"key":', headers={"Content-Type": "application/json"})
    with alice.connect() as connection:
        connection.sendall(b"Bearer " + alice.bearer.encode() + b"\r\n\r\n")
        read_answer(connection)
    secrets = [alice.bearer, alice.bearer.rpartition(".")[2], SECRET, SEAL_SECRET, LocalCos.SECRET_KEY, task["ticket"]]
    return task["id"], [*secrets, "q-signature=", "q-sign-algorithm", stack.gateway.env["GATEWAY_COS_SECRET_ID"]]


def test_logs_are_json_lines_with_ids_and_without_any_secret(stack: Stack, alice: Caller) -> None:
    task_id, secrets = _say_everything(stack, alice)

    def of_the_task() -> list[dict[str, object]]:
        return [line for line in stack.gateway.log_lines() if line.get("task_id") == task_id]

    wait_until(lambda: len([1 for line in of_the_task() if line["logger"] == "gateway.access"]) >= 7, "the log", 5)
    lines = of_the_task()
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in stack.gateway.log_lines())
    assert all(line.get("request_id") for line in lines if line["logger"] == "gateway.access")
    assert any(line.get("cos_request_id") for line in lines)
    for path in sorted(Path(stack.folder).glob("*.log")):
        said = path.read_text(errors="replace")
        assert [secret for secret in secrets if secret in said] == [], path.name


def test_no_secret_is_in_a_process_s_arguments(stack: Stack) -> None:
    arguments = Path(f"/proc/{stack.gateway.program.pid}/cmdline").read_bytes()

    assert SECRET.encode() not in arguments
    assert LocalCos.SECRET_KEY.encode() not in arguments


def test_the_settings_in_force_are_told_without_secrets(stack: Stack) -> None:
    told = cli(stack.gateway.env, "check-config")

    assert f"GATEWAY_LISTEN=127.0.0.1:{stack.gateway.port}" in told
    assert not [secret for secret in (SECRET, SEAL_SECRET, LocalCos.SECRET_KEY) if secret in told]


def test_memory_does_not_grow_with_what_flows_through(stack: Stack, alice: Caller) -> None:
    data = body("memory", 40 * MIB)

    def send(number: int) -> int:
        good(alice.call("POST", f"/v1/files?key=lifecycle/memory-{number}.bin", content=data), 201)
        return stack.gateway.program.rss_bytes

    first = max(send(number) for number in range(2))
    assert max(send(number) for number in range(2, 8)) - first < 30 * MIB


def test_a_hundred_small_files_leave_nothing_behind(stack: Stack, alice: Caller) -> None:
    """Tasks, bodies and budget are given back, whatever became of each file."""
    for number in range(100):
        if number % 10 == 3:
            require_problem(alice.post_form("../bad", b"x"), 400, "invalid_key")
        else:
            good(alice.post_form(f"lifecycle/small-{number}", b"x" * number), 201)

    def at_rest() -> bool:
        metrics = stack.gateway.metrics()
        return metrics["gateway_replay_budget_bytes"] == metrics["gateway_bodies_in_flight"] == 0

    wait_until(at_rest, "rest", 5)
    listed = good(alice.call("GET", "/v1/tasks?limit=100&state=success"))["tasks"]
    assert len(listed) == 90
    assert json.dumps(listed).count('"error": null') == 90

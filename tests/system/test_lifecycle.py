"""Starting, and what is told of it all: logs without secrets, metrics without gaps."""

import json
from pathlib import Path

import httpx

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
)

DRAIN_SECONDS = 5.0
MARGIN_SECONDS = 3.0


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
        'gateway_task_transitions_total{door="rest",event="Created",state="waiting"}': 1,
        'gateway_task_transitions_total{door="rest",event="Succeeded",state="success"}': 1,
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

"""What dead processes left behind, at COS and half done, is ended by living ones, without any client asking."""

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.system.processes import LocalCos, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, running_stack

OLD_SECONDS: Final = 8 * 24 * 3600
SETTINGS: Final = {
    "buckets": f"files={LocalCos.BUCKET}@{LocalCos.REGION}/in/",
    "sweep_seconds": "1",
    "intent_seconds": "1",
}
NEW: Final = {"key": "in/created", "size": 2 * MIB}
ONCE: Final = {"Idempotency-Key": "once"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two gateways that sweep each second, and look after open intents as often."""
    with running_stack(tmp_path_factory.mktemp("swept"), gateways=2, **SETTINGS) as stack:
        yield stack


@dataclass
class Left:
    """What a process had begun when it was killed: each task and its file, by what it had begun."""

    tasks: dict[str, dict[str, Any]]
    data: dict[str, bytes]


@pytest.fixture(scope="module")
def left(swept: Stack) -> Left:
    """A gateway is killed while it creates, completes twice and cancels; no client says a word afterwards."""
    gateway = swept.start_gateway(**SETTINGS)
    caller, cos = swept.caller("alice", gateway), swept.cos
    data = {name: body(name, 2 * MIB) for name in ("unmerged", "merged", "canceled")}
    tasks = {name: _uploaded(caller, f"in/{name}", file) for name, file in data.items()}
    cos.fault("stall", operation="CompleteMultipartUpload", key="in/unmerged", seconds=60)
    cos.fault("lost_answer", operation="CompleteMultipartUpload", key="in/merged")
    cos.fault("delay", operation="HeadObject", key="in/merged", seconds=60)
    cos.fault("delay", operation="InitiateMultipartUpload", key="in/created", seconds=60)
    denied = {"status": 403, "code": "AccessDenied", "times": None}
    cos.fault("early_error", operation="AbortMultipartUpload", key="in/canceled", **denied)
    calls = [
        _begin(caller, f"/v1/tasks/{tasks['unmerged']['id']}/complete"),
        _begin(caller, f"/v1/tasks/{tasks['merged']['id']}/complete"),
        _begin(caller, f"/v1/tasks/{tasks['canceled']['id']}/cancel"),
        _begin(caller, "/v1/tasks", json=NEW, headers=ONCE),
    ]
    wait_until(lambda: _fact(swept, tasks["unmerged"], "intent") == "complete", "the complete")
    wait_until(lambda: _stands(swept, "in/merged"), "the merge")
    wait_until(lambda: _fact(swept, tasks["canceled"], "intent") == "abort", "the abort")
    wait_until(lambda: bool(_open_of(swept, "in/created")), "the upload")
    gateway.program.kill()
    for call in calls:
        call.join()
    assert tasks["canceled"]["upload_id"] in _open(swept)
    cos.clear_faults()
    return Left(tasks, data)


def _begin(caller: Caller, path: str, **request: Any) -> threading.Thread:
    """A call that will most likely get no answer."""

    def call() -> None:
        with contextlib.suppress(httpx.TransportError):
            caller.call("POST", path, **request)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def _uploaded(caller: Caller, key: str, data: bytes) -> dict[str, Any]:
    task = caller.create(key, len(data), part_size=MIB)
    for number in (1, 2):
        good(caller.put_part(task["id"], number, data[(number - 1) * MIB : number * MIB]))
    return task


def _fact(stack: Stack, task: dict[str, Any], name: str) -> str:
    """A field of the task's hash: no call of ours that might wake somebody."""
    return stack.redis.text("HGET", f"gw:{{{task['id']}}}", name)


def _uploads(stack: Stack) -> Path:
    return stack.folder / "data" / "cos" / ".uploads" / LocalCos.BUCKET


def _open(stack: Stack) -> set[str]:
    return {path.parent.name for path in _uploads(stack).glob("*/upload.json")}


def _change(stack: Stack, *uploads: tuple[str, dict[str, Any]]) -> None:
    """Write records of *uploads* under a COS that is away meanwhile."""
    stack.cos.program.stop()
    for upload_id, record in uploads:
        path = _uploads(stack) / upload_id / "upload.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {"headers": {}}
        path.write_text(json.dumps({**known, **record}))
    stack.cos.start()


def _id() -> str:
    return f"{int(time.time()):010d}{secrets.token_hex(32)}"


@pytest.mark.promise(17)
def test_orphans_are_gone_and_everybody_elses_uploads_are_not(swept: Stack) -> None:
    alice, then = swept.caller("alice"), time.time() - OLD_SECONDS
    living = alice.create("in/living", 2 * MIB, part_size=MIB)
    good(alice.put_part(living["id"], 1, body("living", MIB)))
    old, busy, young, outside = _id(), _id(), _id(), _id()
    part = _uploads(swept) / busy / f"00001-{'0' * 32}-{0:016x}"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    os.utime(part, (time.time() - 60, time.time() - 60))

    _change(
        swept,
        (old, {"key": "in/old", "initiated": then}),
        (busy, {"key": "in/busy", "initiated": then}),
        (young, {"key": "in/young", "initiated": time.time() - 3600}),
        (outside, {"key": "out/old", "initiated": then}),
        (living["upload_id"], {"initiated": then}),
    )
    wait_until(lambda: old not in _open(swept), "the orphan's end", 20)
    aborted = [entry["upload_id"] for entry in swept.cos.journal("AbortMultipartUpload")]

    assert {busy, young, outside, living["upload_id"]} <= _open(swept)
    assert set(aborted) == {old}
    good(alice.put_part(living["id"], 2, body("rest", MIB)))
    assert good(alice.control(living["id"], "complete"))["state"] == "success"


@pytest.mark.promise(12, 13)
@pytest.mark.parametrize("name", ["unmerged", "merged"], ids=["b6", "b7"])
def test_b6_b7_a_completion_is_finished_when_its_process_was_killed(swept: Stack, left: Left, name: str) -> None:
    """While COS had not begun, and after it had merged but not answered."""
    task, key = left.tasks[name], f"in/{name}"

    wait_until(lambda: _fact(swept, task, "state") == "success", "a living process's verdict", 30)

    assert swept.cos.read(key) == left.data[name]
    assert swept.caller("alice").task(task["id"])["result"]["crc64_verified"] is True
    assert task["upload_id"] not in _open(swept)


def _stands(stack: Stack, key: str) -> bool:
    try:
        return bool(stack.cos.read(key))
    except FileNotFoundError:
        return False


@pytest.mark.promise(16)
def test_b8_a_cancel_is_finished_when_its_process_was_killed(swept: Stack, left: Left) -> None:
    task = left.tasks["canceled"]

    wait_until(lambda: _fact(swept, task, "intent") == "", "a living process's abort", 30)

    assert task["upload_id"] not in _open(swept)
    assert swept.caller("alice").task(task["id"])["state"] == "canceled"
    assert not _stands(swept, "in/canceled")


@pytest.mark.promise(14, 17)
def test_b5_a_create_that_was_killed_leaves_one_orphan_that_is_swept(swept: Stack, left: Left) -> None:
    alice = swept.caller("alice")

    again = [good(alice.call("POST", "/v1/tasks", json=NEW, headers=ONCE), 201, 200) for _ in range(3)]

    assert len({(task["id"], task["upload_id"]) for task in again}) == 1
    (orphan,) = _open_of(swept, "in/created") - {again[0]["upload_id"]}
    then = time.time() - OLD_SECONDS
    _change(swept, (orphan, {"initiated": then}), (again[0]["upload_id"], {"initiated": then}))
    wait_until(lambda: orphan not in _open(swept), "the orphan's end", 20)
    assert _open_of(swept, "in/created") == {again[0]["upload_id"]}


def _open_of(stack: Stack, key: str) -> set[str]:
    found = [path for path in _uploads(stack).glob("*/upload.json") if path.exists()]
    return {path.parent.name for path in found if json.loads(path.read_text())["key"] == key}


def test_sweeps_and_looks_are_counted(swept: Stack) -> None:
    samples = [gateway.metrics() for gateway in swept.gateways[:2]]

    assert sum(sample["gateway_sweep_aborted_total"] for sample in samples) >= 1
    assert sum(sample["gateway_sweep_uploads_seen_total"] for sample in samples) >= 1
    assert max(sample["gateway_sweep_last_success_seconds"] for sample in samples) > time.time() - 60
    assert [line for gateway in swept.gateways[:2] for line in gateway.log_lines() if line["level"] == "error"] == []

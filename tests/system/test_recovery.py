"""Redis loses everything under a running gateway: callers with their tickets lose nothing that was acknowledged."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.system.stack import MIB, Caller, Stack, body, good, parts_of, require_problem

TICKET = "Upload-Ticket"


def _flush(stack: Stack) -> None:
    assert stack.redis.command("FLUSHALL") == b"+OK"


def _ticket(task: dict[str, Any]) -> dict[str, str]:
    return {TICKET: task["ticket"]}


def test_an_upload_goes_on_with_its_ticket(alice: Caller, stack: Stack) -> None:
    data, key = body("ticket", 6 * MIB + 11), "recovery/片段 1.bin"
    task = alice.create(key, len(data), part_size=MIB, client_ref="mine")
    parts = parts_of(data, MIB)
    for number in (1, 2, 3, 6):
        good(alice.put_part(task["id"], number, parts[number - 1]))
    _flush(stack)

    require_problem(alice.call("GET", f"/v1/tasks/{task['id']}"), 404, "task_not_found")
    good(alice.call("PUT", f"/v1/tasks/{task['id']}/parts/4", content=parts[3], headers=_ticket(task)))
    now = alice.task(task["id"])
    assert (now["stored_parts"], now["loaded"], now["client_ref"]) == (5, 5 * MIB, "mine")
    assert now["upload_id"] == task["upload_id"]
    listed = good(alice.call("GET", f"/v1/tasks/{task['id']}/parts"))["parts"]
    assert [(part["number"], part["crc64"] is None) for part in listed] == [
        (1, True),
        (2, True),
        (3, True),
        (4, False),
        (6, True),
    ]
    for number in (5, 7):
        good(alice.put_part(task["id"], number, parts[number - 1]))
    _flush(stack)
    done = good(alice.control(task["id"], "complete", headers=_ticket(now)))
    assert (done["state"], done["result"]["crc64_verified"]) == ("success", False)
    assert stack.cos.read(key) == data


def test_every_call_that_names_a_task_takes_the_ticket(alice: Caller, stack: Stack) -> None:
    data = body("every call", 2 * MIB)
    for number, (method, path) in enumerate(
        [("GET", ""), ("GET", "/parts"), ("POST", "/pause"), ("POST", "/restart"), ("POST", "/cancel")]
    ):
        task = alice.create(f"recovery/every/{number}", len(data), part_size=MIB)
        good(alice.put_part(task["id"], 1, data[:MIB]))
        _flush(stack)

        good(alice.call(method, f"/v1/tasks/{task['id']}{path}", headers=_ticket(task)))

    content = alice.create("recovery/every/content", len(data))
    _flush(stack)
    good(alice.put_content(content["id"], data, **_ticket(content)))
    assert stack.cos.read("recovery/every/content") == data


def test_a_ticket_opens_its_own_task_to_its_owner_only(alice: Caller, stack: Stack) -> None:
    task, other = (alice.create(f"recovery/own/{name}", 2 * MIB) for name in ("task", "other"))
    bob = stack.caller("bob of recovery")
    _flush(stack)
    path = f"/v1/tasks/{task['id']}"

    require_problem(bob.call("GET", path, headers=_ticket(task)), 404, "task_not_found")
    require_problem(alice.call("GET", path, headers=_ticket(other)), 400, "ticket_invalid")
    require_problem(alice.call("GET", path, headers={"Upload-Ticket": task["ticket"][:-3]}), 400, "ticket_invalid")
    require_problem(alice.call("GET", path), 404, "task_not_found")


def test_a_canceled_task_stays_canceled_whatever_the_ticket(alice: Caller, stack: Stack) -> None:
    """Also when Redis forgets that it was: COS no longer knows the upload."""
    task = alice.create("recovery/canceled", 2 * MIB)
    good(alice.put_part(task["id"], 1, body("c", 2 * MIB)))
    good(alice.control(task["id"], "cancel"))

    again = good(alice.call("GET", f"/v1/tasks/{task['id']}", headers=_ticket(task)))
    assert again["state"] == "canceled"
    _flush(stack)
    lost = good(alice.call("GET", f"/v1/tasks/{task['id']}", headers=_ticket(task)))
    assert (lost["state"], lost["error"]["code"]) == ("error", "upload_lost")


@pytest.mark.promise(3, 16)
@pytest.mark.parametrize("ticket", [False, True])
def test_f3_a_small_file_that_was_canceled_stays_so_when_redis_forgets_it(
    alice: Caller, stack: Stack, ticket: bool
) -> None:
    data = body("f3", 300_000)
    for number, (method, path, told) in enumerate(
        [
            *(("PUT", name, {"content": data}) for name in ("/parts/1", "/content")),
            *(("GET", name, {}) for name in ("", "/parts")),
            *(("POST", f"/{name}", {}) for name in ("restart", "pause", "complete", "cancel")),
        ]
    ):
        task = alice.create(f"recovery/f3/{ticket}/{number}", len(data))
        good(alice.control(task["id"], "cancel"))
        _flush(stack)
        headers = _ticket(task) if ticket else {}

        answer = alice.call(method, f"/v1/tasks/{task['id']}{path}", headers=headers, **told)

        require_problem(answer, 404, "task_not_found")
        require_problem(alice.call("GET", f"/v1/tasks/{task['id']}", headers=headers), 404, "task_not_found")
        with pytest.raises(FileNotFoundError):
            stack.cos.read(task["key"])


@pytest.mark.promise(2)
def test_b40_uploads_end_well_while_redis_is_emptied_all_the_time(alice: Caller, stack: Stack) -> None:
    files = {f"recovery/flushed/{number}": body(f"flushed {number}", MIB - 50 + number) for number in range(100)}
    stop = threading.Event()

    def flush() -> None:
        while not stop.wait(0.1):
            _flush(stack)

    flusher = threading.Thread(target=flush)
    flusher.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: _send_whatever_happens(alice, key, files[key]), files))
    finally:
        stop.set()
        flusher.join()

    for key, data in files.items():
        assert stack.cos.read(key) == data


def _send_whatever_happens(caller: Caller, key: str, data: bytes) -> None:
    """As a client should: what is retryable is sent again, and a small file whose task is gone gets a new one."""
    while not _is_sent(caller, key, data):
        assert len(data) <= MIB, "the ticket of a task with an upload brings it back"


def _is_sent(caller: Caller, key: str, data: bytes) -> bool:
    """Send the file as one task; False: Redis lost the task while nothing of it was at COS."""
    told = {"key": key, "size": len(data), "part_size": MIB}
    task = _insist(caller, "POST", "/v1/tasks", json=told)
    path, headers = f"/v1/tasks/{task['id']}", _ticket(task)
    for number, part in enumerate(parts_of(data, MIB), 1):
        receipt = _insist(caller, "PUT", f"{path}/parts/{number}", content=part, headers=headers)
        if receipt.get("code") == "task_not_found":
            return False
        headers = {TICKET: receipt.get("ticket", headers[TICKET])}
    assert _insist(caller, "POST", f"{path}/complete", headers=headers)["state"] == "success"
    return True


def _insist(caller: Caller, method: str, path: str, **request: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        answer = caller.call(method, path, **request)
        document: dict[str, Any] = answer.json()
        if answer.is_success:
            return document | ({"ticket": answer.headers[TICKET]} if TICKET in answer.headers else {})
        if document["code"] == "task_not_found":
            return document
        assert document["retryable"], answer.text
        assert time.monotonic() < deadline, answer.text


def _fingerprint(data: bytes) -> dict[str, Any]:
    md5s = [hashlib.md5(part, usedforsecurity=False).hexdigest() for part in parts_of(data, MIB)]
    return {"size": len(data), "part_size": MIB, "parts_md5": md5s}


def test_a_file_chosen_again_goes_on_by_its_fingerprint(alice: Caller, stack: Stack) -> None:
    """No id, no ticket: only the file is there, first with what Redis knows and then with nothing but COS."""
    data, key = body("fingerprint", 5 * MIB + 3), "recovery/fingerprint.bin"
    told = {"key": key, "fingerprint": _fingerprint(data)}
    first = good(alice.call("POST", "/v1/tasks", json=told), 201)
    for number in (1, 2):
        good(alice.put_part(first["id"], number, parts_of(data, MIB)[number - 1]))

    again = good(alice.call("POST", "/v1/tasks", json=told))
    assert (again["id"], again["loaded"], again["hash_percent"]) == (first["id"], 2 * MIB, 1.0)
    _flush(stack)
    adopted = good(alice.call("POST", "/v1/tasks", json=told))
    assert (adopted["upload_id"], adopted["loaded"], adopted["state"]) == (first["upload_id"], 2 * MIB, "waiting")
    for number in (3, 4, 5, 6):
        good(alice.put_part(adopted["id"], number, parts_of(data, MIB)[number - 1]))
    assert good(alice.control(adopted["id"], "complete"))["state"] == "success"
    assert stack.cos.read(key) == data
    assert stack.cos.open_uploads(key) == set()
    assert good(alice.call("POST", "/v1/tasks", json=told), 201)["loaded"] == 0


def test_fingerprints_that_cannot_be_are_refused(alice: Caller) -> None:
    good_one = _fingerprint(body("bad", 2 * MIB))
    for changes, code in [
        ({"parts_md5": good_one["parts_md5"][:1]}, "invalid_size"),
        ({"parts_md5": ["F" * 32] * 2}, "invalid_field"),
        ({"parts_md5": "all"}, "invalid_field"),
        ({"md5": "0" * 32}, "invalid_field"),
        ({"part_size": None}, "invalid_field"),
        ({"part_size": 1}, "invalid_size"),
        ({"part_size": 0}, "invalid_size"),
        ({"part_size": -MIB}, "invalid_size"),
        ({"parts_md5": None, "parts_crc64": ["x", "1"]}, "bad_digest"),
        ({"parts_md5": None, "parts_crc64": ["18446744073709551616", "1"]}, "bad_digest"),
        ({"size": -1}, "invalid_field"),
        ({"sha1": "0"}, "unknown_field"),
    ]:
        told = {"key": "recovery/bad", "fingerprint": {**good_one, **changes}}
        require_problem(alice.call("POST", "/v1/tasks", json=told), 400, code)
    contradictions: list[dict[str, Any]] = [{"size": MIB}, {"part_size": 2 * MIB}]
    for said in contradictions:
        told = {"key": "recovery/bad", "fingerprint": good_one, **said}
        require_problem(alice.call("POST", "/v1/tasks", json=told), 400, "invalid_size")


def test_ten_thousand_digests_fit_into_a_create(alice: Caller) -> None:
    size = 10_000 * MIB
    told = {"size": size, "part_size": MIB, "parts_md5": [f"{number:032x}" for number in range(10_000)]}

    task = good(alice.call("POST", "/v1/tasks", json={"key": "recovery/many", "fingerprint": told}), 201)
    began = time.monotonic()
    again = good(alice.call("POST", "/v1/tasks", json={"key": "recovery/many", "fingerprint": told}))

    assert (again["id"], task["part_count"]) == (task["id"], 10_000)
    assert time.monotonic() - began < 2

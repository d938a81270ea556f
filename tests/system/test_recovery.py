"""Redis loses everything under a running gateway: callers with their tickets lose nothing that was acknowledged."""

import threading
import time
from typing import Any

from tests.system.stack import MIB, Caller, Stack, body, good, parts_of, require_problem


def _flush(stack: Stack) -> None:
    assert stack.redis.command("FLUSHALL") == b"+OK"


def _ticket(task: dict[str, Any]) -> dict[str, str]:
    return {"Upload-Ticket": task["ticket"]}


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


def test_uploads_end_well_while_redis_is_emptied_all_the_time(alice: Caller, stack: Stack) -> None:
    files = {f"recovery/flushed/{number}": body(f"flushed {number}", 3 * MIB + number) for number in range(12)}
    stop = threading.Event()

    def flush() -> None:
        while not stop.wait(0.1):
            _flush(stack)

    flusher = threading.Thread(target=flush)
    flusher.start()
    try:
        for key, data in files.items():
            _send_whatever_happens(alice, key, data)
    finally:
        stop.set()
        flusher.join()

    for key, data in files.items():
        assert stack.cos.read(key) == data


def _send_whatever_happens(caller: Caller, key: str, data: bytes) -> None:
    """As a client should: what is retryable is sent again, with the newest ticket there is."""
    deadline = time.monotonic() + 30
    task = caller.create(key, len(data), part_size=MIB)
    calls = [("PUT", f"/parts/{number}", part) for number, part in enumerate(parts_of(data, MIB), 1)]
    for method, path, content in [*calls, ("POST", "/complete", b"")]:
        while True:
            answer = caller.call(method, f"/v1/tasks/{task['id']}{path}", content=content, headers=_ticket(task))
            if answer.status_code == 200:
                break
            assert time.monotonic() < deadline, answer.text
            assert answer.json()["retryable"], answer.text

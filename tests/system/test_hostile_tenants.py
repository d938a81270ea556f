"""Whoever has a good token gets nothing of anybody else's: promises C2, rows 44 to 50.

Row 48, and the rates of rows 50 and 55, are in test_limits.py.
"""

import base64
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest

from tests.system.stack import CALLS, MIB, PROBLEM_TYPE, Caller, Stack, body, good, require_problem, token

pytestmark = pytest.mark.usefixtures("unharmed")


OF_A_TASK: Final = [call for call in CALLS if "{id}" in call[1]]


@pytest.fixture
def task_id(stack: Stack) -> str:
    """A task of somebody who is not the one that asks."""
    found: str = stack.caller("owner").create("owner/file.bin", 2 * MIB, part_size=MIB)["id"]
    return found


@pytest.mark.promise(25)
@pytest.mark.parametrize(("method", "path"), OF_A_TASK)
def test_c44_c45_another_s_task_is_a_task_that_is_not_there(stack: Stack, task_id: str, method: str, path: str) -> None:
    mallory = stack.caller("mallory")

    def told(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, str]]:
        document = require_problem(answer, 404, "task_not_found")
        document.pop("request_id")
        headers = {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id")}
        return document, headers

    data = body("44", MIB) if method == "PUT" else None
    theirs = mallory.call(method, path.format(id=task_id), content=data)
    nobody_s = mallory.call(method, path.format(id="A" * 22), content=data)

    assert told(theirs) == told(nobody_s)
    assert stack.caller("owner").task(task_id)["state"] == "waiting"


@pytest.mark.promise(25)
def test_c44_another_s_task_takes_as_long_to_refuse_as_none(stack: Stack, task_id: str) -> None:
    mallory = stack.caller("mallory with a watch")
    found: list[float] = []
    for _ in range(5):
        took: dict[str, list[float]] = {task_id: [], "A" * 22: []}
        for _ in range(100):
            for asked, seconds in took.items():
                began = time.perf_counter()
                mallory.call("GET", f"/v1/tasks/{asked}")
                seconds.append(time.perf_counter() - began)
        theirs, nobody_s = (statistics.quantiles(seconds, n=10)[0] for seconds in took.values())
        found.append(theirs / nobody_s)
        if 0.8 < found[-1] < 1.25:
            return
    pytest.fail(f"the quickest tenth of another's task as multiples of that of none: {found}")


def lost(stack: Stack, caller: Caller, key: str) -> dict[str, Any]:
    """A task with one part, which Redis has forgotten since."""
    task = caller.create(key, 2 * MIB, part_size=MIB)
    good(caller.put_part(task["id"], 1, body(key, MIB)))
    assert stack.redis.command("DEL", f"gw:{{{task['id']}}}") == b":1"
    return task


def flipped(ticket: str) -> str:
    middle = len(ticket) // 2
    return ticket[:middle] + ("A" if ticket[middle] != "A" else "B") + ticket[middle + 1 :]


TICKETS: Final[dict[str, Callable[[str], str]]] = {
    "a flipped bit": flipped,
    "a flipped last bit": lambda ticket: ticket[:-1] + chr(ord(ticket[-1]) ^ 1),
    "another key id": lambda ticket: "second" + ticket.removeprefix("first"),
    "cut": lambda ticket: ticket[:-4],
    "longer": lambda ticket: ticket + "AAAA",
    "too long": lambda ticket: "first." + "A" * 6000,
    "empty": lambda ticket: "",
    "a token": lambda ticket: token("owner"),
}


@pytest.mark.parametrize("row", list(TICKETS))
def test_c49_a_ticket_that_we_did_not_write_brings_nothing_back(stack: Stack, row: str) -> None:
    owner = stack.caller("owner of tickets")
    task = lost(stack, owner, "owner/ticket.bin")
    headers = {b"Upload-Ticket": TICKETS[row](task["ticket"]).encode()}

    answer = owner.call("GET", f"/v1/tasks/{task['id']}", headers=headers)

    require_problem(answer, 400, "ticket_invalid")
    assert (
        good(owner.call("GET", f"/v1/tasks/{task['id']}", headers={"Upload-Ticket": task["ticket"]}))["loaded"] == MIB
    )


def test_c49_another_s_ticket_and_another_task_s_bring_nothing_back(stack: Stack) -> None:
    owner, mallory = stack.caller("owner of tickets"), stack.caller("mallory with a ticket")
    task, other = (lost(stack, owner, f"owner/ticket-{number}.bin") for number in range(2))
    path = f"/v1/tasks/{task['id']}"

    stolen = mallory.call("GET", path, headers={"Upload-Ticket": task["ticket"]})
    require_problem(stolen, 404, "task_not_found")
    mixed = owner.call("GET", path, headers={"Upload-Ticket": other["ticket"]})
    require_problem(mixed, 400, "ticket_invalid")
    require_problem(owner.call("GET", path), 404, "task_not_found")


NEEDS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "create": ("POST", "/v1/tasks", {"json": {"key": "a", "size": 1}}),
    "list": ("GET", "/v1/tasks", {}),
    "read": ("GET", "/v1/tasks/{id}", {}),
    "upload": ("PUT", "/v1/tasks/{id}/parts/1", {"content": b"x" * MIB}),
    "complete": ("POST", "/v1/tasks/{id}/complete", {}),
    "control": ("POST", "/v1/tasks/{id}/cancel", {}),
    "append": ("POST", "/v1/objects/a?append&position=0", {"content": b"x"}),
    "head": ("HEAD", "/v1/objects/a", {}),
    "keys": ("POST", "/v1/keys", {"json": {}}),
}


@pytest.mark.parametrize("action", list(NEEDS))
def test_c46_a_token_without_the_action_is_refused(stack: Stack, task_id: str, action: str) -> None:
    method, path, options = NEEDS[action]
    others = [name for name in NEEDS if name != action]
    answer = stack.caller("owner", actions=others).call(method, path.format(id=task_id), **options)

    if method == "HEAD":
        assert (answer.status_code, answer.headers["content-type"]) == (403, PROBLEM_TYPE)
    else:
        require_problem(answer, 403, "forbidden")


@pytest.mark.parametrize(
    ("policy", "wanted", "status", "code"),
    [
        ({"prefix": "mine/"}, {"key": "yours/a"}, 403, "key_not_allowed"),
        ({"prefix": "mine/"}, {"key": "mine"}, 403, "key_not_allowed"),
        ({"prefix": "mine/"}, {"key": "mine/../yours"}, 400, "invalid_key"),
        ({"max_size": 10}, {"key": "a", "size": 11}, 413, "file_too_large"),
        ({"types": ["image/*"]}, {"key": "a", "content_type": "text/html"}, 403, "type_not_allowed"),
        ({"types": ["image/*"]}, {"key": "a"}, 403, "type_not_allowed"),
        ({"buckets": ["other"]}, {"key": "a"}, 400, "unknown_destination"),
        ({"buckets": []}, {"key": "a"}, 400, "unknown_destination"),
        ({"actions": []}, {"key": "a"}, 403, "forbidden"),
    ],
)
def test_c46_a_token_s_policy_holds_for_tasks_and_for_files(
    stack: Stack, policy: dict[str, Any], wanted: dict[str, Any], status: int, code: str
) -> None:
    mallory = stack.caller("mallory", **policy)

    require_problem(mallory.call("POST", "/v1/tasks", json={"size": 5, **wanted}), status, code)
    data = b"x" * wanted.get("size", 5)
    headers = {"Content-Type": wanted.get("content_type", "application/octet-stream")}
    answer = mallory.call("POST", "/v1/files", params={"key": wanted["key"]}, content=data, headers=headers)
    require_problem(answer, status, code)


def test_c46_a_size_that_only_shows_on_the_way_is_held_to_the_policy_too(stack: Stack) -> None:
    mallory = stack.caller("mallory", max_size=3 * MIB)

    def endless() -> Iterator[bytes]:
        for _ in range(5):
            yield bytes(MIB)

    require_problem(mallory.call("POST", "/v1/files?key=endless", content=endless()), 413, "file_too_large")
    with pytest.raises(FileNotFoundError):
        stack.cos.read("endless")


@pytest.mark.parametrize(
    "guess", ["1", "0" * 22, "A" * 300, "%E4%BD%A0", "a%20b", "*", "%2A", "gw:{x}", "__proto__", "null", "%0d%0aX:1"]
)
def test_c50_guessed_ids_are_not_there(stack: Stack, guess: str) -> None:
    mallory = stack.caller("mallory")

    require_problem(mallory.call("GET", f"/v1/tasks/{guess}"), 404, "task_not_found")
    require_problem(mallory.call("POST", f"/v1/tasks/{guess}/cancel"), 404, "task_not_found")


def test_c50_ids_are_of_128_random_bits(stack: Stack) -> None:
    alice = stack.caller("alice")
    ids = {alice.create(f"ids/{number}", 1)["id"] for number in range(50)}

    assert len(ids) == 50
    assert all(len(base64.urlsafe_b64decode(task_id + "==")) == 16 for task_id in ids)
    assert all(len({task_id[at] for task_id in ids}) > 10 for at in range(21)), "no position is fixed"


def test_a_caller_without_all_tasks_lists_only_their_own(stack: Stack) -> None:
    alice: Caller = stack.caller("alice of the list")
    alice.create("list/a", 1)
    stack.caller("bob of the list").create("list/b", 1)

    assert [task["key"] for task in good(alice.call("GET", "/v1/tasks"))["tasks"]] == ["list/a"]
    everybody = good(stack.caller("admin", actions=["list", "all_tasks"]).call("GET", "/v1/tasks?limit=100"))
    assert {"list/a", "list/b"} <= {task["key"] for task in everybody["tasks"]}

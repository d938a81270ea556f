"""Tasks and parts that are none, or not now: promises C4, rows 72 to 81. Row 78 and 92 are in test_limits.py."""

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.system.processes import ROOT
from tests.system.stack import MIB, Caller, Stack, body, good, require_problem, token

pytestmark = pytest.mark.usefixtures("unharmed")


SIZE: Final = 2 * MIB + 5
DAY_SECONDS: Final = 86_400


@pytest.fixture
def task_id(alice: Caller) -> str:
    """A task of three parts, none of them here yet."""
    found: str = alice.create("tasks/hostile.bin", SIZE, part_size=MIB)["id"]
    return found


NUMBERS = ["0", "-1", "+1", "01", "10001", "99999", "100000", "1.0", "1e3", "%201", "1%20", "%D9%A1", "true", "9" * 31]


@pytest.mark.parametrize("number", [*NUMBERS, "4"])
def test_c72_a_part_number_is_a_plain_number_of_a_part(alice: Caller, task_id: str, number: str) -> None:
    answer = alice.call("PUT", f"/v1/tasks/{task_id}/parts/{number}", content=bytes(MIB))

    require_problem(answer, 400, "invalid_part_number")
    assert alice.task(task_id)["stored_parts"] == 0


@pytest.mark.parametrize(
    ("number", "size", "expected"),
    [(1, MIB - 1, MIB), (1, MIB + 1, MIB), (2, 5, MIB), (3, 4, 5), (3, 6, 5), (3, MIB, 5), (1, 0, MIB)],
)
def test_c74_a_part_covers_exactly_its_bytes(
    alice: Caller, task_id: str, number: int, size: int, expected: int
) -> None:
    document = require_problem(alice.put_part(task_id, number, bytes(size)), 400, "part_size_mismatch")

    assert document["expected"] == expected
    assert alice.task(task_id)["stored_parts"] == 0


def test_c74_in_a_file_of_unknown_size_only_the_last_part_may_be_small(stack: Stack, alice: Caller) -> None:
    task_id = alice.create("tasks/unknown.bin")["id"]
    pieces = [body("small first", 10), body("large second", MIB)]
    for number, data in enumerate(pieces, 1):
        good(alice.put_part(task_id, number, data))

    assert require_problem(alice.control(task_id, "complete"), 409, "parts_missing")["missing"] == [[1, 1]]
    good(alice.put_part(task_id, 1, body("large first", MIB)))
    good(alice.control(task_id, "complete"))
    assert stack.cos.read("tasks/unknown.bin") == body("large first", MIB) + pieces[1]


def test_c75_a_part_without_a_length_is_refused(alice: Caller, task_id: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(MIB)

    answer = alice.call("PUT", f"/v1/tasks/{task_id}/parts/1", content=chunks())
    require_problem(answer, 411, "length_required")


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


PART = body("digests", MIB)


DIGESTS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "a wrong MD5": ({"Content-MD5": md5(b"other")}, "digest_mismatch"),
    "a wrong Content-Digest": ({"Content-Digest": f"md5=:{md5(b'other')}:"}, "digest_mismatch"),
    "a wrong CRC-64": ({"x-cos-hash-crc64ecma": "1"}, "digest_mismatch"),
    "no base64": ({"Content-MD5": "!" * 24}, "bad_digest"),
    "15 bytes": ({"Content-MD5": base64.b64encode(bytes(15)).decode()}, "bad_digest"),
    "hexadecimal": ({"Content-MD5": hashlib.md5(PART, usedforsecurity=False).hexdigest()}, "bad_digest"),
    "two that disagree": ({"Content-MD5": md5(PART), "Content-Digest": f"md5=:{md5(b'x')}:"}, "bad_digest"),
    "an unknown algorithm": ({"Content-Digest": f"sha-999=:{md5(PART)}:"}, "bad_digest"),
    "no list of digests": ({"Content-Digest": md5(PART)}, "bad_digest"),
    "a CRC-64 of 65 bits": ({"x-cos-hash-crc64ecma": str(1 << 64)}, "bad_digest"),
    "a negative CRC-64": ({"x-cos-hash-crc64ecma": "-1"}, "bad_digest"),
    "a CRC-64 in hexadecimal": ({"x-cos-hash-crc64ecma": "0xff"}, "bad_digest"),
    "another script's digits": ({"x-cos-hash-crc64ecma": "\u0661".encode().decode("latin-1")}, "bad_request"),
}


@pytest.mark.parametrize("row", list(DIGESTS))
def test_c76_a_part_that_is_not_what_its_digest_says_is_not_stored(
    stack: Stack, alice: Caller, task_id: str, row: str
) -> None:
    headers, code = DIGESTS[row]
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = alice.call("PUT", f"/v1/tasks/{task_id}/parts/1", content=PART, headers=raw)

    document = require_problem(answer, 400, code)
    assert document["retryable"] == (code == "digest_mismatch")
    assert alice.task(task_id)["stored_parts"] == 0
    good(alice.put_part(task_id, 1, PART, **{"Content-MD5": md5(PART)}))


@pytest.mark.parametrize("way", ["raw", "content"])
@pytest.mark.parametrize("size", [1000, MIB, 3 * MIB])
@pytest.mark.parametrize("header", ["Content-MD5", "x-cos-hash-crc64ecma"])
def test_c76_a_file_that_is_not_what_its_digest_says_does_not_succeed(
    stack: Stack, alice: Caller, way: str, size: int, header: str
) -> None:
    key, data = f"tasks/digest-{way}-{size}-{header}.bin", body(size, size)
    wrong = {header: md5(b"other") if header == "Content-MD5" else "1"}
    if way == "content":
        answer = alice.put_content(alice.create(key, size)["id"], data, **wrong)
    else:
        answer = alice.call("POST", f"/v1/files?key={key}", content=data, headers=wrong)

    require_problem(answer, 400, "digest_mismatch")
    with pytest.raises(FileNotFoundError):
        stack.cos.read(key)


SIZES: Final[dict[str, tuple[str, list[str]]]] = {
    "negative": ("-1", ["invalid_size"]),
    "beyond COS's largest": (str((50_000 << 30) + 1), ["file_too_large", "invalid_size"]),
    "2^53 + 1": (str(2**53 + 1), ["bad_json"]),
    "2^63": (str(2**63), ["bad_json"]),
    "2^64": (str(2**64), ["bad_json"]),
    "1e400": ("1e400", ["bad_json"]),
    "1e3": ("1e3", ["invalid_field"]),
    "1.5": ("1.5", ["invalid_field"]),
    "NaN": ("NaN", ["bad_json"]),
    "Infinity": ("Infinity", ["bad_json"]),
    "-Infinity": ("-Infinity", ["bad_json"]),
    "text": ('"5"', ["invalid_field"]),
    "true": ("true", ["invalid_field"]),
    "a list": ("[5]", ["invalid_field"]),
    "an object": ("{}", ["invalid_field"]),
}


def post_json(caller: Caller, raw: str | bytes, **headers: str) -> Any:
    return caller.call("POST", "/v1/tasks", content=raw, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize("row", list(SIZES))
def test_c77_a_size_is_a_whole_number_that_cos_can_hold(alice: Caller, row: str) -> None:
    text, codes = SIZES[row]
    answer = post_json(alice, f'{{"key":"a","size":{text}}}')

    require_problem(answer, 413 if answer.status_code == 413 else 400, codes)


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("part_size", MIB - 1, "invalid_size"),
        ("part_size", 0, "invalid_size"),
        ("part_size", (5 << 30) + 1, "invalid_size"),
        ("slice_size", 1, "invalid_size"),
        ("async_limit", 0, "invalid_field"),
        ("async_limit", 257, "invalid_field"),
        ("traffic_limit", 819_199, "invalid_field"),
        ("traffic_limit", 838_860_801, "invalid_field"),
        ("storage_class", "GOLD", "invalid_field"),
        ("acl", "everyone", "invalid_field"),
        ("client_ref", "x" * 129, "invalid_field"),
        ("client_ref", "a\nb", "invalid_field"),
        ("key", None, "invalid_field"),
        ("key", 5, "invalid_field"),
        ("content_type", "a\r\nX: y", "invalid_field"),
        ("content_disposition", "attachment; filename=文件", "invalid_field"),
        ("forbid_overwrite", "true", "invalid_field"),
        ("meta", ["a"], "invalid_field"),
    ],
)
def test_c77_options_outside_their_limits_are_refused(alice: Caller, option: str, value: Any, code: str) -> None:
    told = {"key": "tasks/options", "size": 5, option: value}

    require_problem(post_json(alice, json.dumps(told)), 400, [code, "invalid_metadata"])


def in_state(alice: Caller, state: str) -> tuple[str, bytes]:
    """A one-part task in *state*, and its bytes."""
    data = body(state, MIB)
    task_id = alice.create(f"tasks/{state}.bin", MIB, slice_size=MIB, part_size=MIB)["id"]
    if state == "success":
        good(alice.put_part(task_id, 1, data))
        good(alice.control(task_id, "complete"))
    elif state == "paused":
        good(alice.control(task_id, "pause"))
    elif state == "canceled":
        good(alice.control(task_id, "cancel"))
    return task_id, data


@pytest.mark.parametrize(
    ("state", "code"), [("paused", "task_paused"), ("canceled", "task_canceled"), ("success", "task_succeeded")]
)
def test_c79_bytes_for_a_task_that_takes_none_are_refused(stack: Stack, alice: Caller, state: str, code: str) -> None:
    task_id, data = in_state(alice, state)
    before = alice.task(task_id)

    assert require_problem(alice.put_part(task_id, 1, body("other", MIB)), 409, code)["state"] == state
    require_problem(alice.put_content(task_id, data), 409, [code, "task_mode"])
    assert alice.task(task_id) == before


def test_c79_the_same_bytes_after_success_are_good(alice: Caller) -> None:
    task_id, data = in_state(alice, "success")

    assert good(alice.put_part(task_id, 1, data))["number"] == 1


def test_c79_a_task_whose_time_is_over_takes_nothing_whatever_its_ticket_says(stack: Stack) -> None:
    """For the gateway that is asked it is two days later: a ticket lasts to the end of its task's last day."""
    clock = [sys.executable, str(ROOT / "tests" / "system" / "wrong_clock.py"), str(2 * DAY_SECONDS)]
    settings = {"task_ttl_seconds": "60", "token_life_seconds": str(3 * DAY_SECONDS)}
    late = stack.start_gateway(launcher=clock, **settings)
    soon = stack.caller_with(token("c79", seconds=3 * DAY_SECONDS), stack.start_gateway(**settings))
    task = soon.create("tasks/expired.bin", 2 * MIB, part_size=MIB)
    path, ticket = f"/v1/tasks/{task['id']}", {"Upload-Ticket": task["ticket"]}
    good(soon.put_part(task["id"], 1, bytes(MIB)))
    stack.redis.command("DEL", *(f"gw:{{{task['id']}}}{suffix}" for suffix in ("", ":parts", ":bodies")))

    for method, rest in (("PUT", "/parts/2"), ("GET", ""), ("GET", "/parts"), ("POST", "/complete")):
        content = bytes(MIB) if method == "PUT" else b""
        answer = soon.at(late).call(method, path + rest, headers=ticket, content=content)
        assert not require_problem(answer, 410, "task_expired")["retryable"]
    assert len(stack.cos.journal("UploadPart", key="tasks/expired.bin")) == 1
    late.close()


MOVES = [
    ("success", "pause", 409),
    ("success", "restart", 409),
    ("success", "cancel", 409),
    ("success", "complete", 200),
    ("canceled", "pause", 409),
    ("canceled", "restart", 409),
    ("canceled", "cancel", 200),
    ("canceled", "complete", 409),
    ("paused", "pause", 200),
    ("paused", "restart", 200),
    ("paused", "cancel", 200),
    ("paused", "complete", 409),
]


@pytest.mark.parametrize(("state", "verb", "status"), MOVES)
def test_c80_a_task_moves_along_its_graph_only(alice: Caller, state: str, verb: str, status: int) -> None:
    task_id, _ = in_state(alice, state)
    before = alice.task(task_id)
    answer = alice.control(task_id, verb)

    if status == 200:
        good(answer)
        return
    codes = ["illegal_transition", "task_paused", "task_canceled"]
    assert require_problem(answer, 409, codes)["state"] == state
    assert alice.task(task_id) == before


@pytest.mark.parametrize("verb", ["pause", "restart", "cancel"])
def test_c81_a_stale_version_moves_nothing(alice: Caller, task_id: str, verb: str) -> None:
    version = alice.task(task_id)["version"]
    stale = {"If-Match": f'"{version - 1}"'}
    document = require_problem(alice.control(task_id, verb, headers=stale), 412, "version_mismatch")

    assert document["version"] == version
    assert alice.task(task_id)["version"] == version
    good(alice.control(task_id, verb, headers={"If-Match": f'"{version}"'}))


@pytest.mark.parametrize("value", ["7", "*", 'W/"7"', '"seven"', '"-1"', '"' + "9" * 40 + '"', '"1", "2"', ""])
def test_c81_a_version_that_is_none_moves_nothing(alice: Caller, task_id: str, value: str) -> None:
    require_problem(alice.control(task_id, "cancel", headers={"If-Match": value}), 400, "invalid_field")
    assert alice.task(task_id)["state"] == "waiting"


RANGES: Final[dict[str, tuple[str, str]]] = {
    "another unit": (f"lines 0-9/{SIZE}", "invalid_range"),
    "no total": ("bytes 0-9", "invalid_range"),
    "backwards": (f"bytes 9-0/{SIZE}", "invalid_range"),
    "beyond its total": ("bytes 0-9/9", "invalid_range"),
    "not the body's length": (f"bytes 0-10/{SIZE}", "invalid_range"),
    "endless numbers": ("bytes 0-" + "9" * 30 + "/*", "invalid_range"),
    "negative": (f"bytes -1-8/{SIZE}", "invalid_range"),
    "a wrong offset": (f"bytes 5-14/{SIZE}", "offset_mismatch"),
    "another total": (f"bytes 0-9/{SIZE + 1}", "invalid_size"),
    "unsatisfied": (f"bytes */{SIZE}", "invalid_range"),
}


@pytest.mark.parametrize("row", list(RANGES))
def test_a_content_range_that_does_not_fit_moves_nothing(alice: Caller, task_id: str, row: str) -> None:
    value, code = RANGES[row]
    answer = alice.put_content(task_id, bytes(10), **{"Content-Range": value})

    document = require_problem(answer, 409 if code == "offset_mismatch" else 400, code)
    assert document.get("next_offset", 0) == 0
    assert alice.task(task_id)["next_offset"] == 0


def test_content_longer_than_its_task_is_refused(stack: Stack, alice: Caller, task_id: str) -> None:
    answer = alice.put_content(task_id, body("long", SIZE + 1))

    require_problem(answer, 400, "invalid_size")


def test_the_first_body_decides_the_way(alice: Caller, task_id: str) -> None:
    good(alice.put_part(task_id, 1, bytes(MIB)))
    require_problem(alice.put_content(task_id, bytes(SIZE)), 409, "task_mode")

    other = alice.create("tasks/other-way.bin", SIZE, part_size=MIB)["id"]
    good(alice.put_content(other, bytes(5), **{"Content-Range": f"bytes 0-4/{SIZE}"}), 200)
    require_problem(alice.put_part(other, 1, bytes(MIB)), 409, "task_mode")


def test_two_creates_under_one_key_of_idempotency_are_one_task(stack: Stack, alice: Caller) -> None:
    key = {"Idempotency-Key": "once"}
    wanted = {"key": "tasks/once.bin", "size": SIZE}
    first = good(alice.call("POST", "/v1/tasks", json=wanted, headers=key), 201)
    again = good(alice.call("POST", "/v1/tasks", json=wanted, headers=key), 201)

    assert again["id"] == first["id"]
    assert len(stack.cos.journal("InitiateMultipartUpload", key="tasks/once.bin")) == 1
    other = alice.call("POST", "/v1/tasks", json={**wanted, "size": 1}, headers=key)
    require_problem(other, 422, "idempotency_conflict")
    bobs = good(stack.caller("bob").call("POST", "/v1/tasks", json=wanted, headers=key), 201)
    assert bobs["id"] != first["id"]


def test_missing_parts_are_told_as_ranges(alice: Caller) -> None:
    task_id = alice.create("tasks/missing.bin", 7 * MIB, part_size=MIB)["id"]
    for number in (2, 5):
        good(alice.put_part(task_id, number, bytes(MIB)))

    document = require_problem(alice.control(task_id, "complete"), 409, "parts_missing")
    assert document["missing"] == [[1, 1], [3, 4], [6, 7]]


def test_if_match_and_if_none_match_guard_a_part(alice: Caller, task_id: str) -> None:
    first, other = body("first", MIB), body("other", MIB)
    absent, stale = {"If-None-Match": "*"}, {"If-Match": '"another"'}
    require_problem(alice.put_part(task_id, 1, first, **stale), 412, "precondition_failed")
    stored = good(alice.put_part(task_id, 1, first, **absent))

    require_problem(alice.put_part(task_id, 1, other, **absent), 412, "precondition_failed")
    require_problem(alice.put_part(task_id, 1, other, **stale), 412, "precondition_failed")
    replaced = good(alice.put_part(task_id, 1, other, **{"If-Match": stored["etag"]}))
    assert replaced["etag"] != stored["etag"]


def test_tokens_and_tickets_are_not_taken_for_one_another(stack: Stack, alice: Caller, task_id: str) -> None:
    ticket = alice.task(task_id)["ticket"]

    require_problem(stack.caller_with(ticket).call("GET", "/v1/tasks"), 401, "token_invalid")
    require_problem(alice.call("GET", f"/v1/tasks?cursor={token('alice')}"), 400, "bad_query")

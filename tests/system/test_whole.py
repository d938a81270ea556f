"""Whatever way a file takes, the object at COS is the file, byte for byte."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, parts_of, read_answer, token_of_the_cli

SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 4 * MIB, 5 * MIB + 1, 8 * MIB, 40 * MIB + 12_345]


def key_of(way: str, size: int) -> str:
    return f"whole/{way}-{size}.bin"


def require_success(task: dict[str, object], size: int) -> None:
    result = task["result"]
    assert isinstance(result, dict)
    assert (task["state"], task["size"], task["loaded"], task["percent"]) == ("success", size, size, 1.0)
    assert (result["size"], result["crc64_verified"]) == (size, True)


@pytest.mark.parametrize("size", SIZES)
def test_a_form(stack: Stack, alice: Caller, size: int) -> None:
    data = body(f"form {size}", size)
    task = good(alice.post_form(key_of("form", size), data), 201)

    require_success(task, size)
    assert stack.cos.read(key_of("form", size)) == data


@pytest.mark.parametrize("size", SIZES)
def test_a_raw_body_of_known_length(stack: Stack, alice: Caller, size: int) -> None:
    data = body(f"raw {size}", size)
    task = good(alice.call("POST", f"/v1/files?key={key_of('raw', size)}", content=data), 201)

    require_success(task, size)
    assert stack.cos.read(key_of("raw", size)) == data


@pytest.mark.parametrize("size", SIZES)
def test_a_raw_body_of_unknown_length(stack: Stack, alice: Caller, size: int) -> None:
    data = body(f"chunked {size}", size)
    rng = random.Random(size)

    def chunks() -> Iterator[bytes]:
        at = 0
        while at < size:
            step = rng.choice([1, 1000, 65_536, 1_500_000])
            yield data[at : at + step]
            at += step

    task = good(alice.call("POST", f"/v1/files?key={key_of('chunked', size)}", content=chunks()), 201)

    require_success(task, size)
    assert stack.cos.read(key_of("chunked", size)) == data


@pytest.mark.parametrize("size", SIZES)
def test_parts_in_any_order_at_once(stack: Stack, alice: Caller, size: int) -> None:
    data = body(f"parts {size}", size)
    task = alice.create(key_of("parts", size), size, part_size=MIB)
    numbered = [*enumerate(parts_of(data, MIB), 1)]
    random.Random(size).shuffle(numbered)
    with ThreadPoolExecutor(6) as pool:
        answers = [*pool.map(lambda part: alice.put_part(task["id"], *part), numbered)] if size else []

    for answer in answers:
        good(answer)
    require_success(good(alice.control(task["id"], "complete")), size)
    assert stack.cos.read(key_of("parts", size)) == data


@pytest.mark.parametrize("size", SIZES)
def test_content_for_a_task(stack: Stack, alice: Caller, size: int) -> None:
    data = body(f"content {size}", size)
    task = alice.create(key_of("content", size), size)

    require_success(good(alice.put_content(task["id"], data)), size)
    assert stack.cos.read(key_of("content", size)) == data


@pytest.mark.parametrize("size", [0, 1, MIB + 1, 5 * MIB + 1])
def test_content_for_a_task_of_unknown_size(stack: Stack, alice: Caller, size: int) -> None:
    data = body(f"unknown {size}", size)
    task = alice.create(key_of("unknown", size))

    require_success(good(alice.put_content(task["id"], data)), size)
    assert stack.cos.read(key_of("unknown", size)) == data


def send_and_cut(alice: Caller, task_id: str, data: bytes, offset: int, length: int) -> None:
    """Send *length* bytes of the rest from *offset* on, and vanish."""
    headers = (f"Content-Range: bytes {offset}-{len(data) - 1}/{len(data)}", f"Content-Length: {len(data) - offset}")
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{task_id}/content", *headers))
        connection.sendall(data[offset : offset + length])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_content_that_breaks_off_goes_on_at_the_very_byte(stack: Stack, alice: Caller, seed: int, known: bool) -> None:
    rng = random.Random(seed)
    size = rng.randrange(9 * MIB, 14 * MIB)
    data, key = body(f"resumed {seed}", size), f"whole/resumed-{seed}-{known}.bin"
    task_id = alice.create(key, size if known else None)["id"]
    offset = 0
    for _ in range(4):
        sent = rng.choice([1, 1000, rng.randrange(MIB), rng.randrange(4 * MIB)])
        send_and_cut(alice, task_id, data, offset, sent)
        before, offset = offset, _next_offset_once_all_is_held(alice, task_id, offset + sent)
        assert offset == before + sent
    answer = alice.put_content(task_id, data[offset:], **{"Content-Range": f"bytes {offset}-{size - 1}/{size}"})

    require_success(good(answer), size)
    assert stack.cos.read(key) == data


def _next_offset_once_all_is_held(alice: Caller, task_id: str, expected: int) -> int:
    """What arrived before a break is stored after it: a moment later, which only asking shows."""
    wait_until(lambda: alice.task(task_id)["next_offset"] >= expected, "the bytes that had arrived", 10)
    offset: int = alice.task(task_id)["next_offset"]
    return offset


def test_a_part_that_breaks_off_is_sent_again(stack: Stack, alice: Caller) -> None:
    data = body("broken part", 3 * MIB)
    task_id = alice.create("whole/broken-part.bin", len(data), part_size=MIB)["id"]
    first, second, third = parts_of(data, MIB)
    good(alice.put_part(task_id, 1, first))
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{task_id}/parts/2", f"Content-Length: {MIB}") + second[:-1])
    good(alice.put_part(task_id, 3, third))
    assert alice.control(task_id, "complete").json()["missing"] == [[2, 2]]
    good(alice.put_part(task_id, 2, second))

    require_success(good(alice.control(task_id, "complete")), len(data))
    assert stack.cos.read("whole/broken-part.bin") == data


def test_a_task_that_is_paused_and_restarted_midway(stack: Stack, alice: Caller) -> None:
    data = body("paused", 6 * MIB)
    task_id = alice.create("whole/paused.bin", len(data), part_size=MIB)["id"]
    pieces = parts_of(data, MIB)
    for number in (1, 4):
        good(alice.put_part(task_id, number, pieces[number - 1]))
    assert good(alice.control(task_id, "pause"))["state"] == "paused"
    assert alice.put_part(task_id, 2, pieces[1]).json()["code"] == "task_paused"
    restarted = good(alice.control(task_id, "restart"))
    assert (restarted["state"], restarted["stored_parts"], restarted["loaded"]) == ("waiting", 2, 2 * MIB)
    stored = good(alice.call("GET", f"/v1/tasks/{task_id}/parts"))["parts"]
    for number in {*range(1, 7)} - {part["number"] for part in stored}:
        good(alice.put_part(task_id, number, pieces[number - 1]))

    require_success(good(alice.control(task_id, "complete")), len(data))
    assert stack.cos.read("whole/paused.bin") == data


def test_content_that_is_paused_midway_goes_on_after_the_restart(stack: Stack, alice: Caller) -> None:
    data = body("paused content", 7 * MIB + 3)
    task_id = alice.create("whole/paused-content.bin", len(data))["id"]
    with alice.connect() as connection:
        headers = (f"Content-Length: {len(data)}",)
        connection.sendall(alice.head("PUT", f"/v1/tasks/{task_id}/content", *headers) + data[: 5 * MIB])
        _next_part(alice, task_id)
        good(alice.control(task_id, "pause"))
        assert read_answer(connection).json()["code"] == "task_paused"
    good(alice.control(task_id, "restart"))
    offset = alice.task(task_id)["next_offset"]
    assert offset >= 4 * MIB
    answer = alice.put_content(
        task_id, data[offset:], **{"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
    )

    require_success(good(answer), len(data))
    assert stack.cos.read("whole/paused-content.bin") == data


def _next_part(alice: Caller, task_id: str) -> None:
    wait_until(lambda: alice.task(task_id)["stored_parts"] >= 1, "the first part", 10)


KEYS = [
    "中文/文件 名.txt",
    "a b  c.txt",
    "a+b&c=d?e#f%20g%.txt",
    "it's (1)!*;:@,$.txt",
    "double//slash///x",
    "ends/with/slash/",
    "emoji-😀🏳️‍🌈.bin",
    'quote"and\\backslash.txt',
    "%2F%2e%2e",
    "-leading",
    "~tilde`caret^|pipe",
    "é combining ﬁ",
    "?uploads",
    "&acl",
    "x" * 850,
    "字" * 283,
]


@pytest.mark.parametrize("key", KEYS)
def test_an_odd_key_arrives_exactly(stack: Stack, alice: Caller, key: str) -> None:
    small, large = body(key, 1000), body(key + "2", 2 * MIB)
    task = alice.create(key, len(large))
    good(alice.put_content(task["id"], large))
    assert task["key"] == key
    assert stack.cos.read(key) == large

    good(alice.post_form(key, small), 201)
    assert stack.cos.read(key) == small

    good(alice.call("POST", f"/v1/files?key={quote(key, safe='')}", content=large), 201)
    assert stack.cos.read(key) == large
    assert {entry["key"] for entry in stack.cos.journal() if entry["received_bytes"] == 1000} >= {key}


def test_a_token_of_the_command_line_opens_the_door(stack: Stack) -> None:
    alice = stack.caller_with(token_of_the_cli(stack.gateway, "alice"))
    good(alice.post_form("whole/cli.txt", b"hello"), 201)

    assert [task["key"] for task in good(alice.call("GET", "/v1/tasks"))["tasks"]] == ["whole/cli.txt"]
    assert stack.cos.read("whole/cli.txt") == b"hello"


def test_nothing_of_a_cancelled_task_is_left_at_cos(stack: Stack, alice: Caller) -> None:
    data = body("cancelled", 3 * MIB)
    task = alice.create("whole/cancelled.bin", len(data), part_size=MIB)
    good(alice.put_part(task["id"], 2, parts_of(data, MIB)[1]))
    assert stack.cos.open_uploads("whole/cancelled.bin") == {task["upload_id"]}

    assert good(alice.control(task["id"], "cancel"))["state"] == "canceled"
    assert stack.cos.open_uploads("whole/cancelled.bin") == set()
    with pytest.raises(FileNotFoundError):
        stack.cos.read("whole/cancelled.bin")

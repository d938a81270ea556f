"""Two gateways before one Redis and one COS are one gateway, also when one of them is killed."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.system.processes import Gateway, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, parts_of, read_answer, require_problem

PAUSE_SECONDS = 1.0


@pytest.fixture
def callers(pair: Stack, request: pytest.FixtureRequest) -> tuple[Caller, Caller]:
    """One person at both gateways."""
    pair.cos.clear_faults()
    here = pair.caller(f"alice of {request.node.name}")
    return here, here.at(pair.gateways[1])


@pytest.mark.promise(10, 12)
def test_b28_b32_parts_through_three_in_any_order_and_completes_at_once_make_one_file(
    pair: Stack, callers: tuple[Caller, Caller]
) -> None:
    data, chance = body("three", 30 * MIB + 7), random.Random(28)
    three = (*callers, callers[0].at(pair.start_gateway()))
    task_id = three[0].create("pair/three.bin", len(data), part_size=MIB)["id"]
    numbered = [(chance.choice(three), number, part) for number, part in enumerate(parts_of(data, MIB), 1)]
    chance.shuffle(numbered)
    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(lambda sent: sent[0].put_part(task_id, *sent[1:]), numbered):
            good(answer)
    with ThreadPoolExecutor(6) as pool:
        ended = [*pool.map(lambda n: good(three[n % 3].control(task_id, "complete")), range(6))]

    assert [task["state"] for task in ended] == ["success"] * 6
    assert len({json.dumps(task["result"]) for task in ended}) == 1
    assert pair.cos.read("pair/three.bin") == data
    assert len(pair.cos.journal("CompleteMultipartUpload", key="pair/three.bin")) == 1


@pytest.mark.promise(10)
def test_b25_a_part_with_other_bytes_through_each_at_once_is_stored_once_and_whole(
    pair: Stack, callers: tuple[Caller, Caller]
) -> None:
    for seed in range(10):
        key = f"pair/same-{seed}.bin"
        task_id = callers[0].create(key, MIB, slice_size=MIB, part_size=MIB)["id"]
        rivals = [body(f"{seed} {n}", MIB) for n in range(2)]
        together = threading.Barrier(2)

        def put(n: int, task_id: str = task_id, rivals: list[bytes] = rivals, barrier: Any = together) -> Any:
            barrier.wait()
            return callers[n].put_part(task_id, 1, rivals[n])

        with ThreadPoolExecutor(2) as pool:
            answers = [*pool.map(put, range(2))]
        require_one_whole(pair, callers[1], task_id, dict(zip(rivals, answers, strict=True)))


@pytest.mark.promise(10)
def test_b25_of_a_body_that_begins_and_ends_while_another_comes_both_are_told_the_truth(
    pair: Stack, callers: tuple[Caller, Caller]
) -> None:
    here, there = callers
    for seed, held_back in enumerate((1, MIB // 2, MIB - 1)):
        task_id = here.create(f"pair/nested-{seed}.bin", MIB, slice_size=MIB, part_size=MIB)["id"]
        outer, inner = (body(f"{seed} {name}", MIB) for name in ("outer", "inner"))
        with here.connect() as connection:
            head = here.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {MIB}")
            connection.sendall(head + outer[:-held_back])
            wait_until(lambda: here.gateway.metrics()["gateway_bodies_in_flight"] == 1, "the body", 5)
            answers = {inner: there.put_part(task_id, 1, inner)}
            connection.sendall(outer[-held_back:])
            answers[outer] = read_answer(connection)
        require_one_whole(pair, there, task_id, answers)


def require_one_whole(stack: Stack, caller: Caller, task_id: str, answers: dict[bytes, httpx.Response]) -> None:
    """Of two bodies for part 1, by their *answers*, the one recorded was acknowledged, and becomes the object."""
    codes = [answer.json().get("code") for answer in answers.values()]
    assert set(codes) <= {None, "part_in_progress"}
    [stored] = good(caller.call("GET", f"/v1/tasks/{task_id}/parts"))["parts"]
    [winner] = [data for data, answer in answers.items() if answer.json().get("etag") == stored["etag"]]
    good(caller.control(task_id, "complete"))
    assert stack.cos.read(caller.task(task_id)["key"]) == winner


@pytest.mark.promise(18)
def test_b36_a_part_that_races_with_a_pause_is_stored_or_refused_and_none_comes_afterwards(
    callers: tuple[Caller, Caller],
) -> None:
    here, there = callers
    chance = random.Random(36)
    for number in range(20):
        task_id = here.create(f"pair/race-{number}.bin", 2 * MIB, part_size=MIB)["id"]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(there.put_part, task_id, 1, body(number, MIB))
            time.sleep(chance.uniform(0, 0.02))
            assert good(here.control(task_id, "pause"))["state"] == "paused"
            answer = coming.result()
        late = there.put_part(task_id, 2, bytes(MIB))

        require_problem(late, 409, "task_paused")
        if not answer.is_success:
            require_problem(answer, 409, "task_paused")
        assert here.task(task_id)["stored_parts"] == answer.is_success
        assert good(here.control(task_id, "restart"))["stored_parts"] == answer.is_success


@pytest.mark.promise(16, 18)
@pytest.mark.parametrize("way", ["parts/1", "content"])
@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_b36_a_pause_through_one_ends_a_slow_body_through_the_other_within_a_second(
    pair: Stack, callers: tuple[Caller, Caller], way: str, verb: str
) -> None:
    here, there = callers
    task_id = here.create(f"pair/slow-{verb}-{way[:5]}.bin", 8 * MIB, part_size=8 * MIB)["id"]
    with there.connect() as connection:
        connection.sendall(there.head("PUT", f"/v1/tasks/{task_id}/{way}", f"Content-Length: {8 * MIB}"))
        connection.sendall(body("slow", MIB))
        wait_until(lambda: there.gateway.metrics()["gateway_bodies_in_flight"] >= 1, "the body", 5)
        began = time.monotonic()
        good(here.control(task_id, verb))
        answer = read_answer(connection)
        seconds = time.monotonic() - began

    assert answer.json()["code"] == {"pause": "task_paused", "cancel": "task_canceled"}[verb]
    assert seconds < PAUSE_SECONDS


def test_a_newer_body_through_one_cuts_the_older_through_the_other(pair: Stack, callers: tuple[Caller, Caller]) -> None:
    here, there = callers
    data = body("newest", 6 * MIB)
    task_id = here.create("pair/newest.bin", len(data))["id"]
    with there.connect() as connection:
        connection.sendall(there.head("PUT", f"/v1/tasks/{task_id}/content", f"Content-Length: {len(data)}"))
        connection.sendall(data[: 5 * MIB])
        wait_until(lambda: here.task(task_id)["stored_parts"] >= 1, "the first part", 10)
        offset = here.task(task_id)["next_offset"]
        span = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
        assert good(here.put_content(task_id, data[offset:], **span))["state"] == "success"
        assert read_answer(connection).json()["code"] in ("body_superseded", "task_succeeded", "task_completing")

    assert pair.cos.read("pair/newest.bin") == data


def watch(gateway: Gateway, caller: Caller, path: str = "/v1/progress") -> ClientConnection:
    url = f"ws://127.0.0.1:{gateway.port}{path}"
    return connect(url, subprotocols=["gateway.v1", f"bearer.{caller.bearer}"], proxy=None)  # type: ignore[list-item]


def test_a_websocket_on_one_sees_bytes_that_flow_through_the_other(pair: Stack, callers: tuple[Caller, Caller]) -> None:
    here, there = callers
    task_id = here.create("pair/watched.bin", 3 * MIB, part_size=MIB)["id"]
    with watch(here.gateway, here) as every, watch(here.gateway, here, f"/v1/tasks/{task_id}/progress") as one:
        assert every.subprotocol == "gateway.v1"
        first = json.loads(every.recv(20))
        assert (first["type"], [task["id"] for task in first["tasks"]]) == ("snapshot", [task_id])
        for number in (1, 2, 3):
            good(there.put_part(task_id, number, bytes(MIB)))
        good(there.control(task_id, "complete"))

        for socket in (every, one):
            seen = [message["task"] for message in _until_final(socket) if message["type"] == "task"]
            assert [task["loaded"] for task in seen] == sorted(task["loaded"] for task in seen)
            versions = [task["version"] for task in seen]
            assert versions == sorted(set(versions))
            assert (seen[-1]["state"], seen[-1]["loaded"]) == ("success", 3 * MIB)


def _until_final(socket: ClientConnection) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1].get("task", {}).get("state") != "success":
        messages.append(json.loads(socket.recv(20)))
    return messages


def test_another_s_progress_is_refused_before_the_websocket_opens(pair: Stack, callers: tuple[Caller, Caller]) -> None:
    task_id = callers[0].create("pair/private.bin", 5)["id"]
    mallory = pair.caller("mallory")
    for caller, path, status in (
        (mallory, f"/v1/tasks/{task_id}/progress", 404),
        (mallory, "/v1/tasks/none/progress", 404),
        (pair.caller_with("x.y.z"), "/v1/progress", 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            watch(pair.gateways[1], caller, path).close()
        assert refused.value.response.status_code == status


def arrived(stack: Stack, key: str) -> int | None:
    """How much of part 2 has come to COS; None: it has not begun."""
    begun = stack.cos.journal("UploadPart", key=key, part_number=2)
    return begun[0]["received_bytes"] if begun else None


@pytest.mark.promise(1)
@pytest.mark.parametrize("sent", [0, 1, 65_536, MIB // 2, MIB - 1])
def test_b02_a_gateway_killed_mid_part_loses_nothing_that_was_acknowledged(
    pair: Stack, callers: tuple[Caller, Caller], sent: int
) -> None:
    here, _ = callers
    key = f"pair/killed-{sent}.bin"
    data = body(key, 4 * MIB)
    pieces = parts_of(data, MIB)
    doomed = here.at(pair.start_gateway())
    task_id = doomed.create(key, len(data), part_size=MIB)["id"]
    receipts = [good(doomed.put_part(task_id, number, pieces[number - 1])) for number in (1, 3)]
    with doomed.connect() as connection:
        head = doomed.head("PUT", f"/v1/tasks/{task_id}/parts/2", f"Content-Length: {MIB}")
        connection.sendall(head + pieces[1][:sent])
        wait_until(lambda: arrived(pair, key) == (sent if sent else None), "the bytes at COS", 5)
        doomed.gateway.program.kill()
    pair.gateways.remove(doomed.gateway)
    wait_until(lambda: all(entry["ended"] for entry in pair.cos.journal(key=key)), "the end at COS", 5)
    assert [entry["status"] for entry in pair.cos.journal("UploadPart", key=key, part_number=2)] in ([], [None])

    assert good(here.call("GET", f"/v1/tasks/{task_id}/parts"))["parts"] == receipts
    for number in (2, 4):
        good(here.put_part(task_id, number, pieces[number - 1]))
    assert good(here.control(task_id, "complete"))["result"]["crc64_verified"]
    assert pair.cos.read(key) == data


@pytest.mark.promise(1)
def test_b02_a_gateway_killed_mid_content_is_finished_from_the_last_stored_byte(
    pair: Stack, callers: tuple[Caller, Caller]
) -> None:
    here, _ = callers
    data = body("killed content", 14 * MIB + 3)
    doomed = here.at(pair.start_gateway())
    task_id = doomed.create("pair/killed-content.bin", len(data))["id"]
    with doomed.connect() as connection:
        head = doomed.head("PUT", f"/v1/tasks/{task_id}/content", f"Content-Length: {len(data)}")
        connection.sendall(head + data[: 9 * MIB])
        wait_until(lambda: here.task(task_id)["stored_parts"] >= 2, "two parts", 10)
        doomed.gateway.program.kill()
    pair.gateways.remove(doomed.gateway)

    offset = here.task(task_id)["next_offset"]
    assert offset == 8 * MIB
    span = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
    assert good(here.put_content(task_id, data[offset:], **span))["state"] == "success"
    assert pair.cos.read("pair/killed-content.bin") == data

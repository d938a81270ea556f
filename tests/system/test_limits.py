"""What one caller may ask for, and what the others notice of it: the limits of promises C2 and C4, P21 and P30."""

import itertools
import socket
import time
from contextlib import suppress
from typing import Any, Final

import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.system.processes import HTTP, Gateway, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, require_problem, token

LEEWAY_SECONDS: Final = 30
"""How long a token is taken after its end."""
DRIP: Final = bytes(1000)


@pytest.fixture(scope="module")
def strict(stack: Stack) -> Gateway:
    """A gateway whose limits are easy to reach."""
    return stack.start_gateway(
        bad_tokens_per_minute_count="20",
        bodies_per_subject_count="2",
        bodies_count="3",
        creates_per_subject_rate="1",
        requests_per_subject_rate="20",
        tasks_per_subject_count="11",
        token_recheck_seconds="0.1",
        unknown_ids_per_minute_count="60",
    )


@pytest.fixture
def alice(stack: Stack, strict: Gateway, request: pytest.FixtureRequest) -> Caller:
    """Somebody the strict gateway has not heard of."""
    return stack.caller(f"alice of {request.node.name}", strict)


def cost(gateway: Gateway, send: Any, count: int = 150) -> float:
    """CPU seconds of the gateway for one request."""
    before = gateway.program.cpu_seconds
    for _ in range(count):
        send()
    return (gateway.program.cpu_seconds - before) / count


def open_body(caller: Caller, task_id: str, number: int) -> socket.socket:
    """A part's body of which half has come, and no more for now."""
    connection = caller.connect()
    connection.sendall(caller.head("PUT", f"/v1/tasks/{task_id}/parts/{number}", f"Content-Length: {MIB}"))
    connection.sendall(bytes(MIB // 2))
    return connection


@pytest.fixture
def task_id(alice: Caller) -> str:
    found: str = alice.create("limits/file.bin", 5 * MIB, part_size=MIB)["id"]
    return found


@pytest.mark.promise(21, 29)
def test_c78_a_subject_s_third_body_is_told_to_come_back_while_two_are_under_way(
    stack: Stack, strict: Gateway, alice: Caller, task_id: str
) -> None:
    bob = stack.caller("bob of limits", strict)
    bobs = bob.create("limits/bob.bin", MIB)["id"]
    bodies_before = bodies_in_flight(strict)
    under_way = [open_body(alice, task_id, number) for number in (1, 2)]
    wait_until(lambda: bodies_in_flight(strict) == bodies_before + 2, "two bodies in flight", 10)

    refused = alice.put_part(task_id, 3, bytes(MIB))
    bobs_first = open_body(bob, bobs, 1)
    wait_until(lambda: bodies_in_flight(strict) == bodies_before + 3, "three bodies in flight", 10)
    full = stack.caller("carol of limits", strict).call("POST", "/v1/files?key=limits/carol", content=b"x")

    assert require_problem(refused, 429, "too_many_uploads")["retryable"]
    assert require_problem(full, 503, "overloaded")["retryable"]
    assert refused.headers["retry-after"] == full.headers["retry-after"] == "1"
    for connection in (*under_way, bobs_first):
        connection.sendall(bytes(MIB // 2))
        good(read_answer(connection))
        connection.close()
    good(alice.put_part(task_id, 3, bytes(MIB)))


def bodies_in_flight(gateway: Gateway) -> float:
    return gateway.metrics().get("gateway_bodies_in_flight", 0)


@pytest.mark.promise(21)
def test_c92_creates_over_the_limit_open_nothing_at_cos(stack: Stack, alice: Caller) -> None:
    before = len(stack.cos.journal("InitiateMultipartUpload"))
    answers = [alice.call("POST", "/v1/tasks", json={"key": "limits/flood", "size": 5 * MIB}) for _ in range(14)]

    refused = [answer for answer in answers if answer.status_code != 201]
    assert 2 <= len(refused) <= 4
    for answer in refused:
        require_problem(answer, 429, "rate_limited")
        assert int(answer.headers["retry-after"]) == 1
    assert len(stack.cos.journal("InitiateMultipartUpload")) - before == len(answers) - len(refused)


@pytest.mark.promise(21)
def test_c78_a_subject_with_as_many_unfinished_tasks_as_it_may_have_ends_one_first(
    stack: Stack, strict: Gateway, alice: Caller
) -> None:
    wanted = [{"key": f"limits/quota-{number}", "size": 1} for number in range(13)]
    files = good(alice.call("POST", "/v1/batches", json={"files": wanted}), 201)["files"]

    refused = alice.call("POST", "/v1/files?key=limits/one-more", content=bytes(MIB))
    small = alice.call("POST", "/v1/files?key=limits/small", content=b"gone at once")

    created = [file["task"]["id"] for file in files if file["task"]]
    assert [file["error"]["code"] for file in files if not file["task"]] == ["quota_exceeded"] * 2
    assert not require_problem(refused, 403, "quota_exceeded")["retryable"]
    good(small, 201)
    with pytest.raises(FileNotFoundError):
        stack.cos.read("limits/one-more")
    good(alice.control(created[0], "cancel"))
    wait_until(lambda: alice.call("POST", "/v1/files?key=limits/one-more", content=bytes(MIB)).is_success, "room", 5)


def test_c92_a_batch_counts_by_its_files(alice: Caller) -> None:
    files = [{"key": f"limits/batch-{number}", "size": 1} for number in range(12)]
    good(alice.call("POST", "/v1/batches", json={"files": files}), 201)

    refused = alice.call("POST", "/v1/tasks", json={"key": "limits/one-more", "size": 1})
    require_problem(refused, 429, "rate_limited")


@pytest.mark.promise(25)
def test_c50_who_guesses_task_ids_is_soon_refused_but_finds_their_own(stack: Stack, strict: Gateway) -> None:
    mallory = stack.caller("mallory of c50", strict)
    own = mallory.create("limits/mallory", 1)["id"]
    codes = []
    for number in range(70):
        answer = mallory.call("GET", f"/v1/tasks/{number:022}")
        codes.append(answer.json()["code"])

    assert set(codes[:60]) == {"task_not_found"}
    assert "rate_limited" in codes[60:]
    assert mallory.task(own)["id"] == own
    good(stack.caller("bob of c50", strict).call("GET", "/v1/tasks"))


@pytest.mark.promise(21)
def test_c55_a_flood_of_bad_tokens_is_refused_for_no_more_than_a_probe_costs(stack: Stack) -> None:
    """Whatever door they knock at, and whoever they say that they come from."""
    gateway = stack.start_gateway(bad_tokens_per_minute_count="20", log_level="info")
    known, unheard = stack.caller("alice of c55", gateway), stack.caller("bob of c55", gateway)
    good(known.call("GET", "/v1/tasks"))
    doors = itertools.cycle([("GET", "/v1/tasks"), ("PUT", f"/v1/tasks/{'A' * 22}/parts/1"), ("POST", "/v1/files")])
    addresses = (f"10.0.{number >> 8}.{number & 255}" for number in itertools.count())
    with httpx.Client(base_url=gateway.url, **HTTP) as client:

        def guess() -> httpx.Response:
            headers = {"Authorization": f"Bearer {token('mallory')[:-3]}AAA", "X-Forwarded-For": next(addresses)}
            return client.request(*next(doors), headers=headers)

        for _ in range(20):
            require_problem(guess(), 401, "token_invalid")
        refused = [guess() for _ in range(3)]
        require_problem(unheard.call("GET", "/v1/tasks"), 429, "rate_limited")  # before the bucket fills again
        spent = min(cost(gateway, guess, 400) / cost(gateway, lambda: client.get("/livez"), 400) for _ in range(2))

    for answer in refused:
        assert require_problem(answer, 429, "rate_limited")["retryable"]
        assert int(answer.headers["retry-after"]) in (2, 3)
    good(known.call("GET", "/v1/tasks"))
    assert spent < 1.8
    told = [line for line in gateway.log_lines() if line.get("status") == 429]
    assert told == [], "a flood fills no log"


def subject_of(caller: Caller) -> str:
    found: str = jwt.decode(caller.bearer, options={"verify_signature": False})["sub"]
    return found


def drip_until_answered(connection: socket.socket, data: bytes) -> httpx.Response:
    """Send *data* byte by byte until the gateway has had enough, and close."""
    with connection:
        connection.settimeout(0.05)
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            try:
                connection.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                continue
            connection.settimeout(10)
            return read_answer(connection)
    raise AssertionError("the gateway took it all")


@pytest.mark.promise(20)
def test_c48_a_long_body_ends_when_its_token_does(stack: Stack, strict: Gateway, alice: Caller, task_id: str) -> None:
    subject = subject_of(alice)
    fleeting = stack.caller_with(token(subject, seconds=2 - LEEWAY_SECONDS), strict)

    document = require_problem(drip_until_answered(open_body(fleeting, task_id, 1), DRIP), 401, "token_expired")

    assert "detail" not in document
    assert alice.task(task_id)["stored_parts"] == 0
    good(alice.put_part(task_id, 1, bytes(MIB)))


def test_c48_a_file_whose_token_ends_goes_on_with_another(stack: Stack, strict: Gateway, alice: Caller) -> None:
    data = body("c48", 3 * MIB)
    task = alice.create("limits/c48.bin", len(data), part_size=MIB)
    fleeting = stack.caller_with(token(subject_of(alice), seconds=2 - LEEWAY_SECONDS), strict)
    connection = fleeting.connect()
    connection.sendall(fleeting.head("PUT", f"/v1/tasks/{task['id']}/content", f"Content-Length: {len(data)}"))
    connection.sendall(data[: MIB + 1000])
    require_problem(drip_until_answered(connection, data[MIB + 1000 :]), 401, "token_expired")

    now = alice.task(task["id"])
    assert (now["state"], now["next_offset"] > MIB) == ("uploading", True)
    offset = now["next_offset"]
    span = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
    assert good(alice.put_content(task["id"], data[offset:], **span))["state"] == "success"
    assert stack.cos.read("limits/c48.bin") == data


@pytest.mark.promise(20)
def test_c48_whoever_is_revoked_is_out_bodies_and_sockets_included_until_they_sign_in_anew(
    stack: Stack, strict: Gateway
) -> None:
    subject = "leaver"
    leaver = stack.caller_with(token(subject, iat=int(time.time()) - 60), strict)
    task_id = leaver.create("limits/leaver.bin", 2 * MIB, part_size=MIB)["id"]
    address, offered = strict.url.replace("http", "ws") + "/v1/progress", f"bearer.{leaver.bearer}"
    with connect(address, subprotocols=[Subprotocol(offered)]) as watching:
        sending = open_body(leaver, task_id, 1)
        assert stack.redis.command("ZADD", "gw:revoked", str(int(time.time()) - 30), subject) == b":1"

        require_problem(drip_until_answered(sending, DRIP), 401, "token_invalid")
        require_problem(leaver.call("GET", "/v1/tasks"), 401, "token_invalid")
        anew = stack.caller_with(token(subject, iat=int(time.time())), strict)
        good(anew.put_part(task_id, 1, bytes(MIB)))
        with suppress(ConnectionClosed):
            for _ in watching:
                pass
        assert watching.close_code == 4401


def test_a_subject_at_its_rate_is_refused_at_once_and_told_when_to_come_back(alice: Caller) -> None:
    answers = [alice.call("GET", "/v1/tasks") for _ in range(500)]

    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    require_problem(refused[0], 429, "rate_limited")
    assert refused[0].headers["retry-after"] == "1"

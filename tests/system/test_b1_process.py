"""Rows 1-9 of the fault matrix: a gateway dies, or freezes, at one exact point; another one ends the upload well."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from tests.fakes.cos_caller import etag_of
from tests.system.auditor import Auditor, Watched
from tests.system.processes import Gateway, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, require_problem, running_stack, token
from tests.system.steady_client import SteadyClient

PART = MIB
INTENT_SECONDS = "2"
FROZEN_SECONDS = 10.0
"""Twice as long as a completion may say nothing."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, a local COS and two gateways that live on."""
    with running_stack(tmp_path_factory.mktemp("b1"), gateways=2, intent_seconds=INTENT_SECONDS) as stack:
        yield stack


@pytest.fixture
def auditor(pair: Stack) -> Iterator[Auditor]:
    """Checks every invariant after the test."""
    pair.cos.clear_faults()
    auditor = Auditor(pair)
    yield auditor
    auditor.check()


@pytest.fixture
def alice(pair: Stack, auditor: Auditor, request: pytest.FixtureRequest) -> SteadyClient:
    """Somebody who goes to whichever gateway lives."""
    bearer = token(f"alice of {request.node.name}")
    callers = [pair.caller_with(bearer, gateway) for gateway in pair.gateways]
    return SteadyClient(lambda: callers, auditor)


class Doomed:
    """A gateway that kills itself at *point*, and somebody who asks it."""

    def __init__(self, stack: Stack, point: str, file: Watched) -> None:
        self._gateway = stack.start_gateway(crash_at=point, intent_seconds=INTENT_SECONDS)
        stack.gateways.remove(self._gateway)
        self.caller = file.caller.at(self._gateway)

    def dies_of(self, ask: Callable[[Caller], httpx.Response]) -> None:
        """*ask* it: no answer comes, and it is gone."""
        with pytest.raises(httpx.TransportError):
            pytest.fail(f"it answered {ask(self.caller).text}")
        assert self._gateway.program.wait() == -signal.SIGKILL


def uploads_of(stack: Stack, file: Watched) -> list[dict[str, Any]]:
    return stack.cos.journal("UploadPart", key=file.key)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("point", "at_cos", "counted"), [("part.start", 0, 0), ("part.cos_ok", 1, 0), ("part.committed", 1, 1)]
)
def test_b01_b03_b04_a_gateway_killed_around_a_part_loses_nothing(
    pair: Stack, auditor: Auditor, alice: SteadyClient, point: str, at_cos: int, counted: int
) -> None:
    data = body(point, 2 * PART + 9)
    file = alice.create(f"b1/{point}.bin", data, size=len(data), part_size=PART)
    alice.put_part(file, 2, data[PART : 2 * PART])
    path = f"/v1/tasks/{file.task['id']}/parts/1"
    Doomed(pair, point, file).dies_of(lambda doomed: doomed.call("PUT", path, content=data[:PART]))

    assert len(auditor.held(file.key, file.task["upload_id"]) or {}) == 1 + at_cos
    assert alice.look(file)["stored_parts"] == 1 + counted
    sent_before = len(uploads_of(pair, file))
    alice.put_part(file, 1, data[:PART])
    assert len(uploads_of(pair, file)) - sent_before == 1 - counted, "what is recorded is not sent again"
    assert alice.look(file)["loaded"] == 2 * PART, "nothing counts twice"
    assert alice.send_parts(file, [3])["result"]["crc64_verified"]


@pytest.mark.promise(14)
@pytest.mark.parametrize("point", ["create.written", "create.cos_ok"])
def test_b05_a_gateway_killed_while_it_creates_leaves_one_task_and_at_most_one_orphan(
    pair: Stack, auditor: Auditor, alice: SteadyClient, point: str
) -> None:
    data = body(point, 2 * PART)
    told = {"key": f"b1/{point}.bin", "size": len(data), "part_size": PART}
    headers = {"Idempotency-Key": point}
    first = alice.create("b1/other.bin", data, size=len(data))
    Doomed(pair, point, first).dies_of(lambda doomed: doomed.call("POST", "/v1/tasks", json=told, headers=headers))

    tasks = [alice.ask("POST", "/v1/tasks", json=told, headers=headers) for _ in range(3)]
    assert len({task["id"] for task in tasks}) == 1
    orphans = auditor.open_uploads(str(told["key"])) - {task["upload_id"] for task in tasks}
    assert len(orphans) == (1 if point == "create.cos_ok" else 0)
    file = auditor.watch(first.caller, data, tasks[-1])
    alice.send_parts(file)
    alice.move(first, "cancel")


def killed_at(point: str, pair: Stack, alice: SteadyClient) -> dict[str, Any]:
    """A gateway completes a file and ends at *point*; what another answers then."""
    file = whole(alice, f"b1/{point}.bin")
    path = f"/v1/tasks/{file.task['id']}/complete"
    Doomed(pair, point, file).dies_of(lambda doomed: doomed.call("POST", path))
    return alice.move(file, "complete")


def killed_while_cos_merges(pair: Stack, alice: SteadyClient) -> dict[str, Any]:
    """Nobody asks for the completion again: it is enough that somebody looks."""
    file = whole(alice, "b1/merging.bin")
    pair.cos.fault("delay", operation="CompleteMultipartUpload", key=file.key, seconds=30)
    doomed = pair.start_gateway()
    pair.gateways.remove(doomed)
    caller = file.caller.at(doomed)
    with caller.connect() as connection:
        connection.sendall(caller.head("POST", f"/v1/tasks/{file.task['id']}/complete", "Content-Length: 0"))
        wait_until(lambda: bool(pair.cos.journal("CompleteMultipartUpload", key=file.key)), "the merge", 10)
        doomed.program.kill()
    pair.cos.clear_faults()
    wait_until(lambda: alice.look(file)["state"] == "success", "success", 20)
    return alice.look(file)


def killed_after_a_put(pair: Stack, alice: SteadyClient) -> dict[str, Any]:
    """A small file goes in one PUT: it is sent again."""
    data = body("put", 1000)
    file = alice.create("b1/put.bin", data, size=len(data))
    path = f"/v1/tasks/{file.task['id']}/content"
    Doomed(pair, "put.cos_ok", file).dies_of(lambda doomed: doomed.call("PUT", path, content=data))
    return alice.ask("PUT", path, content=data)


def frozen_while_it_completes(pair: Stack, alice: SteadyClient) -> dict[str, Any]:
    """For twice as long as others take it for alive: what it says when it thaws is what they had found."""
    file = whole(alice, "b1/frozen.bin")
    pair.cos.fault("padded", operation="CompleteMultipartUpload", key=file.key, seconds=1)
    frozen = pair.start_gateway()
    pair.gateways.remove(frozen)
    caller, path = file.caller.at(frozen), f"/v1/tasks/{file.task['id']}/complete"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(caller.call, "POST", path)
        wait_until(lambda: bool(pair.cos.journal("CompleteMultipartUpload", key=file.key)), "the merge", 10)
        frozen.program.signal(signal.SIGSTOP)
        thaws_at = time.monotonic() + FROZEN_SECONDS
        task = alice.move(file, "complete")
        time.sleep(max(0.0, thaws_at - time.monotonic()))
        frozen.program.signal(signal.SIGCONT)
        assert good(asked.result())["result"] == task["result"]
    frozen.close()
    return alice.look(file)


def whole(alice: SteadyClient, key: str) -> Watched:
    """A file whose parts are all stored."""
    data = body(key, 2 * PART + 5)
    file = alice.create(key, data, size=len(data), part_size=PART)
    for number in (1, 2, 3):
        alice.put_part(file, number, data[(number - 1) * PART : number * PART])
    return file


@pytest.mark.promise(1, 5, 12, 13)
def test_b06_b07_b09_a_gateway_killed_or_frozen_while_it_completes_is_succeeded_by_another(
    pair: Stack, alice: SteadyClient
) -> None:
    """Before COS hears of it, while COS merges, after COS has answered, and after Redis has heard."""
    ways: list[Callable[[Stack, SteadyClient], dict[str, Any]]] = [killed_while_cos_merges, killed_after_a_put]
    ways += [partial(killed_at, point) for point in ("complete.begun", "complete.cos_ok", "complete.committed")]
    ways.append(frozen_while_it_completes)
    with ThreadPoolExecutor(6) as pool:
        ended = [pool.submit(way, pair, alice) for way in ways]
        for one in ended:
            task = one.result()
            assert (task["state"], task["result"]["crc64_verified"]) == ("success", True)


@pytest.mark.promise(16)
def test_b08_a_gateway_killed_while_it_aborts_has_canceled_all_the_same(
    pair: Stack, auditor: Auditor, alice: SteadyClient
) -> None:
    """The abort is finished by a repeated cancel, or without anybody's doing by a gateway that lives."""

    def cancel(point: str, *, again: bool) -> None:
        data = body(point, 2 * PART)
        file = alice.create(f"b1/{point}-{again}.bin", data, size=len(data), part_size=PART)
        alice.put_part(file, 1, data[:PART])
        path = f"/v1/tasks/{file.task['id']}/cancel"
        Doomed(pair, point, file).dies_of(lambda doomed: doomed.call("POST", path))

        assert alice.look(file)["state"] == "canceled"
        assert file.caller.control(file.task["id"], "complete").json()["code"] == "task_canceled"
        if again:
            assert alice.move(file, "cancel")["state"] == "canceled"
        upload_id = file.task["upload_id"]
        wait_until(lambda: auditor.held(file.key, upload_id) is None, "the end of the upload", 0.1 if again else 15)

    with ThreadPoolExecutor(3) as pool:
        for one in [
            pool.submit(cancel, "abort.begun", again=True),
            pool.submit(cancel, "abort.begun", again=False),
            pool.submit(cancel, "abort.sent", again=False),
        ]:
            one.result()


def frozen_body(gateway: Gateway, caller: Caller, file: Watched, place: str, data: bytes) -> socket.socket:
    """A connection on which half of the first part of *data* has come for *place* when *gateway* freezes.

    The rest of that part waits for it.
    """
    connection = caller.connect()
    connection.sendall(caller.head("PUT", f"/v1/tasks/{file.task['id']}/{place}", f"Content-Length: {len(data)}"))
    connection.sendall(data[: PART // 2])
    wait_until(lambda: gateway.metrics()["gateway_bodies_in_flight"] >= 1, "the body", 5)
    gateway.program.signal(signal.SIGSTOP)
    connection.sendall(data[PART // 2 : PART + 1])
    return connection


@pytest.mark.promise(5)
def test_b09_bytes_that_a_dying_gateway_left_in_place_of_others_are_found_at_complete_and_asked_for_again(
    pair: Stack, auditor: Auditor, alice: SteadyClient
) -> None:
    """COS holds another part 1 than the one that was acknowledged: the list of ETags is the fence."""
    file = whole(alice, "b1/fence.bin")
    path, other = f"/v1/tasks/{file.task['id']}/parts/1", body("other", PART)
    Doomed(pair, "part.cos_ok", file).dies_of(lambda doomed: doomed.call("PUT", path, content=other))
    etag = (auditor.held(file.key, file.task["upload_id"]) or {})[1][1]
    assert etag == etag_of(other)

    document = require_problem(file.caller.control(file.task["id"], "complete"), 409, "parts_missing")
    assert document["missing"] == [[1, 1]]
    assert alice.send_parts(file, [1])["result"]["crc64_verified"]


@pytest.mark.promise(5)
@pytest.mark.parametrize("completed", [True, False])
def test_b09_a_gateway_that_froze_mid_part_changes_nothing_when_it_thaws(
    pair: Stack, auditor: Auditor, alice: SteadyClient, *, completed: bool
) -> None:
    """Its bytes are others than those that another gateway stored meanwhile."""
    data = body("frozen", 2 * PART)
    file = alice.create(f"b1/frozen-{completed}.bin", data, size=len(data), part_size=PART)
    zombie = pair.start_gateway()
    try:
        with frozen_body(zombie, file.caller.at(zombie), file, "parts/1", body("other", PART)) as connection:
            alice.put_part(file, 1, data[:PART])
            alice.put_part(file, 2, data[PART:])
            if completed:
                assert alice.move(file, "complete")["state"] == "success"
            zombie.program.signal(signal.SIGCONT)
            answer = read_answer(connection)
    finally:
        zombie.program.signal(signal.SIGCONT)

    if completed:
        assert answer.json()["code"] in ("task_succeeded", "upload_lost")
    elif answer.status_code == 200:  # it came last, as a whole: it replaces what was there
        auditor.acknowledged(file, answer.json())
        assert good(file.caller.call("GET", f"/v1/tasks/{file.task['id']}/parts"))["parts"][0] == answer.json()
    assert alice.send_parts(file)["state"] == "success"


@pytest.mark.promise(5)
def test_b09_a_gateway_that_froze_in_a_body_in_order_changes_nothing_when_it_thaws(
    pair: Stack, alice: SteadyClient
) -> None:
    """Another body took over through another gateway; what the frozen one still has for part 1 are other bytes."""
    data = body("frozen in order", 3 * PART)
    file = alice.create("b1/frozen-content.bin", data, size=len(data), part_size=PART)
    zombie = pair.start_gateway()
    path, half = f"/v1/tasks/{file.task['id']}/content", 3 * PART // 2
    span = {"Content-Range": f"bytes 0-{half - 1}/{len(data)}"}
    try:
        with frozen_body(zombie, file.caller.at(zombie), file, "content", body("others", len(data))) as connection:
            assert alice.ask("PUT", path, content=data[:half], headers=span)["next_offset"] == half
            zombie.program.signal(signal.SIGCONT)
            require_problem(read_answer(connection), 409, "body_superseded")
    finally:
        zombie.program.signal(signal.SIGCONT)

    assert alice.send_content(file)["result"]["crc64_verified"]

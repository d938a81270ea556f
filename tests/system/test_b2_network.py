"""Rows 19-38 of the fault matrix: clients and the network in front of two gateways, and between them and COS."""

import copy
import itertools
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
from fastcrc import crc64 as fastcrc64

from tests.fakes.cos_caller import etag_of
from tests.system.auditor import Auditor, Watched
from tests.system.fault_proxy import Fault, FaultProxy, Harm, Way, running_fault_proxy
from tests.system.processes import Gateway, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, require_problem, token, unread
from tests.system.steady_client import SteadyClient

BEHIND_THE_HEAD = 5000
"""An offset in a request that is in its body."""
RACES = 200
RACES_AT_A_TIME = 4


@pytest.fixture
def auditor(pair: Stack) -> Iterator[Auditor]:
    """Checks every invariant after the test."""
    pair.cos.clear_faults()
    auditor = Auditor(pair)
    yield auditor
    auditor.check()


@pytest.fixture
def callers(pair: Stack, request: pytest.FixtureRequest) -> list[Caller]:
    """One person at both gateways."""
    bearer = token(f"alice of {request.node.name}")
    return [pair.caller_with(bearer, gateway) for gateway in pair.gateways]


@pytest.fixture
def alice(callers: list[Caller], auditor: Auditor) -> SteadyClient:
    """The same person, who goes to either."""
    return SteadyClient(lambda: callers, auditor)


@pytest.fixture
def network(pair: Stack) -> Iterator[FaultProxy]:
    """What lies before the first gateway."""
    with running_fault_proxy(pair.gateway.port, seed=1) as proxy:
        yield proxy


def behind(network: FaultProxy, gateway: Gateway) -> Gateway:
    """*gateway* as one sees it through *network*."""
    seen = copy.copy(gateway)
    seen.port, seen.url = network.port, f"http://127.0.0.1:{network.port}"
    return seen


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What *acts* give that all begin at the same time."""
    together = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        together.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [*pool.map(run, acts)]


def after(seconds: float, act: Callable[..., Any], *arguments: Any) -> Any:
    """What *act* gives a moment later: the race is run at another place each time."""
    threading.Event().wait(seconds)
    return act(*arguments)


def digest(data: bytes) -> dict[str, str]:
    return {"x-cos-hash-crc64ecma": str(fastcrc64.xz(data))}


def two_parts(alice: SteadyClient, key: str) -> Watched:
    """A file of two parts, nothing of it sent."""
    data = body(key, 2 * MIB)
    return alice.create(key, data, size=len(data), part_size=MIB)


@pytest.mark.promise(6)
@pytest.mark.parametrize("reset", [False, True])
def test_b23_a_part_that_came_whole_is_stored_though_its_client_is_gone(
    pair: Stack, alice: SteadyClient, *, reset: bool
) -> None:
    file = two_parts(alice, f"b2/gone-{reset}.bin")
    pair.cos.fault("slow", operation="UploadPart", key=file.key, bytes_per_second=4 * MIB)
    with file.caller.connect() as connection:
        head = file.caller.head("PUT", f"/v1/tasks/{file.task['id']}/parts/1", f"Content-Length: {MIB}")
        connection.sendall(head + file.data[:MIB])
        wait_until(lambda: bool(pair.cos.journal("UploadPart", key=file.key)), "the part on its way", 5)
        wait_until(lambda: unread(connection) == 0, "the gateway to have it all", 5)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))

    wait_until(lambda: alice.look(file)["stored_parts"] == 1, "the part", 5)
    assert len(pair.cos.journal("UploadPart", key=file.key)) == 1
    alice.send_parts(file, [2])


@pytest.mark.promise(10)
def test_b24_the_same_part_with_the_same_bytes_through_both_at_once_has_one_receipt(
    callers: list[Caller], alice: SteadyClient
) -> None:
    for number in range(3):
        file = two_parts(alice, f"b2/twice-{number}.bin")
        part = file.data[:MIB]
        answers = at_once(*(partial(one.put_part, file.task["id"], 1, part) for one in callers))
        receipts = [answer.json() for answer in answers if answer.is_success]
        assert receipts
        assert all(receipt == receipts[0] for receipt in receipts)
        assert {answer.json()["code"] for answer in answers if not answer.is_success} <= {"part_in_progress"}
        assert alice.look(file)["loaded"] == MIB
        alice.send_parts(file)


@pytest.mark.promise(11)
def test_b27_a_part_is_not_replaced_where_its_sender_forbids_it(alice: SteadyClient) -> None:
    file = two_parts(alice, "b2/if-none-match.bin")
    alice.put_part(file, 1, file.data[:MIB])
    other = body("other", MIB)
    for condition in ({"If-None-Match": "*"}, {"If-Match": '"0123456789abcdef0123456789abcdef"'}):
        answer = file.caller.put_part(file.task["id"], 1, other, **condition)
        require_problem(answer, 412, "precondition_failed")

    alice.send_parts(file, [2])


@pytest.mark.promise(7)
@pytest.mark.parametrize("harm", [Harm.FLIP, Harm.DUPLICATE])
def test_b29_bytes_that_change_before_the_gateway_are_found_by_the_sender_s_digest(
    pair: Stack, alice: SteadyClient, network: FaultProxy, harm: Harm
) -> None:
    file = two_parts(alice, f"b2/{harm}.bin")
    network.add(Fault(harm, after_bytes=BEHIND_THE_HEAD, count=7))
    there = file.caller.at(behind(network, pair.gateway))
    part = file.data[:MIB]

    document = require_problem(there.put_part(file.task["id"], 1, part, **digest(part)), 400, "digest_mismatch")
    assert document["retryable"]
    assert alice.look(file)["stored_parts"] == 0
    assert network.broken_count == 1
    alice.send_parts(file)


@pytest.fixture(scope="module")
def towards_cos(pair: Stack) -> Iterator[tuple[FaultProxy, Gateway]]:
    """What lies between a third gateway and COS, and that gateway."""
    with running_fault_proxy(pair.cos.port, seed=2) as network:
        gateway = pair.start_gateway(cos_endpoint=f"http://127.0.0.1:{network.port}")
        pair.gateways.remove(gateway)
        yield network, gateway
        gateway.close()


@pytest.mark.promise(7, 10)
@pytest.mark.parametrize(
    ("harm", "after_bytes"), [(Harm.DUPLICATE, 5), *itertools.product((Harm.RST, Harm.FIN, Harm.STALL), (0, 150))]
)
def test_b30_an_answer_of_cos_that_the_network_harms_leaves_one_part_and_the_right_receipt(
    towards_cos: tuple[FaultProxy, Gateway], alice: SteadyClient, harm: Harm, after_bytes: int
) -> None:
    file = two_parts(alice, f"b2/from-cos-{harm}-{after_bytes}.bin")
    network, gateway = towards_cos
    network.break_all()
    network.add(Fault(harm, Way.DOWN, after_bytes, count=7, seconds=0.3))
    receipt = good(file.caller.at(gateway).put_part(file.task["id"], 1, file.data[:MIB]))

    assert (receipt["crc64"], receipt["etag"]) == (str(fastcrc64.xz(file.data[:MIB])), etag_of(file.data[:MIB]))
    assert alice.look(file)["stored_parts"] == 1
    alice.send_parts(file, [2])


@pytest.mark.promise(7)
@pytest.mark.parametrize("harm", [Harm.FLIP, Harm.DUPLICATE, Harm.RST, Harm.FIN, Harm.STALL])
def test_b30_bytes_that_change_on_the_way_to_cos_are_sent_again_from_memory(
    towards_cos: tuple[FaultProxy, Gateway], alice: SteadyClient, harm: Harm
) -> None:
    file = two_parts(alice, f"b2/to-cos-{harm}.bin")
    network, gateway = towards_cos
    broken = network.broken_count
    network.break_all()
    network.add(Fault(harm, after_bytes=BEHIND_THE_HEAD, count=7, seconds=0.3))
    receipt = good(file.caller.at(gateway).put_part(file.task["id"], 1, file.data[:MIB]))

    assert network.broken_count == broken + 1
    assert receipt["crc64"] == str(fastcrc64.xz(file.data[:MIB]))
    alice.send_parts(file, [2])


@pytest.mark.promise(12)
def test_b33_a_completion_with_parts_missing_tells_their_ranges_and_the_task_goes_on(alice: SteadyClient) -> None:
    data = body("ranges", 6 * MIB)
    file = alice.create("b2/ranges.bin", data, size=len(data), part_size=MIB)
    for number in (2, 5):
        alice.put_part(file, number, data[(number - 1) * MIB : number * MIB])

    document = require_problem(file.caller.control(file.task["id"], "complete"), 409, "parts_missing")
    assert document["missing"] == [[1, 1], [3, 4], [6, 6]]
    assert alice.send_parts(file, [1, 3, 4, 6])["state"] == "success"


@pytest.mark.promise(8, 10)
def test_b34_a_part_that_races_with_the_completion_is_in_the_file_or_refused(
    callers: list[Caller], auditor: Auditor, alice: SteadyClient
) -> None:
    here, there = callers

    def race(number: int) -> None:
        key = f"b2/late-{number}.bin"
        data = body(key, MIB + 1000)
        file = alice.create(key, data, size=len(data), part_size=MIB)
        alice.put_part(file, 1, data[:MIB])
        alice.put_part(file, 2, data[MIB:])
        other = body(f"late {number}", MIB)
        task_id = file.task["id"]
        late, _ = at_once(
            partial(there.put_part, task_id, 1, other),
            partial(here.control, task_id, "complete"),
        )
        if late.is_success:
            auditor.acknowledged(file, late.json())
            file.data = other + data[MIB:]
        else:
            assert late.json()["code"] in ("task_completing", "task_succeeded", "part_in_progress", "upload_lost")
        answer = here.control(file.task["id"], "complete")
        if not answer.is_success:  # the late bytes reached COS and were refused, so that part is to be sent again
            require_problem(answer, 409, "parts_missing")
            alice.send_parts(file, [1])

    with ThreadPoolExecutor(RACES_AT_A_TIME) as pool:  # most of a race is waiting for who finds it being completed
        assert len([*pool.map(race, range(RACES))]) == RACES


@pytest.mark.promise(16, 19)
def test_b35_of_cancel_and_complete_exactly_one_wins_and_both_are_told_so(
    callers: list[Caller], alice: SteadyClient
) -> None:
    here, there = callers
    chance, winners = random.Random(35), set()
    for number in range(RACES):
        key = f"b2/cancel-{number}.bin"
        file = alice.create(key, body(key, 1000), size=1000, part_size=MIB)
        alice.put_part(file, 1, file.data)
        task_id, pause = file.task["id"], chance.uniform(0, 0.02)
        complete, cancel = at_once(
            partial(here.control, task_id, "complete"), partial(after, pause, there.control, task_id, "cancel")
        )
        state = alice.look(file)["state"]
        if state == "success":
            assert (complete.status_code, cancel.status_code) == (200, 409), f"{complete.text} {cancel.text}"
        else:
            assert (state, cancel.status_code) == ("canceled", 200)
            require_problem(complete, 409, ["task_canceled"])
        winners.add(state)
    assert winners == {"success", "canceled"}


@pytest.mark.promise(14)
def test_b37_a_create_that_a_proxy_sends_twice_makes_one_upload(
    callers: list[Caller], auditor: Auditor, alice: SteadyClient
) -> None:
    data = body("replayed", 2 * MIB)
    told = {"key": "b2/replayed.bin", "size": len(data), "part_size": MIB}
    headers = {"Idempotency-Key": "the-same-request"}
    answers = at_once(*(partial(one.call, "POST", "/v1/tasks", json=told, headers=headers) for one in callers * 2))

    tasks = [good(answer, 200, 201) for answer in answers]
    assert len({task["id"] for task in tasks}) == 1
    assert len({task["upload_id"] for task in tasks} - {None}) == 1
    wait_until(lambda: len(auditor.open_uploads("b2/replayed.bin")) == 1, "one upload", 5)
    alice.send_parts(auditor.watch(callers[0], data, next(task for task in tasks if task["upload_id"])))


@pytest.mark.promise(1, 10)
@pytest.mark.parametrize("harm", [Harm.RST, Harm.FIN])
def test_b38_an_answer_that_the_network_swallows_is_given_again_without_asking_cos(
    pair: Stack, alice: SteadyClient, network: FaultProxy, harm: Harm
) -> None:
    file = two_parts(alice, f"b2/swallowed-{harm}.bin")
    network.add(Fault(harm, Way.DOWN))
    there = file.caller.at(behind(network, pair.gateway))
    with pytest.raises(httpx.TransportError):
        there.put_part(file.task["id"], 1, file.data[:MIB])

    assert alice.look(file)["stored_parts"] == 1
    alice.put_part(file, 1, file.data[:MIB])
    assert len(pair.cos.journal("UploadPart", key=file.key, part_number=1)) == 1
    network.add(Fault(harm, Way.DOWN))
    alice.put_part(file, 2, file.data[MIB:])
    with pytest.raises(httpx.TransportError):
        there.control(file.task["id"], "complete")
    assert json.dumps(alice.move(file, "complete")["result"]) == json.dumps(alice.look(file)["result"])

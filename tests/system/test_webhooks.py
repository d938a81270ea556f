"""Webhooks from outside: what becomes of a task is told, signed, whatever becomes of the process that knew it first."""

import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.system.processes import free_port, wait_until
from tests.system.receiver import HOOK_SECRET, Receiver, running_receiver
from tests.system.stack import MIB, Stack, body, good, running_stack


@pytest.fixture(scope="module")
def stack_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Receiver]]:
    """Two gateways that tell one receiver."""
    with running_receiver() as receiver:
        hooks = {"webhooks": f"files={receiver.url}", "webhook_secret": HOOK_SECRET}
        with running_stack(tmp_path_factory.mktemp("hooks"), gateways=2, **hooks) as stack:
            yield stack, receiver


def test_each_end_of_a_task_is_told_as_it_was(stack_of_two: tuple[Stack, Receiver]) -> None:
    stack, receiver = stack_of_two
    alice, data = stack.caller("alice"), body("ends", 2 * MIB)

    done = alice.create("hooks/done", len(data), part_size=MIB, client_ref="mine")
    good(alice.put_content(done["id"], data))
    canceled = alice.create("hooks/canceled", 2 * MIB)
    good(alice.control(canceled["id"], "cancel"))
    failed = alice.create("hooks/failed", 2 * MIB, part_size=MIB)
    stack.cos.fault("error", operation="UploadPart", key="hooks/failed", status=403, code="AccessDenied", times=None)
    assert alice.put_part(failed["id"], 1, data[:MIB]).status_code == 502

    events = {event["type"]: event for event in receiver.until(3)}
    assert set(events) == {"task.success", "task.canceled", "task.error"}
    shown = alice.task(done["id"])
    del shown["ticket"]
    assert events["task.success"]["task"] == shown
    assert shown["client_ref"] == "mine"
    assert events["task.error"]["task"]["error"]["code"] == "storage_denied"
    assert "ticket" not in events["task.canceled"]["task"]
    assert receiver.forged == []


def test_two_gateways_tell_each_small_file_once(stack_of_two: tuple[Stack, Receiver]) -> None:
    stack, receiver = stack_of_two
    callers = [stack.caller("bob", gateway) for gateway in stack.gateways]

    tasks = [
        good(callers[number % 2].post_form(f"hooks/small/{number}", body(number, 1000)), 201)["id"]
        for number in range(20)
    ]

    receiver.until(len(receiver.events) + sum(not receiver.of(task_id) for task_id in tasks))
    assert [receiver.of(task_id) for task_id in tasks] == [["task.success"]] * 20
    assert receiver.forged == []


def test_an_event_that_nobody_has_tried_to_tell_is_told_by_another_process(
    stack_of_two: tuple[Stack, Receiver],
) -> None:
    """`kill -9` in the moment in which the success is written down."""
    stack, receiver = stack_of_two
    hooks = {"webhooks": f"files={receiver.url}", "webhook_secret": HOOK_SECRET}
    doomed = stack.start_gateway(crash_at="complete.committed", **hooks)
    stack.gateways.remove(doomed)
    alice, data = stack.caller("alice of the doomed"), body("doomed", MIB)
    task_id = alice.create("hooks/doomed", len(data), part_size=MIB)["id"]
    good(alice.put_part(task_id, 1, data))
    with pytest.raises(httpx.TransportError):
        alice.at(doomed).control(task_id, "complete")
    assert doomed.program.wait() == -signal.SIGKILL
    assert receiver.of(task_id) == []

    wait_until(lambda: receiver.of(task_id) == ["task.success"], "the event", 20)

    assert receiver.forged == []
    assert alice.task(task_id)["state"] == "success"


def test_an_event_outlives_the_process_that_made_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`kill -9` between completion and delivery: the other process delivers."""
    with running_receiver() as receiver:
        hooks = {"webhooks": f"files={receiver.url}", "webhook_secret": HOOK_SECRET}
        with running_stack(tmp_path_factory.mktemp("killed"), gateways=1, **hooks) as stack:
            receiver.status = 503
            alice = stack.caller("alice")
            task = good(alice.post_form("hooks/killed", body("killed", 100_000)), 201)
            failed = 'gateway_webhook_events_total{outcome="failed"}'
            wait_until(lambda: stack.gateway.metrics().get(failed, 0) > 0, "a first try")
            stack.gateway.program.kill()
            assert receiver.events == []
            receiver.status = 204
            other = stack.start_gateway(**hooks)

            (event,) = receiver.until(1)

            assert (event["type"], event["task"]["id"]) == ("task.success", task["id"])
            assert set(receiver.tried) == {event["id"]}
            assert stack.caller("alice", other).task(task["id"])["state"] == "success"


def test_a_receiver_that_was_away_is_told_when_it_is_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    port = free_port()
    hooks = {"webhooks": f"files=http://127.0.0.1:{port}/hook", "webhook_secret": HOOK_SECRET}
    with running_stack(tmp_path_factory.mktemp("away"), gateways=1, **hooks) as stack:
        alice = stack.caller("alice")
        tasks = [good(alice.post_form(f"hooks/away/{n}", body(n, 1000)), 201)["id"] for n in range(3)]
        failed = 'gateway_webhook_events_total{outcome="failed"}'
        wait_until(lambda: stack.gateway.metrics().get(failed, 0) >= 3, "a first try of each")
        with running_receiver(port) as receiver:
            receiver.until(3)
            assert sorted(event["task"]["id"] for event in receiver.events) == sorted(tasks)
        assert HOOK_SECRET not in stack.gateway.program.log.read_text()

"""Row 44, and Redis as people run it, under a live gateway: Sentinels whose failover loses writes, and a cluster."""

import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from tests.system.auditor import Auditor
from tests.system.processes import wait_until
from tests.system.redis_topologies import SentinelSet, running_cluster, running_sentinels
from tests.system.stack import MIB, Stack, good, read_answer, running_stack
from tests.system.upload_under_fault import Upload

FAILOVER_SECONDS: Final = 15.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A local COS, and no gateway yet."""
    with running_stack(tmp_path_factory.mktemp("kinds"), gateways=0) as stack:
        yield stack


@pytest.fixture
def sentinels(tmp_path: object, stack: Stack) -> Iterator[SentinelSet]:
    with running_sentinels(stack.folder) as running:
        yield running


def _lose_what_follows(sentinels: SentinelSet) -> None:
    """From now on the replica hears nothing more of its master."""
    (replica,) = [server for server in sentinels.servers if server is not sentinels.master]
    replica.program.signal(signal.SIGSTOP)
    assert sentinels.master.say("CLIENT", "KILL", "TYPE", "replica") == 1


def _fail_over(sentinels: SentinelSet) -> None:
    old = sentinels.master
    (replica,) = [server for server in sentinels.servers if server is not old]
    old.program.kill()
    replica.program.signal(signal.SIGCONT)
    sentinels.wait_for_failover(old)


@pytest.mark.promise(3, 16)
def test_b44_a_failover_that_loses_writes_costs_repetitions_and_nothing_else(
    stack: Stack, sentinels: SentinelSet, audited: Auditor
) -> None:
    """A part is sent again at worst; what was canceled does not come back; no object is wrong."""
    gateway = stack.start_gateway(redis_url=sentinels.url)
    alice = stack.caller("alice of the failover", gateway)
    kept, doomed = (Upload(alice, stack, f"b3/{name}", parts=3) for name in ("kept", "canceled"))
    for upload in (kept, doomed):
        good(upload.put(1))
    ticket = {"Upload-Ticket": alice.task(doomed.id)["ticket"]}
    assert sentinels.master.say("WAIT", 1, 1000) == 1
    _lose_what_follows(sentinels)
    good(kept.put(2))
    good(alice.control(doomed.id, "cancel"))
    late = Upload(alice, stack, "b3/late", parts=2)
    late_ticket = {"Upload-Ticket": alice.task(late.id)["ticket"]}
    good(late.put(1))
    with alice.connect() as connection:
        connection.sendall(alice.head("PUT", f"/v1/tasks/{kept.id}/parts/3", f"Content-Length: {MIB}"))
        connection.sendall(kept.pieces[2][: MIB // 2])
        wait_until(lambda: gateway.metrics()["gateway_bodies_in_flight"] == 1, "the body", 5)
        _fail_over(sentinels)
        audited.redis_lost_everything()
        wait_until(lambda: alice.call("GET", f"/v1/tasks/{kept.id}").status_code == 200, "the master", FAILOVER_SECONDS)
        assert kept.stored in (1, 2)
        connection.sendall(kept.pieces[2][MIB // 2 :])
        assert good(read_answer(connection))["number"] == 3, "the body that flowed is stored under the new master"
    assert len(kept.attempts(3)) == 1
    kept.finish()
    again = alice.call("PUT", f"/v1/tasks/{doomed.id}/parts/2", content=doomed.pieces[1], headers=ticket)
    assert again.status_code in (404, 409, 410)
    assert not alice.control(doomed.id, "complete").is_success
    assert stack.cos.open_uploads(doomed.key) == set()
    now = good(alice.call("GET", f"/v1/tasks/{late.id}", headers=late_ticket))
    assert (now["stored_parts"], now["loaded"]) == (1, MIB)
    late.finish()


@pytest.mark.promise(3)
def test_a_cluster_carries_uploads_and_batches(stack: Stack) -> None:
    with running_cluster(stack.folder) as cluster, closing(stack.start_gateway(redis_url=cluster.url)) as gateway:
        alice = stack.caller("alice of the cluster", gateway)
        uploads = [Upload(alice, stack, f"b3/cluster/{number}", parts=2) for number in range(6)]
        for upload in uploads:
            upload.finish()
        told = {"files": [{"key": f"b3/cluster/batch/{n}", "size": 1} for n in range(5)]}
        batch = good(alice.call("POST", "/v1/batches", json=told), 201)
        for file in batch["files"]:
            good(alice.put_content(file["task"]["id"], b"x"))
        assert good(alice.call("GET", f"/v1/batches/{batch['id']}"))["loaded"] == 5
        listed = good(alice.call("GET", "/v1/tasks", params={"limit": "100"}))["tasks"]
        assert {task["key"] for task in listed} >= {upload.key for upload in uploads}
        stack.gateways.remove(gateway)

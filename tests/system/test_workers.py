"""Several workers on one set of sockets: they count together, are replaced without a refused connection, and go."""

import itertools
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from tests.system.processes import HTTP, Gateway, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, running_stack

COUNT = 2
NEWER_ERROR = {"code": "internal", "title": "Failed", "detail": "", "retryable": True, "cos": None, "hue": 240}
DRAIN_SECONDS = 20.0
MARGIN_SECONDS = 3.0


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One gateway with two workers."""
    folder = tmp_path_factory.mktemp("workers")
    with running_stack(
        folder, workers=str(COUNT), drain_notice_seconds="0.5", drain_seconds=str(DRAIN_SECONDS)
    ) as stack:
        yield stack


def workers_of(gateway: Gateway) -> set[int]:
    """The living children of its process."""
    children = Path(f"/proc/{gateway.program.pid}/task/{gateway.program.pid}/children").read_text().split()
    return {int(pid) for pid in children if is_alive(int(pid))}


def is_alive(pid: int) -> bool:
    try:
        state = re.search(r"^State:\t(\w)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state is not None and state[1] not in "ZX"


def lines(gateway: Gateway, message: str) -> int:
    return sum(line["message"] == message for line in gateway.log_lines())


def test_one_scrape_counts_what_both_workers_did(crew: Stack) -> None:
    alice = crew.caller("alice")
    for number in range(20):
        fresh = Caller(crew, crew.gateway, alice.bearer)  # its own connection may reach the other worker
        good(fresh.post_form(f"workers/{number}.bin", body(number, 10_000)), 201)
        fresh.close()
        assert crew.cos.read(f"workers/{number}.bin") == body(number, 10_000)

    assert crew.gateway.metrics()["gateway_parts_stored_total"] == 20


class Hammer:
    """Clients that ask without a pause, with and without keeping their connections, and note what went wrong."""

    def __init__(self, gateway: Gateway) -> None:
        self._url = f"{gateway.url}/readyz"
        self._over = threading.Event()
        self.answered = itertools.count()
        self.failures: list[str] = []

    def __enter__(self) -> "Hammer":
        self._pool = ThreadPoolExecutor(4)
        for keeps in (True, False, True, False):
            self._pool.submit(self._run, keeps)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def _run(self, keeps: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keeps else 0)
        with httpx.Client(limits=limits, timeout=10, **HTTP) as client:
            while not self._over.is_set():
                try:
                    status = client.get(self._url).status_code
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                next(self.answered)
                if status != 200:
                    self.failures.append(f"status {status}")


@pytest.mark.promise(22)
def test_workers_are_replaced_one_by_one_without_a_refused_connection(crew: Stack) -> None:
    gateway, alice = crew.gateway, crew.caller("alice of b17")
    before, data = workers_of(gateway), body("b17", MIB)
    task_id = alice.create("workers/across.bin", len(data))["id"]
    with alice.connect() as slow, Hammer(gateway) as hammer:
        slow.sendall(alice.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {len(data)}") + data[:1000])
        wait_until(lambda: gateway.metrics()["gateway_bodies_in_flight"] == 1, "the body", 5)
        gateway.program.signal(signal.SIGHUP)
        wait_until(lambda: lines(gateway, "every worker was replaced") == 1, "the restart", 25)
        slow.sendall(data[1000:])
        good(read_answer(slow))
        wait_until(lambda: not workers_of(gateway) & before, "the end of the old ones", 10)

    assert hammer.failures == []
    assert next(hammer.answered) > 100
    assert len(workers_of(gateway)) == COUNT
    good(alice.control(task_id, "complete"))
    assert crew.cos.read("workers/across.bin") == data


def test_a_worker_that_dies_is_replaced_and_its_gauges_are_forgotten(crew: Stack) -> None:
    gateway, alice = crew.gateway, crew.caller("alice of the dead")
    task_id = alice.create("workers/dead.bin", MIB)["id"]
    with alice.connect() as slow:
        slow.sendall(alice.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {MIB}") + bytes(1000))
        wait_until(lambda: gateway.metrics()["gateway_bodies_in_flight"] == 1, "the body", 5)
        stored = gateway.metrics()["gateway_parts_stored_total"]
        before = workers_of(gateway)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(workers_of(gateway) - before) == COUNT and gateway.readiness() == 200, "new ones", 25)

    assert gateway.metrics()["gateway_bodies_in_flight"] == 0
    assert gateway.metrics()["gateway_parts_stored_total"] == stored, "what was counted stays"


def test_workers_do_not_outlive_a_parent_that_is_killed_and_their_ports_are_free_at_once(crew: Stack) -> None:
    gateway = crew.start_gateway(workers="2", drain_seconds="2")
    workers = workers_of(gateway)
    alice = crew.caller("orphan").at(gateway)
    task_id = alice.create("workers/orphan.bin", MIB)["id"]
    with alice.connect() as slow:  # holds one of them to the limit
        slow.sendall(alice.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {MIB}") + b"x")
        wait_until(lambda: gateway.metrics()["gateway_bodies_in_flight"] == 1, "the body", 5)
        gateway.program.kill()
        wait_until(lambda: can_listen(gateway.port), "the port", 2)
        wait_until(lambda: not any(map(is_alive, workers)), "the end of the workers", 2 + MARGIN_SECONDS)
        assert read_answer(slow).json()["code"] == "server_draining"


def can_listen(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def test_a_drain_ends_all_workers_within_the_limit(crew: Stack) -> None:
    gateway = crew.gateway
    workers = workers_of(gateway)
    began = time.monotonic()
    gateway.program.signal(signal.SIGTERM)

    assert gateway.program.wait(DRAIN_SECONDS + MARGIN_SECONDS) == 0
    assert time.monotonic() - began < MARGIN_SECONDS
    assert not any(map(is_alive, workers))


@pytest.mark.promise(31)
def test_b17_what_a_newer_version_wrote_survives_an_older_one_beside_it(crew: Stack) -> None:
    """The older one is ours: it does not know the field, nor the member of its error, that the newer one added."""
    gateway = crew.start_gateway()
    alice = crew.caller("alice of the versions", gateway)
    data = body("b17", 2 * MIB)
    task_id = alice.create("workers/versions.bin", len(data), part_size=MIB)["id"]
    with redis.Redis(unix_socket_path=crew.redis.url.removeprefix("unix://"), decode_responses=True) as newer:
        [key] = [key for key in newer.scan_iter(f"*{task_id}*") if newer.hexists(key, "version")]
        newer.hset(key, "colour", "blue")
        newer.hset(key, "error", json.dumps(NEWER_ERROR))

        good(alice.put_part(task_id, 1, data[:MIB]))
        good(alice.control(task_id, "pause"))
        good(alice.control(task_id, "restart"))
        good(alice.put_part(task_id, 2, data[MIB:]))
        assert good(alice.control(task_id, "complete"))["state"] == "success"

        assert newer.hget(key, "colour") == "blue"
    assert crew.cos.read("workers/versions.bin") == data

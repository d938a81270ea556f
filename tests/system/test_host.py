"""The machine under the gateway: few descriptors, little memory, no disk, a wrong clock, a loop that stands still."""

import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.system.control_group import control_group
from tests.system.processes import HTTP, ROOT, Gateway, wait_until
from tests.system.stack import MIB, Stack, body, good, parts_of, read_answer, require_problem, token
from tests.tools import report_missing

FEW_DESCRIPTORS = 64
IDLE_CPU_SHARE = 0.2


def cpu_seconds(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def upload(stack: Stack, gateway: Gateway, key: str, seed: str) -> None:
    """A form and a file in parts, both as they should be."""
    alice = stack.caller(f"alice of {seed}", gateway)
    small, large = body(seed, 20_000), body(f"{seed} large", 3 * MIB)
    good(alice.post_form(f"{key}/small.bin", small), 201)
    task_id = alice.create(f"{key}/large.bin", len(large))["id"]
    assert good(alice.put_content(task_id, large))["state"] == "success"
    assert stack.cos.read(f"{key}/small.bin") == small
    assert stack.cos.read(f"{key}/large.bin") == large


def test_b15_without_descriptors_it_goes_on_idles_and_recovers(stack: Stack) -> None:
    gateway = stack.start_gateway()
    pid = gateway.program.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW_DESCRIPTORS, hard))
    with ExitStack() as clients:
        for _ in range(2 * FEW_DESCRIPTORS):
            clients.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5))
        used, began = cpu_seconds(pid), time.monotonic()
        time.sleep(1)
        assert (cpu_seconds(pid) - used) / (time.monotonic() - began) < IDLE_CPU_SHARE, "a busy loop"
        gateway.program.alive_or_fail("the gateway")
    wait_until(lambda: gateway.readiness() == 200, "readiness", 10)
    upload(stack, gateway, "host/b15", "b15")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.promise(21)
def test_b15_a_gateway_that_begins_with_few_descriptors_refuses_early_and_serves_those_it_took(stack: Stack) -> None:
    gateway = stack.start_gateway(launcher=["sh", "-c", f'ulimit -n {FEW_DESCRIPTORS}; exec "$@"', "sh"])
    [lowered] = [line for line in gateway.log_lines() if "lowered_to" in line]
    alice, data = stack.caller("alice of b15", gateway), body("b15 few", MIB)
    names = range(lowered["lowered_to"] - 1)  # and one connection is hers
    tasks = [alice.create(f"host/b15-{n}.bin", MIB, part_size=MIB)["id"] for n in names]
    with ExitStack() as clients:
        connections = [clients.enter_context(alice.connect()) for _ in tasks]
        for task_id, connection in zip(tasks, connections, strict=True):
            head = alice.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {MIB}")
            connection.sendall(head + data[:-1])
        arriving = partial(stack.cos.journal, "UploadPart", ended=False)
        wait_until(lambda: len(arriving()) == len(tasks), "every part on its way to COS", 5)
        with alice.connect() as one_more:
            require_problem(read_answer(one_more), 503, "overloaded")
        for connection in connections:
            connection.sendall(data[-1:])
            good(read_answer(connection))
    upload(stack, gateway, "host/b15-few", "b15 few")
    gateway.close()


STILL_SECONDS = 3.0
SAYS_SECONDS = 0.75
"""How often whoever completes a file says so: the worst moment to stand still is just before."""
PROBE_SECONDS = 10.0
"""How long a probe of the orchestrator waits before it takes a process for dead."""


def test_b16_a_loop_that_stands_still_for_three_seconds_is_told_of_and_nothing_is_taken_over(stack: Stack) -> None:
    """A body is on its way, and a completion, for whose end another gateway waits as well."""
    script = str(ROOT / "tests" / "system" / "standing_still.py")
    still = stack.start_gateway(launcher=[sys.executable, script, str(STILL_SECONDS)])
    here, data = stack.caller("alice of b16", still), body("b16", 2 * MIB)
    merging, coming = (here.create(f"host/b16-{name}.bin", len(data), part_size=MIB)["id"] for name in ("m", "c"))
    for number, piece in enumerate(parts_of(data, MIB), 1):
        good(here.put_part(merging, number, piece))
    stack.cos.fault("padded", operation="CompleteMultipartUpload", key="host/b16-m.bin", seconds=STILL_SECONDS + 1.5)
    before = len(stack.gateway.log_lines())
    with ThreadPoolExecutor(3) as pool, here.connect() as connection:
        connection.sendall(here.head("PUT", f"/v1/tasks/{coming}/parts/1", f"Content-Length: {MIB}") + data[: MIB // 2])
        completing = pool.submit(here.control, merging, "complete")
        wait_until(lambda: bool(stack.cos.journal("CompleteMultipartUpload", key="host/b16-m.bin")), "the merge", 5)
        waiting = pool.submit(here.at(stack.gateway).control, merging, "complete")
        wait_until(lambda: still.metrics()["gateway_bodies_in_flight"] == 1, "the body", 5)
        said = version_of(stack, merging)
        wait_until(lambda: version_of(stack, merging) != said, "the next word of whoever completes", 5)
        time.sleep(SAYS_SECONDS - 0.15)
        still.program.signal(signal.SIGUSR2)
        began = time.monotonic()
        connection.sendall(data[MIB // 2 : MIB])
        assert httpx.get(f"{still.url}/livez", timeout=PROBE_SECONDS, **HTTP).status_code == 200
        assert time.monotonic() - began > STILL_SECONDS - 1, "it did stand still"
        assert good(read_answer(connection))["size"] == MIB
        one, other = good(completing.result()), good(waiting.result())

    assert (one["state"], other["state"], one["result"]) == ("success", "success", other["result"])
    assert len(stack.cos.journal("CompleteMultipartUpload", key="host/b16-m.bin")) == 1
    assert not any("taken over" in line["message"] for line in stack.gateway.log_lines()[before:])
    stacks = [line["stack"] for line in still.log_lines() if line["message"] == "the event loop stands still"]
    assert sum("stand_still" in stack for stack in stacks) == 1
    assert still.metrics()["gateway_loop_stalls_total"] == len(stacks)
    good(here.control(coming, "cancel"))
    still.close()


def version_of(stack: Stack, task_id: str) -> str:
    return stack.redis.text("HGET", f"gw:{{{task_id}}}", "version")


UNREAD = 'exec 2>"$0"; exec "$@"'


@contextmanager
def unread_log(stack: Stack, folder: Path) -> Iterator[tuple[Gateway, IO[bytes]]]:
    """A gateway whose stderr is a pipe that nobody reads, and the end from which somebody could."""
    pipe = folder / "log.pipe"
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDWR), "rb") as log:
        gateway = stack.start_gateway(launcher=["sh", "-c", UNREAD, str(pipe)])
        yield gateway, log
        gateway.program.kill()


def test_b93_a_log_that_nobody_reads_blocks_nothing_and_what_was_dropped_is_counted(
    stack: Stack, tmp_path: Path
) -> None:
    with unread_log(stack, tmp_path) as (gateway, log):
        request = f"GET /v1/{'x' * 400} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        dropped = 0.0
        while not dropped:
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
                connection.sendall(request * 50)
                answers = connection.makefile("rb")
                for _ in range(50):
                    skip_answer(answers)
            dropped = gateway.metrics()["gateway_log_lines_dropped_total"]
        upload(stack, gateway, "host/b93", "b93")

        seen: list[str] = []
        while "log lines were dropped" not in seen:
            seen.append(json.loads(log.readline())["message"])
        assert seen.count("request") > 100


def skip_answer(answers: IO[bytes]) -> None:
    length = 0
    while (line := answers.readline().rstrip().lower()) != b"":
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    answers.read(length)


READ_ONLY = """
mount --make-rprivate / && mount -o remount,ro,bind / || exit 70
for folder in /tmp /var/tmp . ; do
    if touch "$folder/probe-of-b90" 2>/dev/null; then exit 71; fi
done
exec "$@"
"""


def can_unshare() -> bool:
    """Whether this machine lets us have mounts of our own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, timeout=10).returncode == 0


def test_b90_nothing_is_ever_written_to_a_disk(stack: Stack) -> None:
    if not can_unshare():
        report_missing("unshare")
    gateway = stack.start_gateway(launcher=["unshare", "-m", "sh", "-c", READ_ONLY, "sh"])

    upload(stack, gateway, "host/b90", "b90")
    alice, data = stack.caller("alice of b90", gateway), body("b90 form", 12 * MIB)
    good(alice.post_form("host/b90/form.bin", data), 201)
    assert stack.cos.read("host/b90/form.bin") == data
    unknown = alice.create("host/b90/unknown.bin")["id"]
    good(alice.put_content(unknown, data, **{"Content-Range": f"bytes 0-{len(data) - 1}/*"}))
    assert good(alice.control(unknown, "complete"))["state"] == "success"
    assert stack.cos.read("host/b90/unknown.bin") == data


@pytest.mark.parametrize("seconds", [-86_400, -600, 600, 86_400])
def test_b89_with_a_clock_that_is_wrong_uploads_end_and_tokens_get_30_s_of_grace(stack: Stack, seconds: int) -> None:
    clock = str(ROOT / "tests" / "system" / "wrong_clock.py")
    gateway = stack.start_gateway(launcher=[sys.executable, clock, str(seconds)])
    now_there = int(time.time()) + seconds
    by_its_clock = stack.caller_with(token("b89", seconds=seconds + 600, iat=now_there), gateway)
    data = body("b89", 2 * MIB)
    task_id = by_its_clock.create(f"host/b89{seconds}.bin", len(data), part_size=MIB)["id"]
    for number, piece in enumerate(parts_of(data, MIB), 1):
        good(by_its_clock.put_part(task_id, number, piece))

    assert good(by_its_clock.control(task_id, "complete"))["state"] == "success"
    assert stack.cos.read(f"host/b89{seconds}.bin") == data
    assert (
        stack.caller_with(token("b89", seconds=seconds - 25, iat=now_there - 600), gateway)
        .call("GET", "/v1/tasks")
        .status_code
        == 200
    )
    late = stack.caller_with(token("b89", seconds=seconds - 40, iat=now_there - 600), gateway).call("GET", "/v1/tasks")
    require_problem(late, 401, "token_expired")
    gateway.close()


CONTAINER_BYTES = 192 * MIB
BUDGET_BYTES = 32 * MIB
"""What is left for parts in a container of that size."""


@contextmanager
def small_container(stack: Stack) -> Iterator[Gateway]:
    """A gateway that may use 192 MiB: in a control group of its own, or at least with the budget that this gives."""
    with ExitStack() as closing:
        group = closing.enter_context(control_group("memory", {"limit_in_bytes": CONTAINER_BYTES}))
        if group is None or not can_unshare():
            yield stack.start_gateway(replay_budget_bytes=str(BUDGET_BYTES))
            return
        gateway = stack.start_gateway(launcher=group.launcher)
        closing.callback(gateway.program.stop)
        (lowered,) = [line for line in gateway.log_lines() if "lowered_to_bytes" in line]
        assert (lowered["limit_bytes"], lowered["lowered_to_bytes"]) == (CONTAINER_BYTES, BUDGET_BYTES)
        yield gateway
        assert group.read("oom_control")["oom_kill"] == 0


@pytest.mark.promise(21)
def test_b14_four_times_what_the_budget_holds_streams_and_the_memory_stays_within_the_container(stack: Stack) -> None:
    """Every client holds back its last byte."""
    with small_container(stack) as gateway:
        alice, data = stack.caller("alice of b14", gateway), body("b14", 4 * MIB)
        tasks = [alice.create(f"host/b14-{n}.bin", len(data))["id"] for n in range(4 * BUDGET_BYTES // len(data))]
        with ExitStack() as open_connections:
            connections = [open_connections.enter_context(alice.connect()) for _ in tasks]
            for task_id, connection in zip(tasks, connections, strict=True):
                head = alice.head("PUT", f"/v1/tasks/{task_id}/parts/1", f"Content-Length: {len(data)}")
                connection.sendall(head + data[:-1])
            assert gateway.program.rss_bytes < CONTAINER_BYTES
            for connection in connections:
                connection.sendall(data[-1:])
            for connection in connections:
                assert read_answer(connection).status_code in (200, 429, 503)

        assert gateway.program.rss_bytes < CONTAINER_BYTES
        upload(stack, gateway, "host/b14", "b14 after")


@pytest.mark.promise(1)
def test_b18_when_every_replica_was_down_the_next_one_goes_on_where_they_were(stack: Stack) -> None:
    only = stack.start_gateway()
    alice, data = stack.caller("alice of b18", only), body("b18", 4 * MIB)
    parts, content = (alice.create(f"host/b18-{way}.bin", len(data), part_size=MIB)["id"] for way in "pc")
    good(alice.put_part(parts, 1, data[:MIB]))
    good(alice.put_part(parts, 3, data[2 * MIB : 3 * MIB]))
    half = {"Content-Range": f"bytes 0-{2 * MIB - 1}/{len(data)}"}
    good(alice.put_content(content, data[: 2 * MIB], **half))
    only.program.kill()

    later = alice.at(stack.start_gateway())
    assert [part["number"] for part in good(later.call("GET", f"/v1/tasks/{parts}/parts"))["parts"]] == [1, 3]
    for number in (2, 4):
        good(later.put_part(parts, number, data[(number - 1) * MIB : number * MIB]))
    assert good(later.control(parts, "complete"))["state"] == "success"
    offset = later.task(content)["next_offset"]
    rest = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
    assert good(later.put_content(content, data[offset:], **rest))["state"] == "success"
    assert (offset, stack.cos.read("host/b18-p.bin")) == (2 * MIB, data)
    assert stack.cos.read("host/b18-c.bin") == data


@contextmanager
def squeezed(pid: int) -> Iterator[None]:
    """A tenth of a processor for process *pid* while the block lasts."""
    tenth = {"cfs_period_us": 100_000, "cfs_quota_us": 10_000}
    with control_group("cpu", tenth) as group:
        if group is None:
            with stopped_again_and_again(pid):
                yield
            return
        group.take_in(pid)
        try:
            yield
            throttled = group.read("stat")
            assert throttled["nr_throttled"] > throttled["nr_periods"] / 4, f"hardly squeezed: {throttled}"
        finally:
            group.let_out(pid)


@contextmanager
def stopped_again_and_again(pid: int) -> Iterator[None]:
    """Process *pid* runs a tenth of the time while the block lasts."""
    over = threading.Event()

    def squeeze() -> None:
        while not over.is_set():
            for number, seconds in ((signal.SIGSTOP, 0.27), (signal.SIGCONT, 0.03)):
                os.kill(pid, number)
                time.sleep(seconds)

    thread = threading.Thread(target=squeeze)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_b91_with_a_tenth_of_the_cpu_it_is_slower_and_nothing_else(stack: Stack) -> None:
    """Nor does another gateway take for dead what completes a file meanwhile."""
    slow, quick = stack.gateway, stack.start_gateway()
    before = len(slow.log_lines())
    here, data = stack.caller("alice of b91", slow), body("b91 merged", MIB)
    there = here.at(quick)
    task_id = here.create("host/b91/merged.bin", len(data), part_size=MIB)["id"]
    good(here.put_part(task_id, 1, data))
    stack.cos.fault("padded", operation="CompleteMultipartUpload", key="host/b91/merged.bin", seconds=6)
    with ThreadPoolExecutor(2) as pool, squeezed(slow.program.pid):
        completing = pool.submit(here.control, task_id, "complete")
        wait_until(lambda: there.task(task_id)["state"] == "completing", "the completion", 10)
        waiting = pool.submit(there.control, task_id, "complete")
        for number in itertools.count():
            upload(stack, slow, f"host/b91/{number}", f"b91 {number}")
            if completing.done():
                break
        assert good(completing.result())["result"] == good(waiting.result())["result"]

    assert [line for line in slow.log_lines()[before:] if line["level"] == "error"] == []
    assert not any("taken over" in line["message"] for line in quick.log_lines())
    assert len(stack.cos.journal("CompleteMultipartUpload", key="host/b91/merged.bin")) == 1

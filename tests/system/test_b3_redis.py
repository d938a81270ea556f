"""Rows 39 to 55 of the fault matrix: Redis dies, forgets, stops, refuses and is cut off under a running gateway."""

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import redis
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.system.cable import redis_behind_a_cable
from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, Stack, good, read_answer, require_problem
from tests.system.upload_under_fault import Upload

BACK_SECONDS: Final = 2.0
"""How soon calls succeed after Redis is back."""
FAST_SECONDS: Final = 2.5
"""A call may take 2 s when Redis is silent; the rest is this machine's."""
STOPPED_SECONDS: Final = 10.0
AT_ONCE_SECONDS: Final = 0.5
"""What a refusal takes that waits for nothing."""
NO_ROUTE_SECONDS: Final = 4.0
"""After a pulled cable the kernel waits 3 s, and then says that there is no route."""
UNAVAILABLE: Final = "state_store_unavailable"


@pytest.fixture
def upload(alice: Caller, stack: Stack, request: pytest.FixtureRequest) -> Upload:
    """A file of three parts, the first of which is stored."""
    upload = Upload(alice, stack, f"b3/{request.node.name}", parts=3)
    assert upload.is_taken(1)
    return upload


def _is_up(upload: Upload) -> bool:
    return upload.caller.call("GET", f"/v1/tasks/{upload.id}").status_code == 200


def _refused(upload: Upload, within_seconds: float) -> None:
    began = time.monotonic()
    document = require_problem(upload.caller.call("GET", f"/v1/tasks/{upload.id}"), 503, UNAVAILABLE)
    assert time.monotonic() - began < within_seconds
    assert document["retryable"]


@contextmanager
def _stopped(stack: Stack) -> Iterator[None]:
    """Redis neither answers nor ends while the block runs."""
    stack.redis.program.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.redis.program.signal(signal.SIGCONT)


@pytest.fixture
def admin(stack: Stack) -> Iterator[redis.Redis]:
    """One connection of our own, which Redis keeps when it takes no other."""
    with redis.Redis(unix_socket_path=stack.redis.url.removeprefix("unix://"), single_connection_client=True) as admin:
        yield admin


@contextmanager
def _configured(admin: redis.Redis, **changes: str) -> Iterator[None]:
    """Redis with another configuration while the block runs."""
    wanted = {name.replace("_", "-"): value for name, value in changes.items()}
    before: Any = admin.config_get(*wanted)
    for name, value in wanted.items():
        admin.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            admin.config_set(name, value)


@contextmanager
def _half_sent(upload: Upload, number: int) -> Iterator[Callable[[], httpx.Response]]:
    """A part of which half is on its way; what is given sends the rest and reads the answer."""
    piece = upload.pieces[number - 1]
    head = upload.caller.head("PUT", f"/v1/tasks/{upload.id}/parts/{number}", f"Content-Length: {len(piece)}")
    with upload.caller.connect() as connection:
        connection.sendall(head + piece[: len(piece) // 2])
        wait_until(lambda: _bodies_in_flight(upload) > 0, "the body")

        def finish() -> httpx.Response:
            connection.sendall(piece[len(piece) // 2 :])
            return read_answer(connection)

        yield finish


def _bodies_in_flight(upload: Upload) -> float:
    return upload.caller.gateway.metrics().get("gateway_bodies_in_flight", 0.0)


@pytest.mark.promise(2)
def test_b39_a_redis_killed_and_started_empty_knows_every_upload_again(stack: Stack, upload: Upload) -> None:
    ticket = {"Upload-Ticket": upload.caller.task(upload.id)["ticket"]}
    stack.redis.program.kill()
    _refused(upload, AT_ONCE_SECONDS)
    shutil.rmtree(stack.folder / "appendonlydir")
    stack.redis.start()

    path = f"/v1/tasks/{upload.id}"
    took = wait_until(lambda: upload.caller.call("GET", path, headers=ticket).status_code == 200, "Redis")
    assert took < BACK_SECONDS
    now = upload.caller.task(upload.id)
    assert (now["stored_parts"], now["loaded"]) == (1, MIB)
    assert good(upload.put(2))["size"] == MIB
    assert good(upload.put(3))["size"] == MIB
    assert good(upload.caller.control(upload.id, "complete"))["state"] == "success"
    assert stack.cos.read(upload.key) == upload.data


@pytest.mark.promise(2)
@pytest.mark.parametrize("suffix", ["", ":parts", ":bodies"])
def test_b41_a_key_that_vanishes_is_made_again_and_nothing_is_sent_twice(
    stack: Stack, upload: Upload, suffix: str
) -> None:
    """Before the next part, and while it is on its way."""
    ticket = {"Upload-Ticket": upload.caller.task(upload.id)["ticket"]}
    key = f"gw:{{{upload.id}}}{suffix}"
    stack.redis.command("DEL", key)
    path = f"/v1/tasks/{upload.id}/parts/2"
    good(upload.caller.call("PUT", path, content=upload.pieces[1], headers=ticket))
    with _half_sent(upload, 3) as finish:
        stack.redis.command("DEL", key)
        good(finish())

    now = upload.caller.task(upload.id)
    assert (now["stored_parts"], now["loaded"], now["next_offset"]) == (3, 3 * MIB, 3 * MIB)
    assert good(upload.caller.control(upload.id, "complete"))["state"] == "success"
    assert [len(upload.attempts(number)) for number in (1, 2, 3)] == [1, 1, 1]
    assert stack.cos.read(upload.key) == upload.data


def test_b41_indexes_that_vanish_hide_nothing_from_who_names_it(admin: redis.Redis, upload: Upload) -> None:
    indexes: Any = admin.keys("gw:[tu]*")
    assert len(indexes) >= 3
    admin.delete(*indexes)
    upload.finish()


@pytest.mark.promise(2)
def test_b41_parts_that_vanish_are_listed_and_completed_as_cos_holds_them(stack: Stack, upload: Upload) -> None:
    good(upload.put(2))
    good(upload.put(3))
    listing = f"/v1/tasks/{upload.id}/parts"
    before = good(upload.caller.call("GET", listing))["parts"]
    stack.redis.command("DEL", f"gw:{{{upload.id}}}:parts")

    after = good(upload.caller.call("GET", listing))["parts"]
    assert after == [{**part, "crc64": None} for part in before]
    stack.redis.command("DEL", f"gw:{{{upload.id}}}:parts")
    assert good(upload.caller.control(upload.id, "complete"))["state"] == "success"
    assert stack.cos.read(upload.key) == upload.data


@pytest.mark.promise(4, 20)
def test_b42_a_redis_that_stops_is_refused_within_two_seconds_then_at_once(stack: Stack, upload: Upload) -> None:
    """The body that flows reaches COS, and its answer tells so."""
    with _half_sent(upload, 2) as finish, _stopped(stack):
        stopped_at = time.monotonic()
        _refused(upload, FAST_SECONDS)
        for _ in range(5):
            _refused(upload, AT_ONCE_SECONDS)
        document = require_problem(finish(), 503, UNAVAILABLE)
        while time.monotonic() - stopped_at < STOPPED_SECONDS:
            _refused(upload, FAST_SECONDS)  # now and then one call looks whether Redis is back
            time.sleep(0.2)
        (stored,) = upload.attempts(2)
        assert (stored["status"], document["receipt"]["number"], document["receipt"]["size"]) == (200, 2, MIB)
        assert document["receipt"]["crc64"].isdecimal()

    assert wait_until(partial(_is_up, upload), "Redis") < BACK_SECONDS
    upload.finish()


@pytest.mark.promise(4)
def test_b55_cut_off_from_redis_a_part_is_acknowledged_where_the_settings_say_so(stack: Stack, alice: Caller) -> None:
    """It is written down once Redis is back, and never sent again."""
    gateway = stack.start_gateway(ack_without_state="true")
    upload = Upload(alice.at(gateway), stack, "b3/acknowledged", parts=2)
    with _half_sent(upload, 1) as finish, _stopped(stack):
        receipt = good(finish())
    wait_until(lambda: _is_up(upload) and upload.stored == 1, "the part", 5)
    assert good(upload.caller.call("GET", f"/v1/tasks/{upload.id}/parts"))["parts"] == [receipt]
    good(upload.put(2))
    assert good(upload.caller.control(upload.id, "complete"))["result"]["crc64_verified"]
    assert len(upload.attempts(1)) == 1
    assert stack.cos.read(upload.key) == upload.data


@pytest.mark.promise(4, 20)
def test_b55_behind_a_pulled_cable_redis_is_refused_at_once_and_found_again(
    stack: Stack, alice: Caller, tmp_path: Path
) -> None:
    """Nothing answers, neither a socket nor a kernel, and after a while there is no route."""
    with redis_behind_a_cable(tmp_path) as cable:
        if cable is None:
            pytest.skip("this machine lets nobody make networks")
        gateway = stack.start_gateway(redis_url=cable.url, redis_allow_plain="true")
        upload = Upload(alice.at(gateway), stack, "b3/cable", parts=3)
        assert upload.is_taken(1)
        with _half_sent(upload, 2) as finish:
            cable.pull()
            pulled_at = time.monotonic()
            _refused(upload, FAST_SECONDS)
            assert require_problem(finish(), 503, UNAVAILABLE)["receipt"]["number"] == 2
        while time.monotonic() - pulled_at < NO_ROUTE_SECONDS:
            _refused(upload, AT_ONCE_SECONDS)
        cable.plug()

        assert wait_until(partial(_is_up, upload), "Redis") < BACK_SECONDS
        upload.finish()
        gateway.close()


def test_b47_a_full_redis_refuses_what_is_new_and_lets_running_parts_end(
    admin: redis.Redis, stack: Stack, upload: Upload
) -> None:
    with _half_sent(upload, 2) as finish, _configured(admin, maxmemory="1"):
        told = {"key": "b3/full", "size": 5 * MIB}
        document = require_problem(upload.caller.call("POST", "/v1/tasks", json=told), 503, UNAVAILABLE)
        assert document["retryable"]
        good(finish())
        assert _failures(stack) > 0
    upload.finish()


def test_f12_a_full_redis_is_relieved_by_its_users(admin: redis.Redis, stack: Stack, alice: Caller) -> None:
    paused, canceled = (Upload(alice, stack, f"b3/relieved-{number}", parts=3) for number in range(2))
    with _configured(admin, maxmemory="1"):
        assert good(alice.control(paused.id, "pause"))["state"] == "paused"
        assert good(alice.control(paused.id, "restart"))["state"] == "waiting"
        assert good(alice.control(canceled.id, "cancel"))["state"] == "canceled"
    assert stack.cos.open_uploads(canceled.key) == set()
    good(alice.control(paused.id, "cancel"))


def _failures(stack: Stack) -> float:
    """The alarm: calls that Redis did not carry out."""
    metrics = stack.gateway.metrics().items()
    return sum(value for name, value in metrics if name.startswith("gateway_redis_failures_total"))


def test_b48_a_redis_that_evicts_whatever_it_likes_loses_nothing(
    admin: redis.Redis, stack: Stack, alice: Caller
) -> None:
    """The start names it: tests/store/test_redis_watch.py."""
    with _configured(admin, maxmemory="4mb", maxmemory_policy="allkeys-lru"):
        upload = Upload(alice, stack, "b3/evicted", parts=3)
        ticket = {"Upload-Ticket": upload.caller.task(upload.id)["ticket"]}
        for number, piece in enumerate(upload.pieces, 1):
            for other in range(400):
                admin.set(f"other:{other}", "x" * 10_000)
            path = f"/v1/tasks/{upload.id}/parts/{number}"
            wait_until(partial(_put, upload.caller, path, piece, ticket), "the part")
        done = good(upload.caller.control(upload.id, "complete", headers=ticket))
        assert done["state"] == "success"
    stack.redis.command("FLUSHALL")
    assert stack.cos.read(upload.key) == upload.data


def _put(caller: Caller, path: str, piece: bytes, headers: dict[str, str]) -> bool:
    return caller.call("PUT", path, content=piece, headers=headers).status_code == 200


def test_b49_a_redis_that_takes_no_more_clients_is_refused_at_once(
    admin: redis.Redis, stack: Stack, upload: Upload
) -> None:
    with _configured(admin, maxclients="1"):
        admin.client_kill_filter(_type="normal", skipme=True)
        for _ in range(5):
            _refused(upload, AT_ONCE_SECONDS)
        require_problem(upload.caller.call("GET", "/readyz"), 503, UNAVAILABLE)
    assert wait_until(partial(_is_up, upload), "Redis") < BACK_SECONDS
    upload.finish()


def _watch(caller: Caller) -> ClientConnection:
    address = f"{caller.gateway.url.replace('http', 'ws')}/v1/progress"
    offered = [Subprotocol("gateway.v1"), Subprotocol(f"bearer.{caller.bearer}")]
    return connect(address, subprotocols=offered, proxy=None)


def _next_snapshot(socket: ClientConnection) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(socket.recv(BACK_SECONDS))
        if message["type"] == "snapshot":
            return message


@pytest.mark.promise(24)
def test_b50_a_lost_subscription_is_made_again_and_watchers_get_a_snapshot(stack: Stack, upload: Upload) -> None:
    with _watch(upload.caller) as socket:
        _next_snapshot(socket)
        assert stack.redis.command("CLIENT", "KILL", "TYPE", "pubsub").startswith(b":")
        (task,) = _next_snapshot(socket)["tasks"]
        assert (task["id"], task["stored_parts"]) == (upload.id, 1)
        good(upload.put(2))
        while (message := json.loads(socket.recv(BACK_SECONDS)))["type"] != "task":
            pass
        assert message["task"]["stored_parts"] == 2


@pytest.mark.promise(24)
def test_b51_a_subscriber_that_redis_cuts_off_for_reading_too_slowly_comes_back(
    admin: redis.Redis, stack: Stack, upload: Upload
) -> None:
    with _watch(upload.caller) as socket, _configured(admin, client_output_buffer_limit="pubsub 64kb 64kb 1"):
        _next_snapshot(socket)
        upload.caller.gateway.program.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: admin.publish("gw:control", "x" * 100_000) == 0, "the cut")
        finally:
            upload.caller.gateway.program.signal(signal.SIGCONT)
        (task,) = _next_snapshot(socket)["tasks"]
        assert task["id"] == upload.id
    upload.finish()


def test_b53_a_task_whose_time_runs_out_under_a_slow_part_is_made_again(stack: Stack, upload: Upload) -> None:
    keys = [f"gw:{{{upload.id}}}{suffix}" for suffix in ("", ":parts", ":bodies")]
    with _half_sent(upload, 2) as finish:
        for key in keys:
            stack.redis.command("PEXPIRE", key, "20")
        wait_until(lambda: stack.redis.command("EXISTS", *keys) == b":0", "the end")
        good(finish())
    now = upload.caller.task(upload.id)
    assert (now["stored_parts"], now["loaded"]) == (2, 2 * MIB)
    assert int(stack.redis.command("TTL", keys[0])[1:]) > 6 * 24 * 3600
    upload.finish()


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_b54_a_redis_whose_clock_jumps_by_an_hour_harms_no_upload(
    admin: redis.Redis, stack: Stack, upload: Upload, seconds: int
) -> None:
    """A part is on its way, and a body in order that another one then takes over."""
    content, data = upload.caller.create(f"{upload.key}-content", 2 * MIB, part_size=MIB), upload.data[: 2 * MIB]
    path = f"/v1/tasks/{content['id']}/content"
    with _half_sent(upload, 2) as finish, upload.caller.connect() as older:
        older.sendall(upload.caller.head("PUT", path, f"Content-Length: {len(data)}") + data[: MIB // 2])
        wait_until(lambda: _bodies_in_flight(upload) == 2, "the bodies")
        _jump(admin, seconds)
        good(upload.caller.put_content(content["id"], data))
        _jump(admin, -2 * seconds)
        good(finish())
        require_problem(read_answer(older), 409, ["body_superseded", "task_succeeded"])

    assert stack.cos.read(content["key"]) == data
    upload.finish()


def _jump(admin: redis.Redis, seconds: int) -> None:
    """What a jump of Redis's clock does: keys end so much earlier; scripts ask nobody for the time."""
    names: Any = admin.keys("*")
    for name in names:
        left: Any = admin.pttl(name)
        if left > 0:
            admin.pexpire(name, left - 1000 * seconds)


@pytest.mark.promise(20)
def test_b55_many_calls_at_once_to_a_silent_redis_all_end_in_time(stack: Stack, upload: Upload) -> None:
    with ThreadPoolExecutor(40) as pool, _stopped(stack):
        for one in [pool.submit(_refused, upload, FAST_SECONDS) for _ in range(40)]:
            one.result()
    assert wait_until(partial(_is_up, upload), "Redis") < BACK_SECONDS
    upload.finish()

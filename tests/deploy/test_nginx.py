"""Through a real nginx with TLS and our rules, before two gateways: everything passes as it comes."""

import itertools
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import pytest
from qcloud_cos import CosConfig, CosS3Client, CosServiceError
from websockets.sync.client import connect

from gateway.serving.process import KEEP_ALIVE_SECONDS
from tests.deploy.topology import CLIENT, DEPLOY, Topology
from tests.system.processes import wait_until
from tests.system.stack import MIB, body, good, parts_of, require_problem

SLOW_BYTES: Final = 256 * 1024
_FILE: Final = ("file", ("small.bin", b"a small file", "application/octet-stream"))


def create(client: httpx.Client, key: str, size: int, **options: Any) -> dict[str, Any]:
    return good(client.post("/v1/tasks", json={"key": key, "size": size, **options}), 201)


def slowly(data: bytes, seconds: float) -> Iterator[bytes]:
    """*data*, its second half so much later."""
    yield data[: len(data) // 2]
    time.sleep(seconds)
    yield data[len(data) // 2 :]


def tells_success(message: dict[str, Any], task_id: str) -> bool:
    """Whether a change, or the next snapshot where a change was lost, says that the task succeeded."""
    tasks = [message["task"]] if message["type"] == "task" else message.get("tasks", [])
    return any(task["id"] == task_id and task["state"] == "success" for task in tasks)


@pytest.mark.promise(1)
def test_a_file_in_parts_goes_through_both_gateways_and_its_progress_comes_back(topology: Topology) -> None:
    alice, data, key = topology.client("alice"), body("through nginx", 6 * MIB), "nginx/parts.bin"
    address = topology.nginx.url.replace("https", "wss") + "/v1/progress"
    bearer = alice.headers["Authorization"].removeprefix("Bearer ")

    def put_part(number: int, part: bytes) -> httpx.Response:
        return alice.put(f"/v1/tasks/{task['id']}/parts/{number}", content=part)

    with connect(address, ssl=topology.nginx.tls, subprotocols=["gateway.v1", f"bearer.{bearer}"]) as socket:  # type: ignore[list-item]
        first = json.loads(socket.recv(timeout=10))
        task = create(alice, key, len(data), part_size=MIB)
        with ThreadPoolExecutor(4) as threads:
            for answer in threads.map(put_part, itertools.count(1), parts_of(data, MIB)):
                good(answer)
        done = good(alice.post(f"/v1/tasks/{task['id']}/complete"))
        told = first
        while not tells_success(told, task["id"]):
            told = json.loads(socket.recv(timeout=20))

    assert first["type"] == "snapshot"
    assert done["state"] == "success"
    assert topology.stack.cos.read(key) == data
    served = [gateway.metrics().get("gateway_parts_stored_total", 0) for gateway in topology.gateways]
    assert all(count > 0 for count in served), served


def test_300_mb_pass_without_being_collected_on_the_way(topology: Topology) -> None:
    """Half way through, COS has what was sent, the disk nothing, and nginx no more memory than before."""
    alice, block, count, key = topology.client("bulk"), body("block", 4 * MIB), 75, "nginx/large.bin"
    task = create(alice, key, count * len(block), part_size=16 * MIB)
    seen: list[int] = []

    def blocks() -> Iterator[bytes]:
        for number in range(count):
            if number == count // 2:
                wait_until(lambda: loaded() > 64 * MIB, "COS has what was sent")
                seen.append(len(topology.nginx.collected))
            yield number.to_bytes(8) + block[8:]

    def loaded() -> int:
        return int(good(topology.client("bulk").get(f"/v1/tasks/{task['id']}"))["loaded"])

    answer = alice.put(
        f"/v1/tasks/{task['id']}/content", content=blocks(), headers={"Content-Length": str(task["size"])}
    )

    assert good(answer)["state"] == "success"
    assert seen == [0]
    stored = memoryview(topology.stack.cos.read(key))
    assert len(stored) == count * len(block)
    for number in range(count):
        part = stored[number * len(block) : (number + 1) * len(block)]
        assert part[:8] == number.to_bytes(8)
        assert part[8:] == memoryview(block)[8:]


@pytest.mark.promise(4)
def test_a_pause_ends_a_body_under_way_behind_nginx_too(topology: Topology) -> None:
    alice, data = topology.client("pauser"), body("paused", 8 * MIB)
    task = create(alice, "nginx/paused.bin", len(data))
    head = (
        f"PUT /v1/tasks/{task['id']}/content HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n"
        f"Authorization: {alice.headers['Authorization']}\r\n\r\n"
    )
    raw = socket.create_connection(("127.0.0.1", topology.nginx.port), timeout=10)
    with topology.nginx.tls.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        connection.sendall(head.encode() + data[: 5 * MIB])
        wait_until(lambda: good(alice.get(f"/v1/tasks/{task['id']}"))["loaded"] >= 4 * MIB, "a part is stored")

        good(alice.post(f"/v1/tasks/{task['id']}/pause"))
        began = time.monotonic()
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 409 "), answer[:200]
    assert b'"task_paused"' in answer
    assert time.monotonic() - began < 3


def test_keys_and_signatures_of_the_cos_door_pass_unchanged(topology: Topology) -> None:
    """Host, path and header names are signed: nginx may neither decode, merge nor drop any of them."""
    key = good(topology.client("sdk").post("/v1/keys", json={}))
    config = CosConfig(
        Region=key["region"],
        SecretId=key["tmp_secret_id"],
        SecretKey=key["tmp_secret_key"],
        Token=key["session_token"],
        Scheme="https",
        IP="127.0.0.1",
        Port=topology.nginx.cos_port,
        VerifySSL=str(topology.nginx.certificate),
    )
    sdk, data = CosS3Client(config, retry=0), body("sdk through nginx", 3 * MIB)

    for name in ("nginx/a//b.bin", "nginx/%2F twice%25.bin", "nginx/中文.bin"):
        sdk.put_object(Bucket=key["bucket"], Key=name, Body=data, Metadata={"x-cos-meta-kind": "1"})

        put = topology.stack.cos.journal("PutObject", key=name)
        assert [entry["status"] for entry in put] == [200]
        assert topology.stack.cos.read(name) == data
    answer = sdk.head_object(Bucket=key["bucket"], Key="nginx/a//b.bin")
    assert answer["x-cos-meta-kind"] == "1"
    with pytest.raises(CosServiceError) as refused:
        sdk.put_object(Bucket=key["bucket"], Key="nginx/odd.bin", Body=data, Metadata={"x-cos-meta-od_d": "1"})
    assert refused.value.get_error_code() == "InvalidArgument"


@pytest.mark.parametrize("size", [MIB, 40 * MIB])
def test_the_answer_to_a_body_that_is_refused_early_comes_back(topology: Topology, size: int) -> None:
    """nginx writes before it reads: the gateway leaves it the time to see more than a broken connection."""
    stranger = topology.client("stranger")
    for _ in range(5):
        answer = stranger.put("/v1/objects/x", content=bytes(size), headers={"Authorization": "Bearer none"})

        require_problem(answer, 401, "token_invalid")


def test_the_gateway_knows_the_client_and_not_what_it_says_of_itself(topology: Topology) -> None:
    alice = topology.client("known")

    good(alice.get("/v1/tasks", headers={"X-Request-Id": "who-am-i", "X-Forwarded-For": "198.51.100.7"}))

    def lines() -> list[dict[str, Any]]:
        return [line for line in topology.log_lines("gateway.access") if line["request_id"] == "who-am-i"]

    wait_until(lambda: len(lines()) == 1, "the request is in the log")
    assert lines()[0]["client"] == CLIENT


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/v1/tasks?cursor=" + "x" * 9000, {}, 414, "uri_too_long"),
        ("/v1/tasks", {"X-Long": "x" * 20_000}, 431, "header_too_large"),
        ("/v1/tasks", {f"X-{n}": "x" for n in range(80)}, 431, "header_too_large"),
    ],
)
def test_what_is_too_large_is_refused_by_the_gateway_in_its_own_words(
    topology: Topology, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    require_problem(topology.client("large").get(path, headers=headers), status, code)


def test_a_slow_client_is_no_sign_of_a_proxy_that_collects_bodies(topology: Topology) -> None:
    data = body("slow", SLOW_BYTES)

    answer = topology.client("slow").put("/v1/objects/nginx/slow.bin", content=slowly(data, 1.2), headers=_length(data))

    good(answer, 200, 201)
    assert topology.total("gateway_proxy_buffered_bodies_total") == 0


def test_a_proxy_that_collects_bodies_is_named_in_the_log(topology: Topology) -> None:
    wrong = topology.another_nginx("wrong", proxy=("proxy_request_buffering off", "proxy_request_buffering on"))
    data, alice = body("collected", SLOW_BYTES), topology.client("collected", wrong)

    good(alice.put("/v1/objects/nginx/small.bin", content=slowly(b"small", 1.2), headers=_length(b"small")), 200, 201)
    assert topology.total("gateway_proxy_buffered_bodies_total") == 0
    good(alice.put("/v1/objects/nginx/large.bin", content=slowly(data, 1.2), headers=_length(data)), 200, 201)

    assert topology.total("gateway_proxy_buffered_bodies_total") == 1
    wait_until(lambda: len(topology.log_lines("gateway.web.proxy_watch")) == 1, "the log names it")
    [line] = topology.log_lines("gateway.web.proxy_watch")
    assert "proxy_request_buffering off" in line["message"]
    assert (line["level"], line["proxy"], line["bytes"]) == ("warning", "127.0.0.1", SLOW_BYTES)
    assert line["seconds"] >= 1


def test_a_gateway_that_goes_is_noticed_by_nobody(topology: Topology) -> None:
    """Drained in order while small files come without a pause, and started again: every one of them is taken."""
    leaving = topology.gateways[0]

    def statuses(number: int) -> Iterator[int]:
        client, names, left = topology.client(f"steady {number}"), itertools.count(), 20
        while left:
            left -= leaving.program.exit_code is not None
            yield client.get("/v1/tasks").status_code
            yield client.post("/v1/files", files=[_key(f"nginx/steady-{number}-{next(names)}"), _FILE]).status_code

    with ThreadPoolExecutor(4) as pool:
        counted = [pool.submit(Counter, statuses(number)) for number in range(4)]
        leaving.program.signal(signal.SIGTERM)
        total = sum((one.result() for one in counted), Counter[int]())
    leaving.restart()

    assert total.keys() == {200, 201}


def test_nginx_has_nothing_to_say_against_its_rules(topology: Topology) -> None:
    """It said nothing against them, at its start or since; of the gateway that went away it may."""
    said = topology.nginx.program.log.read_text().splitlines()

    assert [line for line in said if " upstream" not in line] == []


def _key(key: str) -> tuple[str, tuple[None, str]]:
    """A form's field."""
    return "key", (None, key)


def _length(data: bytes) -> dict[str, str]:
    return {"Content-Length": str(len(data))}


def test_idle_connections_end_before_the_gateway_ends_them() -> None:
    """Else a request would now and then meet a connection that just closes."""
    rules = (DEPLOY / "nginx" / "upstreams.conf").read_text()
    waits = [int(line.split()[1].rstrip("s;")) for line in rules.splitlines() if "keepalive_timeout" in line]

    assert len(waits) == 2
    assert max(waits) < KEEP_ALIVE_SECONDS

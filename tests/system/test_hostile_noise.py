"""Good requests with random damage, to each door: promises C1 and P29. Every answer is a registered one."""

import random
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import httpx
import pytest

from tests.system.cos_door import Door, running_door
from tests.system.processes import HTTP, ROOT
from tests.system.stack import PROBLEM_TYPE, Caller, body, good, read_answer

MESSAGES: Final = 600
AT_ONCE: Final = 8
CODES: Final = frozenset(re.findall(r"^ +- ([a-z0-9_]+)$", (ROOT / "openapi/openapi.yaml").read_text(), re.MULTILINE))
WORDS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b",",
        b";",
        b"%00",
        b"%2e%2e/",
        b"%2f",
        b"//",
        b"/../",
        b"?",
        b"#",
        b"%ff",
    ),
    *(
        b"\xff",
        b"\xe4\xbd\xa0",
        b"-1",
        b"9" * 20,
        b"1e9",
        b"null",
        b"[]",
        b'"',
        b"\\ud800",
        b"--b",
        b"0\r\n\r\n",
        b"F" * 17,
    ),
    *(b"A" * 300, b"A" * 9000, b"X: 1\r\n" * 70),
)
LINES: Final = (
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 5, 5", b"Transfer-Encoding: chunked", b"Expect: x"),
    *(
        b"Connection: close",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Sec-WebSocket-Version: 13",
    ),
    *(
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"Expect: 100-continue",
        b"Host: evil",
        b"Content-Encoding: gzip",
    ),
    *(b"Content-Type: application/json", b"Content-Type: multipart/form-data; boundary=b", b"Content-MD5: AAAA"),
    *(
        b"Content-Range: bytes 5-9/10",
        b'If-Match: "1"',
        b"Upload-Ticket: t.x",
        b"Origin: http://evil",
        b"Range: bytes=0-",
    ),
    *(
        b"x-cos-acl: private",
        b"x-cos-hash-crc64ecma: 1",
        b"Idempotency-Key: k",
        b"Authorization: Bearer x",
        b"X: " + b"a" * 9000,
    ),
)
METHODS: Final = (b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"FOO")
FORM: Final = (
    b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nnoise/form\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--b--\r\n'
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway that does not wait long for what was cut off."""
    quick = {"head_seconds": "0.5", "body_idle_seconds": "0.5", "requests_per_subject_rate": "0"}
    with running_door(tmp_path_factory.mktemp("noise"), **quick) as door:
        yield door


def good_requests(caller: Caller) -> list[bytes]:
    task_id = caller.create("noise/task.bin", 5)["id"]
    length, json = "Content-Length: 5", "Content-Type: application/json"
    create = b'{"key":"noise/json","size":5,"meta":{"a":"b"}}'
    return [
        caller.head("GET", "/v1/tasks?limit=5&state=waiting"),
        caller.head("POST", "/v1/tasks", json, f"Content-Length: {len(create)}") + create,
        caller.head("PUT", f"/v1/tasks/{task_id}/parts/1", length) + b"hello",
        caller.head("PUT", f"/v1/tasks/{task_id}/content", length, "Content-Range: bytes 0-4/5") + b"hello",
        caller.head("POST", f"/v1/tasks/{task_id}/complete"),
        caller.head(
            "POST", "/v1/files", "Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(FORM)}"
        )
        + FORM,
        caller.head("PUT", "/v1/objects/noise/a%20b", "Transfer-Encoding: chunked")
        + b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        caller.head("POST", "/v1/objects/noise/log?append&position=0", length) + b"hello",
        caller.head("GET", "/v1/uploads?prefix=noise&limit=5"),
        caller.head("PUT", "/noise?partNumber=1&uploadId=x", length) + b"hello",
        caller.head("GET", "/livez"),
    ]


def damaged(chance: random.Random, raw: bytes, others: list[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        raw = chance.choice((with_other_bytes, with_other_lines))(chance, raw, others)
    return raw


def with_other_bytes(chance: random.Random, raw: bytes, others: list[bytes]) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return chance.choice(
        (
            raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :],
            raw[:at] + chance.choice(WORDS) + raw[at:],
            raw[:at] + raw[at + chance.randrange(1, 20) :],
            raw[:at],
            raw + chance.choice(others),
        )
    )


def with_other_lines(chance: random.Random, raw: bytes, others: list[bytes]) -> bytes:
    head, end, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return chance.choice(
        (
            b"\r\n".join([first, chance.choice(LINES), *lines]) + end + rest,
            b"\r\n".join([first, *chance.sample(lines, len(lines) // 2)]) + end + rest,
            b"\r\n".join([first, *lines, *lines[:2]]) + end + rest,
            chance.choice(METHODS) + b" " + raw.partition(b" ")[2],
            chance.choice(others).partition(b"\r\n")[0] + b"\r\n" + raw.partition(b"\r\n")[2],
        )
    )


def require_registered(answer: httpx.Response, at_cos: bool) -> None:
    if answer.is_success or answer.status_code in (101, 304):
        return
    assert answer.status_code != 500
    if at_cos:
        assert answer.headers["content-type"] == "application/xml"
        assert answer.headers["x-cos-request-id"].encode() in answer.content
    else:
        assert answer.headers["content-type"] == PROBLEM_TYPE
        assert answer.json()["code"] in CODES
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def tell(port: int, raw: bytes, judge: Callable[[httpx.Response], None]) -> None:
    """Send *raw*; there must be an answer, or the connection's end, within a few seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=8) as connection, suppress(ConnectionError):
        connection.sendall(raw)
        if connection.recv(1, socket.MSG_PEEK):
            judge(read_answer(connection))


@pytest.mark.promise(20, 29)
@pytest.mark.parametrize("seed", [1])
def test_c1_to_c94_random_damage_is_answered_as_registered_at_every_door(door: Door, dora: Caller, seed: int) -> None:
    requests = good_requests(dora)
    ports = [dora.gateway.port, dora.gateway.port, door.port, dora.gateway.admin_port]

    def one(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        raw, port = damaged(chance, chance.choice(requests), requests), chance.choice(ports)
        try:
            tell(port, raw, lambda answer: require_registered(answer, port == door.port))
        except (AssertionError, OSError, ValueError, KeyError) as failed:
            raise AssertionError(f"message {number} of seed {seed} at port {ports.index(port)}: {raw!r}") from failed

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(one, range(MESSAGES)))

    good(dora.call("POST", "/v1/files?key=noise/after", content=body(seed, 1000)), 201)
    assert httpx.get(f"{dora.gateway.url}/readyz", **HTTP).status_code == 200
    assert [line for line in dora.gateway.log_lines() if line["level"] in ("error", "critical")] == []

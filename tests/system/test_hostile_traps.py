"""What operators and curious callers fall into: promises C6. Whatever breaks, nothing of the inside is told."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.system.canary import leaks_in
from tests.system.cos_door import Door
from tests.system.processes import HTTP, ROOT, LocalCos, wait_until
from tests.system.stack import MIB, SECRET, Caller, Stack, body, good, require_problem, token

STANDARD: Final = {"type", "title", "status", "code", "retryable", "request_id"}


@pytest.fixture
def broken(stack: Stack, alice: Caller) -> str:
    """A task whose record somebody has written nonsense into."""
    task_id: str = alice.create("traps/broken.bin", 2 * MIB, part_size=MIB)["id"]
    assert stack.redis.command("HSET", f"gw:{{{task_id}}}", "part_size", "nonsense of canary-in-redis") == b":0"
    return task_id


HANDLERS: Final = [
    ("GET", "/v1/tasks"),
    ("GET", "/v1/tasks/{id}"),
    ("GET", "/v1/tasks/{id}/parts"),
    ("PUT", "/v1/tasks/{id}/parts/1"),
    ("PUT", "/v1/tasks/{id}/content"),
    ("POST", "/v1/tasks/{id}/complete"),
    ("POST", "/v1/tasks/{id}/pause"),
    ("POST", "/v1/tasks/{id}/restart"),
    ("POST", "/v1/tasks/{id}/cancel"),
]


@pytest.mark.promise(27, 29)
@pytest.mark.parametrize(("method", "path"), HANDLERS)
def test_c110_what_nobody_expected_is_a_500_that_tells_nothing(
    stack: Stack, alice: Caller, broken: str, method: str, path: str
) -> None:
    answer = alice.call(method, path.format(id=broken), content=bytes(MIB) if method == "PUT" else None)

    document = require_problem(answer, 500, "internal")
    assert set(document) == STANDARD
    assert b"nonsense" not in answer.content

    def logged() -> list[dict[str, Any]]:
        lines = stack.gateway.log_lines()
        return [line for line in lines if line.get("request_id") == document["request_id"] and "exception" in line]

    wait_until(lambda: bool(logged()), "the stack trace in the log", 5)
    assert 'File "' in logged()[0]["exception"]
    assert alice.bearer not in logged()[0]["exception"], "a trace has no locals"


@pytest.mark.promise(27, 29)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/pause"), ("POST", "/restart"), ("POST", "/cancel")]
)
def test_c110_nor_does_a_batch_s(stack: Stack, alice: Caller, method: str, path: str) -> None:
    files = [{"key": "traps/batch", "size": 5}]
    batch_id = good(alice.call("POST", "/v1/batches", json={"files": files}), 201)["id"]
    assert stack.redis.command("HSET", f"gw:batch:{{{batch_id}}}", "files", "nonsense of canary-in-redis") == b":0"

    document = require_problem(alice.call(method, f"/v1/batches/{batch_id}{path}"), 500, "internal")
    assert set(document) == STANDARD


@pytest.mark.promise(27, 29)
def test_c110_nor_does_a_websocket_s(stack: Stack, alice: Caller, broken: str) -> None:
    offered = [Subprotocol(f"bearer.{alice.bearer}")]
    address = stack.gateway.url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{address}/v1/tasks/{broken}/progress", subprotocols=offered, proxy=None)

    assert refused.value.response.status_code == 500
    document = json.loads(refused.value.response.body or b"")
    assert (set(document), document["code"]) == (STANDARD, "internal")


def test_c110_at_cos_s_door_it_is_an_internal_error(door: Door, dora: Caller) -> None:
    key = door.key(dora)
    upload_id = key.caller().call("POST", "traps/cos", {"uploads": ""}).text("UploadId")
    (task,) = [task for task in good(dora.call("GET", "/v1/tasks"))["tasks"] if task["key"] == "traps/cos"]
    nonsense = ("part_size", "nonsense of canary-in-redis")
    assert door.stack.redis.command("HSET", f"gw:{{{task['id']}}}", *nonsense) == b":0"

    for method, query in (("PUT", {"partNumber": "1"}), ("GET", {}), ("DELETE", {})):
        answer = key.caller().call(method, "traps/cos", {"uploadId": upload_id or "", **query}, body=b"x")
        assert (answer.status, answer.code) == (500, "InternalError")
        assert b"nonsense" not in answer.body


@pytest.mark.promise(27)
def test_c111_cos_s_error_documents_are_read_and_never_passed_on(stack: Stack, alice: Caller) -> None:
    """COS refuses a signature with the StringToSign and the AccessKeyId; so does the local COS."""
    gateway = stack.start_gateway(cos_secret_key="another-secret-key-000000000000", log_level="debug")
    caller = alice.at(gateway)

    answer = caller.call("POST", "/v1/files?key=traps/denied.bin", content=b"x")

    document = require_problem(answer, 502, "storage_denied")
    assert document["cos"]["code"] == "SignatureDoesNotMatch"
    assert set(document["cos"]) == {"status", "code", "request_id"}
    told = answer.content + gateway.program.log.read_bytes()
    assert leaks_in(told, [LocalCos.SECRET_ID, "another-secret-key-000000000000", "StringToSign"]) == []


@pytest.mark.parametrize(
    "path", ["/metrics", "/version", "/docs", "/redoc", "/openapi.json", "/debug", "/admin", "/.env"]
)
def test_c112_the_public_port_serves_nothing_of_the_inside(stack: Stack, path: str) -> None:
    require_problem(httpx.get(stack.gateway.url + path, **HTTP), 404, "not_found")
    assert "server" not in httpx.get(stack.gateway.url + path, **HTTP).headers


@pytest.mark.promise(27)
def test_c113_neither_paths_nor_subjects_nor_methods_become_labels(stack: Stack) -> None:
    for number in range(30):
        caller = stack.caller(f"tenant-{number}-of-c113")
        caller.call("GET", f"/v1/tasks/label-{number}")
        caller.call("GET", f"/label/{number}")
        caller.call(f"LABEL{number}", "/v1/tasks")
        caller.call("PUT", f"/v1/objects/label-{number}?bucket=label-{number}", content=b"x")
        caller.call("GET", f"/v1/tasks?state=label-{number}")

    samples = stack.gateway.metrics()
    assert len(samples) < 2000
    assert [name for name in samples if "label" in name.lower() or "tenant" in name.lower()] == []


GOOD: Final = {
    "GATEWAY_BUCKETS": "files=files-1250000000@ap-guangzhou",
    "GATEWAY_COS_SECRET_ID": "AKID" + "x" * 32,
    "GATEWAY_COS_SECRET_KEY": "canary-cos-secret-0123456789",
    "GATEWAY_TOKEN_SECRET": SECRET,
    "GATEWAY_LISTEN": "127.0.0.1:0",
    "GATEWAY_COS_LISTEN": "",
    "GATEWAY_ADMIN_LISTEN": "",
}
INSECURE: Final[dict[str, dict[str, str]]] = {
    "every origin": {"GATEWAY_ALLOWED_ORIGINS": "*"},
    "every host": {"GATEWAY_ALLOWED_HOSTS": "*"},
    "nobody to let in": {"GATEWAY_TOKEN_SECRET": ""},
    "a short secret": {"GATEWAY_TOKEN_SECRET": "canary-short"},
    "a short seal key": {"GATEWAY_SEAL_KEYS": "a:canary-short"},
    "no bucket": {"GATEWAY_BUCKETS": ""},
    "no key of COS": {"GATEWAY_COS_SECRET_KEY": ""},
    "COS in clear": {"GATEWAY_COS_ENDPOINT": "http://cos.example"},
    "every address a proxy": {"GATEWAY_TRUSTED_PROXIES": "0.0.0.0/0"},
    "every proxy": {"GATEWAY_TRUSTED_PROXIES": "*"},
    "Redis in clear": {"GATEWAY_REDIS_URL": "redis://:canary-password@redis.example"},
}


@pytest.mark.promise(27)
@pytest.mark.parametrize("row", list(INSECURE))
def test_c114_an_insecure_start_is_refused_and_its_setting_named(stack: Stack, row: str) -> None:
    changed = INSECURE[row]
    env = {**{k: v for k, v in stack.gateway.env.items() if not k.startswith("GATEWAY_")}, **GOOD, **changed}

    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"], cwd=ROOT, env=env, capture_output=True, timeout=30, check=False
    )

    said = ended.stdout + ended.stderr
    assert ended.returncode not in (0, -9)
    assert next(iter(changed)).encode() in said
    assert b"canary" not in said
    assert b"Traceback" not in said


LEAKS: Final[dict[str, Callable[[Stack], str]]] = {
    "a token": lambda stack: token("alice"),
    "a ticket": lambda stack: str(stack.caller("alice").create("traps/leak", 1)["ticket"]),
    "our own secret": lambda stack: SECRET,
    "COS's secret": lambda stack: LocalCos.SECRET_KEY,
    "a signature": lambda stack: "q-sign-algorithm=sha1&q-signature=" + "0a" * 20,
}


@pytest.mark.promise(27)
@pytest.mark.parametrize("row", list(LEAKS))
def test_the_search_for_secrets_finds_each_kind(stack: Stack, row: str) -> None:
    assert leaks_in(f'{{"message": "{LEAKS[row](stack)}"}}'.encode())
    assert leaks_in(f'{{"message": "{body(row, 30).hex()}"}}'.encode()) == []


@pytest.mark.promise(27)
def test_secrets_in_the_wrong_places_are_not_written_down(stack: Stack, alice: Caller) -> None:
    """What ``close`` searches for, put wherever a confused client may put it."""
    task = alice.create("traps/places", 1)
    ticket, bearer = task["ticket"], alice.bearer
    for path in (
        f"/v1/tasks/{ticket}",
        f"/v1/tasks/{bearer}",
        f"/{ticket}",
        f"/v1/tasks?cursor={ticket}",
        f"/?{bearer}",
    ):
        assert alice.call("GET", path).status_code in (200, 400, 404)
    headers = {"X-Request-Id": ticket, "User-Agent": bearer, "Referer": f"http://x/{ticket}", "X-Any": bearer}
    good(alice.call("GET", "/v1/tasks", headers=headers))
    require_problem(alice.call("POST", "/v1/tasks", json={"key": "a", ticket: bearer}), 400, "unknown_field")

    told = stack.gateway.program.log.read_bytes()
    assert leaks_in(told) == []

"""JSON, queries, keys, metadata and destinations that are none: promises C4, rows 83 to 94."""

import json
import re
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.system.stack import MIB, Caller, Stack, body, good, parts_of, read_answer, require_problem
from tests.system.standstill import shortest_standstill

pytestmark = pytest.mark.usefixtures("unharmed")


SIZE: Final = 2 * MIB + 5


@pytest.fixture
def task_id(alice: Caller) -> str:
    """A task of three parts, none of them here yet."""
    found: str = alice.create("tasks/hostile.bin", SIZE, part_size=MIB)["id"]
    return found


def post_json(caller: Caller, raw: str | bytes, **headers: str) -> Any:
    return caller.call("POST", "/v1/tasks", content=raw, headers={"Content-Type": "application/json", **headers})


BODIES: Final[dict[str, tuple[bytes, int, str]]] = {
    "nothing": (b"", 400, "bad_json"),
    "no object": (b"[]", 400, "bad_json"),
    "null": (b"null", 400, "bad_json"),
    "words": (b"key=a", 400, "bad_json"),
    "cut short": (b'{"key":"a"', 400, "bad_json"),
    "two documents": (b'{"key":"a"}{"key":"b"}', 400, "bad_json"),
    "10^5 levels": (b'{"key":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "bad_json"),
    "33 levels": (b'{"key":' + b"[" * 33 + b"]" * 33 + b"}", 400, "bad_json"),
    "a number of 5,000 digits": (b'{"key":"a","size":' + b"1" * 5000 + b"}", 400, "bad_json"),
    "NaN": (b'{"key":"a","size":NaN}', 400, "bad_json"),
    "a member twice": (b'{"key":"a","key":"b"}', 400, "bad_json"),
    "a lone surrogate": (b'{"key":"\\ud800"}', 400, "bad_json"),
    "a lone surrogate in a name": (b'{"key":"a","\\udfff":1}', 400, "bad_json"),
    "a byte order mark": (b'\xef\xbb\xbf{"key":"a"}', 400, "bad_json"),
    "UTF-16": ('{"key":"a"}'.encode("utf-16"), 400, "bad_json"),
    "no UTF-8": (b'{"key":"\xff"}', 400, "bad_json"),
    "a raw NUL": (b'{"key":"a\0b"}', 400, "bad_json"),
    "a comment": (b'{"key":"a"/* */}', 400, "bad_json"),
    "1 MiB and a byte": (b'{"key":"' + b"a" * MIB + b'"}', 413, "body_too_large"),
    "20 MiB": (b" " * 20 * MIB, 413, "body_too_large"),
    "tenant": (b'{"key":"a","tenant":"other"}', 400, "unknown_field"),
    "owner": (b'{"key":"a","owner":"other"}', 400, "unknown_field"),
    "state": (b'{"key":"a","state":"success"}', 400, "unknown_field"),
    "id": (b'{"key":"a","id":"mine"}', 400, "unknown_field"),
    "upload_id": (b'{"key":"a","upload_id":"mine"}', 400, "unknown_field"),
    "version": (b'{"key":"a","version":7}', 400, "unknown_field"),
    "__proto__": (b'{"key":"a","__proto__":{"x":1}}', 400, "unknown_field"),
    "a name that is markup": (b'{"key":"a","<script>":1}', 400, "unknown_field"),
    "half a million numbers": (b'{"key":[' + b"1," * 500_000 + b"1]}", 400, "bad_json"),
    "90,000 unknown members": (
        b'{"key":"a",' + b",".join(b'"%x":1' % number for number in range(90_000)) + b"}",
        400,
        "bad_json",
    ),
    "30,000 entries of metadata": (
        b'{"key":"a","meta":{' + b",".join(b'"%x":1' % number for number in range(30_000)) + b"}}",
        400,
        "bad_json",
    ),
    "10,000 digests that are none": (
        b'{"key":"a","fingerprint":{"size":1,"parts_md5":[' + b'"x",' * 9_999 + b'"x"]}}',
        400,
        "invalid_field",
    ),
}


@pytest.mark.parametrize("row", list(BODIES))
def test_c83_c84_a_body_that_is_not_our_json_creates_nothing(alice: Caller, row: str) -> None:
    raw, status, code = BODIES[row]
    document = require_problem(post_json(alice, raw), status, code)

    assert "script" not in json.dumps(document), "input is never echoed"
    assert good(alice.call("GET", "/v1/tasks"))["tasks"] == []


HEAVY: Final = [row for row, (raw, _, _) in BODIES.items() if 30_000 < len(raw) < 2 * MIB]
STALL_SECONDS: Final = 0.1


@pytest.mark.parametrize("row", HEAVY)
def test_c83_no_body_keeps_the_others_waiting(stack: Stack, alice: Caller, row: str) -> None:
    raw = BODIES[row][0]

    assert shortest_standstill(stack.gateway, lambda: post_json(alice, raw), STALL_SECONDS) < STALL_SECONDS


@pytest.mark.parametrize("row", ["no object", "10^5 levels", "NaN", "a lone surrogate", "a byte order mark", "20 MiB"])
def test_c83_the_same_holds_for_complete(alice: Caller, task_id: str, row: str) -> None:
    raw, status, code = BODIES[row]
    answer = alice.control(task_id, "complete", content=raw, headers={"Content-Type": "application/json"})

    require_problem(answer, status, code)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "multipart/form-data", "x"],
)
def test_c83_json_comes_as_json(alice: Caller, content_type: str) -> None:
    answer = alice.call("POST", "/v1/tasks", content=b'{"key":"a"}', headers={"Content-Type": content_type})

    require_problem(answer, 415, "unsupported_media_type")


def test_c83_json_is_not_inflated(alice: Caller) -> None:
    answer = post_json(alice, b"\x1f\x8b", **{"Content-Encoding": "gzip"})

    require_problem(answer, 415, "content_encoding_unsupported")


QUERIES = [
    "limit=1000000000",
    "limit=0",
    "limit=-1",
    "limit=101",
    "limit=1e2",
    "limit=%D9%A1",
    "limit=",
    "limit=1&limit=2",
    "cursor=junk",
    "cursor=" + "A" * 3000,
    "cursor=%00",
    "state=uploading,",
    "state=*",
    "state=Waiting",
    "state=",
    "owner=victim",
    "order=asc",
    "%E4%BD%A0=1",
    "state=%FF",
    "limit=1&%ED%A0%80=1",
]


@pytest.mark.parametrize("query", QUERIES)
def test_c85_a_query_that_means_nothing_lists_nothing(alice: Caller, query: str) -> None:
    require_problem(alice.call("GET", f"/v1/tasks?{query}"), 400, "bad_query")


def test_c85_another_s_cursor_leads_nowhere(stack: Stack, alice: Caller) -> None:
    tasks = [alice.create(f"tasks/page-{number}", 1) for number in range(3)]
    page = good(alice.call("GET", "/v1/tasks?limit=2"))
    cursor = page["next_cursor"]
    flipped = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")

    require_problem(stack.caller("mallory").call("GET", f"/v1/tasks?cursor={cursor}"), 400, "bad_query")
    require_problem(alice.call("GET", f"/v1/tasks?cursor={flipped}"), 400, "bad_query")
    require_problem(alice.call("GET", f"/v1/tasks?cursor={tasks[0]['ticket']}"), 400, "bad_query")
    rest = good(alice.call("GET", f"/v1/tasks?limit=2&cursor={cursor}"))
    assert [task["key"] for task in page["tasks"] + rest["tasks"]] == [f"tasks/page-{n}" for n in (2, 1, 0)]
    assert rest["next_cursor"] is None


@pytest.mark.promise(21)
def test_c85_a_list_costs_redis_what_its_limit_says_however_many_tasks_there_are(stack: Stack, alice: Caller) -> None:
    files = [{"key": f"tasks/many-{number}", "size": 1} for number in range(100)]
    good(alice.call("POST", "/v1/batches", json={"files": files}), 201)
    before = redis_calls(stack)
    page = good(alice.call("GET", "/v1/tasks?limit=1&state=success"))
    spent = {name: calls - before.get(name, 0) for name, calls in redis_calls(stack).items()}

    assert page["tasks"] == []
    assert page["next_cursor"], "it looked at some and says where to go on"
    assert 1 <= spent["zrevrangebylex"] <= 10
    assert 1 <= spent["hmget"] <= 20, "of a hundred"
    assert not spent.get("hgetall")
    assert not {"keys", "scan"} & {name for name, calls in spent.items() if calls}


def redis_calls(stack: Stack) -> dict[str, int]:
    """How often Redis was asked for what, since it began."""
    told = stack.redis.text("INFO", "commandstats")
    return {name: int(calls) for name, calls in re.findall(r"cmdstat_([a-z|]+):calls=(\d+)", told)}


KEYS: Final[dict[str, str]] = {
    "nothing": "",
    "a dot segment": "../x",
    "a dot segment inside": "a/../b",
    "a dot segment at the end": "a/..",
    "a single dot": "a/./b",
    "only dots": "..",
    "a leading slash": "/a",
    "a leading backslash": "\\a",
    "NUL": "a\0b",
    "CR LF": "a\r\nX: y",
    "tab": "a\tb",
    "DEL": "a\x7fb",
    "C1 control": "a\x85b",
    "line separator": "a\u2028b",
    "851 bytes": "x" * 851,
    "851 bytes of Chinese": "字" * 283 + "xx",
}


@pytest.mark.promise(26)
@pytest.mark.parametrize("row", list(KEYS))
def test_c86_a_key_that_cos_would_not_keep_is_refused_at_every_door(stack: Stack, alice: Caller, row: str) -> None:
    key = KEYS[row]

    require_problem(post_json(alice, json.dumps({"key": key, "size": 1})), 400, "invalid_key")
    require_problem(alice.call("POST", "/v1/files", params={"key": key}, content=b"x"), 400, "invalid_key")
    if key and not set(key) & set("\r\n"):  # an empty field of a form is none
        require_problem(alice.post_form(key, b"x"), 400, "invalid_key")
    with alice.connect() as connection:
        path = f"/v1/objects/{quote(key, safe='')}"
        connection.sendall(alice.head("PUT", path, "Content-Length: 1") + b"x")
        require_problem(read_answer(connection), 400, ["invalid_key", "bad_request_target"])


@pytest.mark.parametrize("key", ["a%FF", "%ED%A0%80", "a\xe4"])
def test_c86_a_key_that_is_no_utf_8_is_refused_and_not_mended(stack: Stack, alice: Caller, key: str) -> None:
    before = len(stack.cos.journal())
    for method, path in (("POST", f"/v1/files?key={key}"), ("PUT", f"/v1/objects/{key}")):
        with alice.connect() as connection:
            connection.sendall(alice.head(method, path, "Content-Length: 1").decode().encode("latin-1") + b"x")
            require_problem(read_answer(connection), 400, ["bad_query", "invalid_key", "bad_request_target"])

    assert len(stack.cos.journal()) == before


META: Final[dict[str, dict[str, str]]] = {
    "CR LF": {"a": "x\r\nX-Cos-Acl: public-read"},
    "NUL": {"a": "x\0"},
    "more than 2 KiB": {"a": "x" * 2049},
    "more than 2 KiB in all": {f"n{n}": "x" * 200 for n in range(11)},
    "more than 20": {f"n{n}": "x" for n in range(21)},
    "a name in capitals": {"Author": "x"},
    "a name with a space": {"a b": "x"},
    "a name with a colon": {"a:b": "x"},
    "a name with a line break": {"a\r\nx-cos-acl": "public-read"},
    "no name": {"": "x"},
    "Chinese": {"a": "文件"},
}


@pytest.mark.parametrize("row", list(META))
def test_c87_metadata_that_could_be_something_else_is_refused(alice: Caller, row: str) -> None:
    answer = post_json(alice, json.dumps({"key": "a", "size": 1, "meta": META[row]}))

    require_problem(answer, 400, ["invalid_metadata", "invalid_field"])


@pytest.mark.parametrize(
    "name", ["Host", "Authorization", "Content-Length", "Transfer-Encoding", "x-cos-acl", "x-cos-copy-source", "X\r\nY"]
)
def test_c87_headers_that_have_a_name_of_their_own_or_are_not_cos_s_are_refused(alice: Caller, name: str) -> None:
    answer = post_json(alice, json.dumps({"key": "a", "size": 1, "headers": {name: "x"}}))

    require_problem(answer, 400, ["invalid_metadata", "invalid_field"])


DESTINATIONS = [
    {"bucket": "169.254.169.254"},
    {"bucket": "2852039166"},
    {"bucket": "0xA9FEA9FE"},
    {"bucket": "b.cos.ap-x.myqcloud.com@evil"},
    {"bucket": "evil.com#"},
    {"bucket": "evil.com/?"},
    {"bucket": "files-1250000000.evil.com"},
    {"bucket": "files-1250000001"},
    {"bucket": "Files"},
    {"bucket": "f\u0456les"},
    {"bucket": ""},
    {"bucket": "files", "region": "evil.com"},
    {"bucket": "files", "region": "ap-beijing"},
    {"bucket": "files", "region": ""},
    {"region": "ap-guangzhou.evil.com"},
]


@pytest.mark.promise(26)
@pytest.mark.parametrize("told", DESTINATIONS)
def test_c89_there_is_no_destination_but_the_configured_ones(alice: Caller, told: dict[str, str]) -> None:
    require_problem(post_json(alice, json.dumps({"key": "a", "size": 1, **told})), 400, "unknown_destination")
    answer = alice.call("POST", "/v1/files", params={"key": "a", **told}, content=b"x")
    require_problem(answer, 400, "unknown_destination")


@pytest.mark.parametrize(
    "member",
    ["endpoint", "cos_host", "host", "url", "callback", "notify_url", "webhook", "webhook_url", "domain", "Bucket"],
)
def test_c89_c90_there_is_no_member_that_names_a_host(alice: Caller, member: str) -> None:
    told = {"key": "a", "size": 1, member: "http://169.254.169.254/"}

    require_problem(post_json(alice, json.dumps(told)), 400, "unknown_field")


def test_c94_conditions_that_mean_nothing_here_are_ignored(alice: Caller, task_id: str) -> None:
    junk = {
        "Range": "bytes=0-0",
        "If-Range": '"x"',
        "If-Modified-Since": "yesterday",
        "If-None-Match": "*",
        "If-Unmodified-Since": "never",
        "Accept": "application/xml",
        "Accept-Encoding": "x, *;q=0",
    }

    assert good(alice.call("GET", f"/v1/tasks/{task_id}", headers=junk))["id"] == task_id


CLAIMS: Final[dict[str, tuple[dict[str, Any], int, str]]] = {
    "another size": ({"size": SIZE + 1}, 400, "invalid_size"),
    "a negative size": ({"size": -1}, 400, "invalid_field"),
    "a part twice": ({"parts": [{"number": 1}, {"number": 1}]}, 400, "invalid_field"),
    "part 0": ({"parts": [{"number": 0}]}, 400, "invalid_field"),
    "part 10,001": ({"parts": [{"number": 10_001}]}, 400, "invalid_field"),
    "a CRC-64 that is none": ({"crc64": "x"}, 400, "bad_digest"),
    "a CRC-64 as a number": ({"crc64": 5}, 400, "invalid_field"),
    "an unknown member": ({"etag": "x"}, 400, "unknown_field"),
    "another part's ETag": ({"parts": [{"number": n, "etag": '"x"'} for n in (1, 2, 3)]}, 409, "parts_missing"),
}


@pytest.mark.parametrize("row", list(CLAIMS))
def test_a_completion_that_claims_something_else_completes_nothing(
    stack: Stack, alice: Caller, task_id: str, row: str
) -> None:
    told, status, code = CLAIMS[row]
    data = body("claims", SIZE)
    for number, part in enumerate(parts_of(data, MIB), 1):
        good(alice.put_part(task_id, number, part))

    require_problem(alice.control(task_id, "complete", json=told), status, code)
    assert alice.task(task_id)["state"] == "uploading"
    good(alice.control(task_id, "complete"))
    assert stack.cos.read("tasks/hostile.bin") == data


@pytest.mark.parametrize("value", ["x" * 256, "a b", ""])
def test_a_key_of_idempotency_is_short_and_plain(alice: Caller, value: str) -> None:
    answer = alice.call("POST", "/v1/tasks", json={"key": "a"}, headers={"Idempotency-Key": value})

    require_problem(answer, 400, "invalid_field")

"""Whole objects at the local COS: what is stored, what is refused, and that nothing half is ever seen."""

import asyncio
import base64
import random
import socket
from pathlib import Path

import pytest

from gateway.cos.signing import authorization
from gateway.domain.checksums import crc64
from tests.fakes.cos_caller import CosCaller, etag_of, md5
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos

BODY = random.Random(5).randbytes(300_001)


def test_what_was_put_can_be_got_whole_and_in_ranges(caller: CosCaller) -> None:
    caller.call("PUT", "k", body=BODY)

    whole = caller.call("GET", "k")
    middle = caller.call("GET", "k", headers={"Range": "bytes=1000-1999"})
    rest = caller.call("GET", "k", headers={"Range": "bytes=300000-"})
    last = caller.call("GET", "k", headers={"Range": "bytes=-7"})
    over_the_end = caller.call("GET", "k", headers={"Range": "bytes=300000-999999"})
    beyond = caller.call("GET", "k", headers={"Range": "bytes=300001-"})

    assert (whole.status, whole.body, whole.headers["etag"]) == (200, BODY, etag_of(BODY))
    assert (middle.status, middle.body) == (206, BODY[1000:2000])
    assert middle.headers["content-range"] == "bytes 1000-1999/300001"
    assert (rest.body, last.body, over_the_end.body) == (BODY[300_000:], BODY[-7:], BODY[300_000:])
    assert over_the_end.headers["content-range"] == "bytes 300000-300000/300001"
    assert (beyond.status, beyond.code) == (416, "InvalidRange")


def test_a_get_may_ask_for_other_headers(caller: CosCaller) -> None:
    caller.call("PUT", "k", headers={"Content-Type": "text/plain"}, body=b"x")

    answer = caller.call("GET", "k", {"response-content-type": "a/b", "response-cache-control": "no-store"})

    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("a/b", "no-store")


def test_answers_carry_cos_s_own_header_names(caller: CosCaller) -> None:
    names = {name for name, _ in caller.call("PUT", "k", body=b"x").header_list}

    assert {"ETag", "x-cos-hash-crc64ecma", "x-cos-request-id", "Date", "Server", "Content-Length"} == names


def test_the_standard_class_is_not_told(caller: CosCaller) -> None:
    for storage_class in ("STANDARD", "DEEP_ARCHIVE"):
        caller.call("PUT", storage_class, headers={"x-cos-storage-class": storage_class}, body=b"x")

    assert "x-cos-storage-class" not in caller.call("HEAD", "STANDARD").headers
    assert caller.call("HEAD", "DEEP_ARCHIVE").headers["x-cos-storage-class"] == "DEEP_ARCHIVE"


def test_an_empty_object_has_the_crc_of_nothing(caller: CosCaller, cos: RunningCos) -> None:
    answer = caller.call("PUT", "folder/", body=b"")

    assert (answer.status, answer.headers["x-cos-hash-crc64ecma"]) == (200, "0")
    assert cos.read(BUCKET, "folder/") == b""


def test_putting_again_overwrites_and_deleting_forgets(caller: CosCaller, cos: RunningCos) -> None:
    caller.call("PUT", "a/b", headers={"x-cos-meta-a": "1"}, body=b"first")
    caller.call("PUT", "a/b", body=b"second")
    head = caller.call("HEAD", "a/b")

    assert cos.read(BUCKET, "a/b") == b"second"
    assert "x-cos-meta-a" not in head.headers
    assert [caller.call("DELETE", "a/b").status for _ in range(2)] == [204, 204]
    assert caller.call("GET", "a/b").code == "NoSuchKey"
    assert list((cos.data / "cos" / BUCKET.name).iterdir()) == []


def test_a_forbidden_overwrite_is_a_conflict(caller: CosCaller, cos: RunningCos) -> None:
    forbid = {"x-cos-forbid-overwrite": "true"}
    first = caller.call("PUT", "k", headers=forbid, body=b"first")
    second = caller.call("PUT", "k", headers=forbid, body=b"second")

    assert (first.status, second.status, second.code) == (200, 409, "FileAlreadyExists")
    assert cos.read(BUCKET, "k") == b"first"


async def test_a_forbidden_overwrite_is_checked_again_when_the_body_has_come(
    caller: CosCaller, cos: RunningCos
) -> None:
    cos.fault("stall", operation="PutObject")
    forbid = {"x-cos-forbid-overwrite": "true"}
    sending = asyncio.create_task(asyncio.to_thread(caller.call, "PUT", "k", headers=forbid, body=b"late"))
    await cos.until(lambda entries: entries[-1]["fault"] == "stall")
    await asyncio.to_thread(caller.call, "PUT", "k", body=b"came first")
    cos.clear_faults()

    assert (await sending).code == "FileAlreadyExists"
    assert cos.read(BUCKET, "k") == b"came first"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-MD5": base64.b64encode(md5(b"other")).decode()}, "BadDigest"),
        ({"Content-MD5": "not base64"}, "InvalidDigest"),
        ({"Content-MD5": base64.b64encode(b"short").decode()}, "InvalidDigest"),
        ({"x-cos-traffic-limit": "819199"}, "InvalidArgument"),
        ({"x-cos-traffic-limit": "838860801"}, "InvalidArgument"),
        ({"x-cos-traffic-limit": "fast"}, "InvalidArgument"),
        ({"x-cos-acl": "everyone"}, "InvalidArgument"),
        ({"x-cos-grant-read": "100000000011"}, "InvalidArgument"),
        ({"x-cos-storage-class": "CHEAP"}, "NotSupportedStorageClass"),
        ({"x-cos-meta-a": "b" * 2037}, "InvalidArgument"),
        ({"x-cos-meta-a_b": "c"}, "InvalidArgument"),
        ({"x-cos-copy-source": "b/k"}, "NotImplemented"),
        ({"Content-Length": str((5 << 30) + 1)}, "EntityTooLarge"),
    ],
)
def test_a_put_that_cos_would_refuse_stores_nothing(
    caller: CosCaller, cos: RunningCos, headers: dict[str, str], code: str
) -> None:
    answer = caller.call("PUT", "k", headers=headers, body=b"body" if "Content-Length" not in headers else None)

    assert answer.code == code
    assert cos.keys(BUCKET) == []


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-cos-traffic-limit": "819200"}, {}),
        ({}, {"x-cos-traffic-limit": "838860800"}),
        ({"x-cos-meta-a": "b" * 2036}, {}),
        ({"x-cos-grant-full-control": 'id="1",id="2"'}, {}),
        ({"Content-MD5": base64.b64encode(md5(b"body")).decode()}, {}),
    ],
)
def test_limits_themselves_are_allowed(caller: CosCaller, headers: dict[str, str], query: dict[str, str]) -> None:
    assert caller.call("PUT", "k", query, headers=headers, body=b"body").status == 200


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("a" * 851, "KeyTooLong"),
        ("中" * 284, "KeyTooLong"),
        ("/a", "InvalidObjectName"),
        ("a\x1bb", "InvalidObjectName"),
    ],
)
def test_keys_that_cos_does_not_take_are_refused(caller: CosCaller, key: str, code: str) -> None:
    assert caller.call("PUT", key, body=b"x").code == code


def test_a_path_that_is_not_utf8_is_refused(caller: CosCaller) -> None:
    assert caller.send("GET", "/%FF", {"Host": BUCKET.host}).code == "InvalidURI"


def test_a_put_needs_a_length_or_chunks(caller: CosCaller, cos: RunningCos) -> None:
    with socket.create_connection(("127.0.0.1", cos.port)) as connection:
        connection.sendall(_head(caller, "PUT", "/k", {"Connection": "close"}) + b"\r\n")
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"MissingContentLength" in answer


def test_a_body_is_asked_for_only_after_the_signature_holds(caller: CosCaller, cos: RunningCos) -> None:
    """With ``Expect: 100-continue`` a refused request never sends its body."""
    expecting = {"Content-Length": "4", "Expect": "100-continue", "Connection": "close"}
    refused_head = f"PUT /k HTTP/1.1\r\nHost: {BUCKET.host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", cos.port)) as connection:
        connection.sendall(refused_head.encode())
        refused = connection.recv(12)
    with socket.create_connection(("127.0.0.1", cos.port)) as connection:
        connection.sendall(_head(caller, "PUT", "/k", expecting) + b"\r\n")
        asked = connection.recv(65536)
        connection.sendall(b"body")
        answer = connection.makefile("rb").read()

    assert refused == b"HTTP/1.1 403"
    assert asked.startswith(b"HTTP/1.1 100 ")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert cos.read(BUCKET, "k") == b"body"


async def test_a_body_that_breaks_off_stores_nothing(caller: CosCaller, cos: RunningCos) -> None:
    caller.call("PUT", "k", body=b"what was there")
    with socket.create_connection(("127.0.0.1", cos.port)) as connection:
        connection.sendall(_head(caller, "PUT", "/k", {"Content-Length": "100000"}) + b"\r\n" + b"x" * 50_000)
        await cos.until(lambda entries: entries[-1]["received_bytes"] == 50_000)
    entries = await cos.until(lambda entries: bool(entries[-1]["ended"]))

    assert entries[-1]["status"] is None
    assert cos.read(BUCKET, "k") == b"what was there"
    assert list(cos.app.objects.incoming_folder.iterdir()) == []


def test_an_appendable_object_grows_only_at_its_end(caller: CosCaller, cos: RunningCos) -> None:
    def append(key: str, position: str, body: bytes) -> tuple[int, str | None]:
        answer = caller.call("POST", key, {"append": "", "position": position}, body=body)
        return answer.status, answer.code if answer.body else answer.headers["x-cos-next-append-position"]

    caller.call("PUT", "normal", body=b"x")

    assert append("log", "0", BODY) == (200, str(len(BODY)))
    assert append("log", str(len(BODY)), b"tail") == (200, str(len(BODY) + 4))
    assert append("log", "0", b"again") == (409, "AppendPositionErr")
    assert append("new", "1", b"x") == (409, "AppendPositionErr")
    assert append("normal", "1", b"x") == (409, "ObjectNotAppendable")
    assert append("log", "many", b"x") == (400, "InvalidArgument")
    assert cos.read(BUCKET, "log") == BODY + b"tail"
    head = caller.call("HEAD", "log").headers
    assert (head["x-cos-object-type"], head["x-cos-hash-crc64ecma"]) == ("appendable", str(crc64(BODY + b"tail")))


def test_a_put_makes_an_appendable_object_a_normal_one(caller: CosCaller) -> None:
    caller.call("POST", "k", {"append": "", "position": "0"}, body=b"a")
    caller.call("PUT", "k", body=b"b")

    assert caller.call("POST", "k", {"append": "", "position": "1"}, body=b"c").code == "ObjectNotAppendable"


def test_objects_are_files_of_their_own_names_where_that_can_be(caller: CosCaller, cos: RunningCos) -> None:
    for key in ("a/b.txt", "a", "a/b.txt/c", "dir/", "中文 +.bin"):
        caller.call("PUT", key, body=key.encode())

    folder = cos.data / "cos" / BUCKET.name
    assert cos.path(BUCKET, "a/b.txt") == folder / "a" / "b.txt"
    assert cos.path(BUCKET, "中文 +.bin") == folder / "中文 +.bin"
    # These cannot stand beside the files above, so they stand elsewhere, but none is lost.
    assert {cos.path(BUCKET, key).parent.name for key in ("a", "a/b.txt/c", "dir/")} == {".keys"}
    assert all(cos.read(BUCKET, key) == key.encode() for key in cos.keys(BUCKET))


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    with running_local_cos(tmp_path) as cos:
        caller = CosCaller(cos.port, BUCKET, KEY)
        caller.call("PUT", "a//b 中", headers={"x-cos-meta-a": "ä", "x-cos-storage-class": "ARCHIVE"}, body=BODY)
        caller.call("POST", "log", {"append": "", "position": "0"}, body=b"abc")
        before = [caller.call("HEAD", key) for key in ("a//b 中", "log")]
        upload_id = caller.call("POST", "up", {"uploads": ""}).text("UploadId") or ""
        part = caller.call("PUT", "up", {"partNumber": "2", "uploadId": upload_id}, body=BODY)

    with running_local_cos(tmp_path) as cos:
        caller = CosCaller(cos.port, BUCKET, KEY)
        after = [caller.call("HEAD", key) for key in ("a//b 中", "log")]
        listed = caller.call("GET", "up", {"uploadId": upload_id})
        appended = caller.call("POST", "log", {"append": "", "position": "3"}, body=b"def")

        changing = {"date", "x-cos-request-id"}
        assert [answer.status for answer in before] == [200, 200]
        assert [_without(one.headers, changing) for one in after] == [_without(one.headers, changing) for one in before]
        assert cos.read(BUCKET, "a//b 中") == BODY
        assert (listed.texts("PartNumber"), listed.texts("Size")) == (["2"], [str(len(BODY))])
        assert listed.texts("ETag") == [part.headers["etag"]]
        assert (appended.status, cos.read(BUCKET, "log")) == (200, b"abcdef")


def test_the_bucket_is_listed_in_pages(caller: CosCaller) -> None:
    keys = ["a/1", "a/2", "b", "c d/中", "c d/文", "e"]
    for key in keys:
        caller.call("PUT", key, body=b"x")

    first = caller.call("GET", "", {"max-keys": "4"})
    second = caller.call("GET", "", {"max-keys": "4", "marker": first.text("NextMarker") or ""})
    folders = caller.call("GET", "", {"delimiter": "/"})
    encoded = caller.call("GET", "", {"prefix": "c d/", "encoding-type": "url"})

    assert (first.texts("Key"), first.text("IsTruncated")) == (keys[:4], "true")
    assert (second.texts("Key"), second.text("IsTruncated")) == (keys[4:], "false")
    assert folders.texts("Key") == ["b", "e"]
    assert [element.findtext("Prefix") for element in folders.xml.iter("CommonPrefixes")] == ["a/", "c d/"]
    assert encoded.texts("Key") == ["c%20d%2F%E4%B8%AD", "c%20d%2F%E6%96%87"]


def test_a_plus_in_a_query_is_a_space_as_the_python_sdk_writes_it(caller: CosCaller) -> None:
    for key in ("c d", "c+d"):
        caller.call("PUT", key, body=b"x")
    now = int(caller.clock())
    headers = {"Host": BUCKET.host}
    signature = authorization(KEY, "GET", "/", {"prefix": "c d"}, headers, start=now - 9, end=now + 9)

    answer = caller.send("GET", "/?prefix=c+d", {**headers, "Authorization": signature})

    assert answer.texts("Key") == ["c d"]


@pytest.mark.parametrize("query", [{"max-keys": "0"}, {"max-keys": "1001"}, {"max-keys": "x"}, {"encoding-type": "x"}])
def test_a_listing_that_cos_would_refuse_is_refused(caller: CosCaller, query: dict[str, str]) -> None:
    assert caller.call("GET", "", query).code == "InvalidArgument"


@pytest.mark.parametrize(
    ("method", "key", "query", "code"),
    [
        ("GET", "k", {"acl": ""}, "NotImplemented"),
        ("POST", "", {"delete": ""}, "NotImplemented"),
        ("PATCH", "k", {}, "MethodNotAllowed"),
        ("POST", "k", {}, "MethodNotAllowed"),
        ("PUT", "", {}, "MethodNotAllowed"),
    ],
)
def test_what_the_local_cos_cannot_do_it_says(
    caller: CosCaller, method: str, key: str, query: dict[str, str], code: str
) -> None:
    assert caller.call(method, key, query).code == code


def _head(caller: CosCaller, method: str, path: str, headers: dict[str, str]) -> bytes:
    """A signed request's head, to be finished by hand."""
    now = int(caller.clock())
    sent = {"Host": BUCKET.host, **headers}
    signature = authorization(KEY, method, path, {}, sent, start=now - 60, end=now + 60)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, f"Authorization: {signature}", ""]).encode()


def _without(headers: dict[str, str], names: set[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}

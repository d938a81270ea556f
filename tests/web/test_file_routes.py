"""``POST /v1/files`` as a front end meets it: whole gateway, real Redis, local COS."""

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.domain.checksums import crc64
from gateway.domain.parts import MIB
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET, RunningCos
from tests.transfer.kit import random_bytes
from tests.web.rest import Rest, running_rest

SIZES = [0, 1, 65_536, 65_537, MIB, MIB + 1, 5 * MIB]


async def post_form(
    client: httpx.AsyncClient, fields: dict[str, str], data: bytes, name: str = "a.png", content_type: str = "image/png"
) -> httpx.Response:
    """What a browser sends: fields first, the file last."""
    return await client.post("/v1/files", data=fields, files={"file": (name, data, content_type)})


def one_put(cos: RunningCos, key: str) -> bool:
    return {entry["operation"] for entry in cos.journal(key=key)} == {"PutObject"}


@pytest.mark.parametrize("size", SIZES)
async def test_a_form_becomes_an_object_and_a_task(alice: httpx.AsyncClient, cos: RunningCos, size: int) -> None:
    key, data = f"rest/form-{size}.png", random_bytes(size, size)
    answer = await post_form(alice, {"key": key, "client_ref": "row 7"}, data)
    task = answer.json()

    assert answer.status_code == 201
    assert (answer.headers["location"], answer.headers["etag"]) == (f"/v1/tasks/{task['id']}", f'"{task["version"]}"')
    assert (task["state"], task["size"], task["client_ref"]) == ("success", size, "row 7")
    assert task["result"]["crc64"] == str(crc64(data))
    assert cos.read(BUCKET, key) == data
    assert cos.headers(BUCKET, key)["content-type"] == "image/png"
    assert one_put(cos, key) == (size <= MIB)
    assert cos.open_uploads(BUCKET) == []
    assert (await alice.get(answer.headers["location"])).json() == task


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False])
async def test_a_raw_body_becomes_an_object_and_a_task(
    alice: httpx.AsyncClient, cos: RunningCos, size: int, known: bool
) -> None:
    key, data = f"rest/raw-{size}-{known}.bin", random_bytes(size, size)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, size, 100_000):
            yield data[at : at + 100_000]

    answer = await alice.post("/v1/files", params={"key": key}, content=data if known else chunks())

    assert (answer.status_code, answer.json()["state"], answer.json()["size"]) == (201, "success", size)
    assert cos.read(BUCKET, key) == data
    assert one_put(cos, key) == (size <= MIB)
    assert cos.open_uploads(BUCKET) == []


async def test_a_form_s_fields_are_the_task_s_options(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    fields = {
        "bucket": "other",
        "key": "options.bin",
        "size": "5",
        "storage_class": "STANDARD_IA",
        "cache_control": "no-cache",
        "meta-colour": "blue",
        "content_type": "text/css",
    }
    answer = await post_form(alice, fields, b"hello")

    assert answer.json()["bucket"] == OTHER_BUCKET.name
    stored = cos.headers(OTHER_BUCKET, "options.bin")
    assert (stored["x-cos-storage-class"], stored["cache-control"]) == ("STANDARD_IA", "no-cache")
    assert (stored["x-cos-meta-colour"], stored["content-type"]) == ("blue", "text/css")


async def test_a_raw_body_s_options_are_in_its_query_and_headers(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    query = {"key": "rest/raw options", "meta-colour": "blue", "cache_control": "no-cache"}
    headers = {"Content-Type": "text/css", "Content-Encoding": "gzip"}
    answer = await alice.post("/v1/files", params=query, content=b"not gzip at all", headers=headers)

    assert answer.status_code == 201
    stored = cos.headers(BUCKET, "rest/raw options")
    assert (stored["content-type"], stored["content-encoding"]) == ("text/css", "gzip")
    assert (stored["x-cos-meta-colour"], stored["cache-control"]) == ("blue", "no-cache")
    assert cos.read(BUCKET, "rest/raw options") == b"not gzip at all"


async def test_a_raw_body_s_options_may_come_as_cos_s_own_headers(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    headers = {
        "x-cos-meta-Colour": "blue",
        "x-cos-meta-size": "large",
        "x-cos-storage-class": "STANDARD_IA",
        "x-cos-acl": "",
        "x-cos-server-side-encryption": "AES256",
        "Content-Disposition": "attachment",
        "Cache-Control": "no-cache",
    }
    query = {"key": "rest/cos headers", "meta-size": "small"}
    answer = await alice.post("/v1/files", params=query, content=b"hello", headers=headers)

    assert answer.status_code == 201
    stored = cos.headers(BUCKET, "rest/cos headers")
    assert (stored["x-cos-meta-colour"], stored["x-cos-meta-size"]) == ("blue", "small")
    assert (stored["x-cos-storage-class"], stored["content-disposition"]) == ("STANDARD_IA", "attachment")
    assert stored["x-cos-server-side-encryption"] == "AES256"
    assert "cache-control" not in stored  # a browser that reloads a page sends one


@pytest.mark.parametrize("name", ["x-cos-callback", "x-cos-security-token", "x-cos-size", "x-cos-copy-source"])
async def test_a_header_of_cos_that_would_be_lost_is_refused(alice: httpx.AsyncClient, name: str) -> None:
    answer = await alice.post("/v1/files", params={"key": "rest/refused"}, content=b"hello", headers={name: "1"})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_field")


@pytest.mark.parametrize(
    ("claims", "fields", "key"),
    [
        ({}, {}, "rest/文件 1.png"),
        ({"prefix": "rest/alice/"}, {}, "rest/alice/文件 1.png"),
        ({"prefix": "re"}, {}, "rest/文件 1.png"),
        ({}, {"bucket": "other"}, "文件 1.png"),
    ],
)
async def test_a_form_without_a_key_is_named_after_its_file_below_the_prefix(
    rest: Rest, claims: dict[str, Any], fields: dict[str, str], key: str
) -> None:
    async with rest.as_caller("alice", **claims) as alice:
        assert (await post_form(alice, fields, b"x", "dir/文件 1.png")).json()["key"] == key


async def test_headers_tell_of_the_form_and_not_of_the_file_in_it(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    """RFC 1864: a Content-MD5 is of the message's body, and a form's is not its file's."""
    boundary, data = "b", b"hello"
    raw = (
        b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nrest/digest\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + data + b"\r\n--b--\r\n"
    )
    md5 = base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-MD5": md5}
    answer = await alice.post("/v1/files", content=raw, headers=headers)

    assert answer.status_code == 201
    assert cos.read(BUCKET, "rest/digest") == data


@pytest.mark.parametrize("size", [5, 3 * MIB])
async def test_no_other_file_s_md5_becomes_metadata(alice: httpx.AsyncClient, cos: RunningCos, size: int) -> None:
    data = random_bytes(size)
    md5 = hashlib.md5(data, usedforsecurity=False)
    right, other = {"upload_add_meta_md5": "true", "md5": md5.hexdigest()}, {"Content-MD5": "A" * 22 + "=="}
    wrong_option = {**right, "md5": "0" * 32}
    wrong = {**wrong_option, "key": "rest/wrong md5"}
    stored = await post_form(alice, {**right, "key": "rest/right md5"}, data)
    refused = [
        await post_form(alice, wrong, data),
        await alice.post("/v1/files", params=wrong, content=data),
        await alice.put("/v1/objects/rest/wrong md5", params=wrong_option, content=data),
    ]
    disagree = await alice.post("/v1/files", params={**right, "key": "rest/wrong md5"}, content=data, headers=other)

    assert (stored.status_code, cos.headers(BUCKET, "rest/right md5")["x-cos-meta-md5"]) == (201, md5.hexdigest())
    assert [answer.json()["code"] for answer in refused] == ["digest_mismatch"] * 3
    assert (disagree.status_code, disagree.json()["code"]) == (400, "bad_digest")
    assert "rest/wrong md5" not in cos.keys(BUCKET)


@pytest.mark.parametrize("size", [5, 3 * MIB])
async def test_a_raw_body_is_held_against_its_digests(alice: httpx.AsyncClient, cos: RunningCos, size: int) -> None:
    data = random_bytes(size)
    wrong = base64.b64encode(bytes(16)).decode()
    answer = await alice.post("/v1/files?key=rest/wrong", content=data, headers={"Content-MD5": wrong})

    assert (answer.status_code, answer.json()["code"]) == (400, "digest_mismatch")
    assert "rest/wrong" not in cos.keys(BUCKET)


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", {}, 415, "unsupported_media_type"),
        ("", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("", {"Content-Type": "application/octet-stream"}, 400, "invalid_key"),
        ("?key=rest/a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        ("?key=elsewhere", {}, 403, "key_not_allowed"),
        ("?key=rest/a&key=rest/b", {}, 400, "bad_query"),
        ("?key=rest/a&colour=blue", {}, 400, "bad_query"),
        ("?key=rest/a&size=6", {}, 400, "body_incomplete"),
        ("?key=rest/a&size=x", {}, 400, "invalid_field"),
        ("?key=rest/a&bucket=nowhere", {}, 400, "unknown_destination"),
    ],
)
async def test_a_raw_body_that_says_too_little_or_too_much_is_refused(
    alice: httpx.AsyncClient, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await alice.post(f"/v1/files{query}", content=b"hello", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_refused_file_leaves_no_task(alice: httpx.AsyncClient) -> None:
    await alice.post("/v1/files?key=elsewhere", content=b"x" * 100_000)
    await post_form(alice, {"key": "rest/a", "colour": "blue"}, b"x")

    assert (await alice.get("/v1/tasks")).json()["tasks"] == []


@pytest.mark.parametrize("size", [5, 100_000, 2 * MIB])
async def test_a_file_that_stands_already_may_be_kept(alice: httpx.AsyncClient, cos: RunningCos, size: int) -> None:
    key = f"rest/kept-{size}"
    first = await alice.post("/v1/files", params={"key": key}, content=b"first")
    kept = await alice.post("/v1/files", params={"key": key, "forbid_overwrite": "true"}, content=bytes(size))
    replaced = await alice.post("/v1/files", params={"key": key}, content=bytes(size))

    assert (first.status_code, kept.status_code, replaced.status_code) == (201, 409, 201)
    assert kept.json()["code"] == "object_exists"
    assert cos.read(BUCKET, key) == bytes(size)


async def test_a_file_that_cos_takes_long_over_is_202(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, complete_wait_seconds=0.2) as rest, rest.as_caller() as alice:
        cos.fault("padded", operation="CompleteMultipartUpload", seconds=1)
        answer = await alice.post("/v1/files?key=rest/slow", content=bytes(2 * MIB))

    assert (answer.status_code, answer.json()["state"]) == (202, "completing")
    assert cos.read(BUCKET, "rest/slow") == bytes(2 * MIB), "stopping waits for what is under way"


def by_hand(*parts: tuple[str, bytes]) -> dict[str, Any]:
    """A form of parts, each by its Content-Disposition's parameters, as it stands."""
    body = b"".join(
        f"--b\r\nContent-Disposition: form-data; {said}\r\n\r\n".encode() + data + b"\r\n" for said, data in parts
    )
    return {"content": body + b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}


@pytest.mark.parametrize("key", ["", "rest/unfilled.bin"])
async def test_an_input_that_nobody_filled_is_no_empty_file(
    alice: httpx.AsyncClient, cos: RunningCos, key: str
) -> None:
    await post_form(alice, {"key": "rest/unfilled.bin"}, b"precious!")

    answer = await alice.post("/v1/files", **by_hand(('name="key"', key.encode()), ('name="file"; filename=""', b"")))

    assert (answer.status_code, answer.json()["code"]) == (400, "file_missing")
    assert cos.read(BUCKET, "rest/unfilled.bin") == b"precious!"


async def test_inputs_that_nobody_filled_say_nothing(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    names = ["size", "md5", "bucket", "region", "forbid_overwrite", "content_type", "storage_class", "client_ref"]
    fields = dict.fromkeys([*names, "part_size", "traffic_limit", "acl", "meta-a", "key"], "")

    answer = await post_form(alice, fields, b"data", "named.png")

    assert answer.status_code == 201, answer.text
    assert cos.read(BUCKET, "rest/named.png") == b"data"


@pytest.mark.parametrize("said", ['filename="blob"', 'filename="\ufffd.pdf"', f'filename="{"x" * 300}"'])
async def test_no_key_is_made_of_a_name_that_others_may_have(alice: httpx.AsyncClient, said: str) -> None:
    answer = await alice.post("/v1/files", **by_hand((f'name="file"; {said}', b"data")))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_key")
    assert "send a key" in answer.json()["detail"]


async def test_a_name_in_the_charset_that_the_form_declares_is_read(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + "合同.pdf".encode("gbk")
    headers = {"content-type": "multipart/form-data; boundary=b"}
    silent = await alice.post("/v1/files", content=body + b'"\r\n\r\nx\r\n--b--\r\n', headers=headers)
    headers["content-type"] += "; charset=GBK"
    declared = await alice.post("/v1/files", content=body + b'"\r\n\r\nx\r\n--b--\r\n', headers=headers)

    assert (silent.status_code, silent.json()["code"]) == (400, "invalid_key")
    assert declared.status_code == 201, declared.text
    assert cos.read(BUCKET, "rest/合同.pdf") == b"x"

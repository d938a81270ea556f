"""``/v1/objects/{key}`` as a front end meets it: whole gateway, real Redis, local COS."""

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from gateway.domain.checksums import crc64
from gateway.domain.parts import MIB
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET, RunningCos, running_local_cos
from tests.transfer.kit import random_bytes
from tests.web.edge import running_edge
from tests.web.rest import Rest, running_rest

ODD_KEYS = (
    "rest/空 格/a+b&c?d='(1)'.bin",
    "rest//twice//slashed",
    "rest/100%25.txt",
    "rest/a%2Fb",
    "rest/~tilde;semi,comma@at:colon!",
)


@pytest.fixture(scope="module")
def cos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCos]:
    with running_local_cos(tmp_path_factory.mktemp("cos")) as cos:
        yield cos


@pytest.fixture
async def rest(redis_url: str, cos: RunningCos) -> AsyncIterator[Rest]:
    cos.clear_faults()
    async with running_rest(redis_url, cos) as rest:
        yield rest


@pytest.fixture
async def alice(rest: Rest) -> AsyncIterator[httpx.AsyncClient]:
    async with rest.as_caller() as client:
        yield client


def path_of(key: str) -> str:
    """The key's path with every byte escaped but the slashes."""
    return "/v1/objects/" + "".join(c if c == "/" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in key)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_a_key_arrives_exactly_as_it_was_sent(alice: httpx.AsyncClient, cos: RunningCos, key: str) -> None:
    put = await alice.put(path_of(key), content=b"hello")
    head = await alice.head(path_of(key))

    assert (put.status_code, put.json()["key"], put.json()["state"]) == (201, key, "success")
    assert cos.read(BUCKET, key) == b"hello"
    assert (head.status_code, head.headers["content-length"]) == (200, "5")


async def test_an_escaped_slash_is_a_slash_of_the_key(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    await alice.put("/v1/objects/rest/escaped%2Fslash", content=b"1")

    assert cos.read(BUCKET, "rest/escaped/slash") == b"1"


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MIB + 5])
async def test_a_put_of_any_size_is_a_task_of_its_own(alice: httpx.AsyncClient, cos: RunningCos, size: int) -> None:
    data, key = random_bytes(size), f"rest/size/{size}"
    answer = await alice.put(f"/v1/objects/{key}", content=data, params={"client_ref": "mine", "meta-album": "a"})
    task = await alice.get(answer.headers["location"])

    assert answer.status_code == 201
    assert (task.json()["state"], task.json()["size"], task.json()["client_ref"]) == ("success", size, "mine")
    assert task.json()["result"]["crc64"] == str(crc64(data))
    assert cos.read(BUCKET, key) == data
    assert cos.headers(BUCKET, key)["x-cos-meta-album"] == "a"


async def test_an_object_is_put_and_appended_to_with_cos_s_own_headers(
    alice: httpx.AsyncClient, cos: RunningCos
) -> None:
    headers = {"x-cos-meta-album": "a", "x-cos-storage-class": "STANDARD_IA"}
    await alice.put("/v1/objects/rest/said", content=b"x", headers=headers)
    await alice.post("/v1/objects/rest/said-log?append&position=0", content=b"x", headers=headers)

    for key in ("rest/said", "rest/said-log"):
        stored = cos.headers(BUCKET, key)
        assert (stored["x-cos-meta-album"], stored["x-cos-storage-class"]) == ("a", "STANDARD_IA")


async def test_a_key_that_ends_with_a_slash_and_no_body_make_a_folder(
    alice: httpx.AsyncClient, cos: RunningCos
) -> None:
    answer = await alice.put("/v1/objects/rest/folder/")

    assert (answer.status_code, answer.json()["key"]) == (201, "rest/folder/")
    assert cos.read(BUCKET, "rest/folder/") == b""


async def test_a_put_with_another_md5_stores_nothing(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    other = b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    answer = await alice.put("/v1/objects/rest/md5", content=b"hello", headers={"Content-MD5": other})

    assert (answer.status_code, answer.json()["code"]) == (400, "digest_mismatch")
    assert "rest/md5" not in cos.keys(BUCKET)


@pytest.mark.parametrize("method", ["PUT", "HEAD", "POST"])
async def test_a_key_outside_the_prefix_is_refused(alice: httpx.AsyncClient, method: str) -> None:
    query = {"append": "", "position": "0"} if method == "POST" else {}
    answer = await alice.request(method, "/v1/objects/elsewhere/x", params=query, headers={"Content-Length": "0"})

    assert answer.status_code == 403


async def test_a_key_that_is_no_text_is_refused(alice: httpx.AsyncClient) -> None:
    answer = await alice.put("/v1/objects/rest/%ff%fe", content=b"x")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_key")


async def test_a_refused_put_asks_for_no_byte_of_its_body(rest: Rest) -> None:
    asked: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        asked.append(1)
        yield b"x"

    async with rest.as_caller(actions=["head"]) as reader:
        answer = await reader.put("/v1/objects/rest/unread", content=body())

    assert (answer.status_code, answer.json()["code"], asked) == (403, "forbidden", [])


async def test_head_answers_what_cos_does(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    data = random_bytes(1234)
    await alice.put(
        "/v1/objects/rest/head",
        content=data,
        headers={"Content-Type": "image/png"},
        params={"storage_class": "STANDARD_IA", "cache_control": "max-age=60", "meta-who": "me"},
    )
    answer = await alice.head("/v1/objects/rest/head")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "1234"
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers["x-cos-hash-crc64ecma"] == str(crc64(data))
    assert answer.headers["x-cos-storage-class"] == "STANDARD_IA"
    assert answer.headers["x-cos-meta-who"] == "me"
    assert "last-modified" in answer.headers


async def test_head_of_nothing_is_404_and_of_another_bucket_its_own(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    await alice.put("/v1/objects/only-there", content=b"1", params={"bucket": "other"})

    assert (await alice.head("/v1/objects/rest/nothing")).status_code == 404
    assert (await alice.head("/v1/objects/only-there?bucket=other")).status_code == 200
    assert cos.read(OTHER_BUCKET, "only-there") == b"1"
    assert (await alice.head("/v1/objects/only-there?bucket=unknown")).status_code == 400


async def test_appends_follow_one_another(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    first, second = random_bytes(100, 1), random_bytes(3 * MIB, 2)
    url = "/v1/objects/rest/log?append&position="
    one = await alice.post(url + "0", content=first, headers={"Content-Type": "text/plain"})
    two = await alice.post(url + "100", content=second)

    assert (one.status_code, one.json()["next_position"], two.json()["next_position"]) == (200, 100, 100 + 3 * MIB)
    assert two.headers["x-cos-next-append-position"] == str(100 + 3 * MIB)
    assert two.json()["etag"].startswith('"')
    assert cos.read(BUCKET, "rest/log") == first + second
    assert cos.headers(BUCKET, "rest/log")["content-type"] == "text/plain"
    assert (await alice.get("/v1/tasks")).json()["tasks"] == []


async def test_an_append_at_another_position_tells_the_true_one_and_coss_code(alice: httpx.AsyncClient) -> None:
    url = "/v1/objects/rest/position?append&position="
    await alice.post(url + "0", content=b"hello")
    answer = await alice.post(url + "3", content=b"world")

    assert (answer.status_code, answer.json()["code"], answer.json()["expected"]) == (409, "append_position", 5)
    assert answer.json()["cos"]["code"] == "AppendPositionErr"


async def test_a_normal_object_takes_no_append(alice: httpx.AsyncClient) -> None:
    await alice.put("/v1/objects/rest/normal", content=b"hello")
    answer = await alice.post("/v1/objects/rest/normal?append&position=5", content=b"world")

    assert (answer.status_code, answer.json()["code"]) == (409, "object_not_appendable")
    assert answer.json()["cos"]["code"] == "ObjectNotAppendable"


async def test_an_append_needs_its_length(alice: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    answer = await alice.post("/v1/objects/rest/chunked?append&position=0", content=body())

    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


@pytest.mark.parametrize("query", ["", "?position=0", "?append", "?append&position=-1", "?append=1&position=0"])
async def test_a_post_that_is_no_append_is_refused(alice: httpx.AsyncClient, query: str) -> None:
    answer = await alice.post(f"/v1/objects/rest/post{query}", content=b"x")

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")


@pytest.mark.parametrize(("method", "needed"), [("HEAD", "head"), ("POST", "append")])
async def test_each_call_needs_its_action(rest: Rest, method: str, needed: str) -> None:
    query = {"append": "", "position": "0"} if method == "POST" else {}
    url = f"/v1/objects/rest/action/{method}"
    async with rest.as_caller(actions=["create", "upload"]) as without, rest.as_caller(actions=[needed]) as with_it:
        assert (await without.request(method, url, params=query, content=b"")).status_code == 403
        assert (await with_it.request(method, url, params=query, content=b"x")).status_code in (200, 404)


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("size", [0, 5, 700_000, MIB])
async def test_up_to_slice_size_the_gateway_adds_the_md5(alice: httpx.AsyncClient, cos: RunningCos, size: int) -> None:
    data, key = random_bytes(size), f"rest/md5/{size}"
    put = await alice.put(f"/v1/objects/{key}", content=data, params={"upload_add_meta_md5": "true"})
    form = await alice.post(
        "/v1/files",
        data={"key": key + "/form", "upload_add_meta_md5": "true"},
        files={"file": ("a.bin", data)},
    )
    created = await alice.post("/v1/tasks", json={"key": key + "/task", "size": size, "upload_add_meta_md5": True})
    content = await alice.put(f"/v1/tasks/{created.json()['id']}/content", content=data)

    assert (put.status_code, form.status_code, content.status_code) == (201, 201, 200)
    for name in (key, key + "/form", key + "/task"):
        assert cos.headers(BUCKET, name)["x-cos-meta-md5"] == md5_of(data), name


async def test_above_slice_size_the_caller_gives_the_md5(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    data, key = random_bytes(MIB + 1), "rest/md5/large"
    given = {"upload_add_meta_md5": "true", "md5": md5_of(data)}
    put = await alice.put(f"/v1/objects/{key}", content=data, params=given)

    assert put.status_code == 201
    assert cos.headers(BUCKET, key)["x-cos-meta-md5"] == md5_of(data)


async def test_above_slice_size_without_it_nothing_begins(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    asked: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        asked.append(1)
        yield bytes(MIB + 1)

    wanted = {"upload_add_meta_md5": "true"}
    url = "/v1/objects/rest/md5/refused"
    known = await alice.put(url, content=body(), params=wanted, headers={"Content-Length": str(MIB + 1)})
    task = await alice.post("/v1/tasks", json={"key": "rest/md5/refused", "upload_add_meta_md5": True})
    before = list(asked)
    unknown = await alice.put(url, content=body(), params=wanted)

    assert [(answer.status_code, answer.json()["code"]) for answer in (known, task, unknown)] == [
        (400, "invalid_field")
    ] * 3
    assert before == []
    assert cos.open_uploads(BUCKET) == []
    assert "rest/md5/refused" not in cos.keys(BUCKET)


@pytest.mark.parametrize(("key", "heard"), [("rest/expect", 100), ("elsewhere/expect", 403)])
async def test_100_is_sent_only_after_the_policy_agreed(rest: Rest, cos: RunningCos, key: str, heard: int) -> None:
    token = rest.as_caller().headers["authorization"]
    head = f"PUT /v1/objects/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n"
    async with running_edge(rest.gateway.public) as server:
        wire = await server.connect()
        await wire.send(f"{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
        status, _ = await wire.head()
        if status == 100:
            await wire.send(b"hello")
            assert (await wire.answer()).status == 201

    assert status == heard
    assert (key in cos.keys(BUCKET)) == (heard == 100)

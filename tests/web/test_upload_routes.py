"""``/v1/uploads`` as a front end meets it: COS's listings, cut down to the caller's own uploads."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import httpx
import pytest

from gateway.domain.parts import MIB
from tests.fakes.local_cos import BUCKET, RunningCos, running_local_cos
from tests.web.rest import Rest, running_rest


@pytest.fixture(scope="module")
def cos_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCos]:
    with running_local_cos(tmp_path_factory.mktemp("cos")) as cos:
        yield cos


@pytest.fixture
def cos(cos_server: RunningCos) -> RunningCos:
    """The local COS without any upload of another test."""
    for upload in cos_server.app.uploads.all(BUCKET.name):
        cos_server.app.uploads.close(upload)
    return cos_server


@pytest.fixture
async def rest(redis_url: str, cos: RunningCos) -> AsyncIterator[Rest]:
    async with running_rest(redis_url, cos) as rest:
        yield rest


@pytest.fixture
async def alice(rest: Rest) -> AsyncIterator[httpx.AsyncClient]:
    async with rest.as_caller() as client:
        yield client


@pytest.fixture
async def bob(rest: Rest) -> AsyncIterator[httpx.AsyncClient]:
    async with rest.as_caller("bob") as client:
        yield client


async def open_upload(client: httpx.AsyncClient, key: str, **options: object) -> dict[str, str]:
    """A task with an upload at COS."""
    answer = await client.post("/v1/tasks", json={"key": key, "size": 3 * MIB, "part_size": MIB, **options})
    assert answer.status_code == 201, answer.text
    task: dict[str, str] = answer.json()
    return task


async def listed(client: httpx.AsyncClient, **query: object) -> dict[str, list[str]]:
    """Keys and groups of one page."""
    answer = await client.get("/v1/uploads", params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return {"keys": [row["key"] for row in page["uploads"]], "groups": page["common_prefixes"]}


async def test_an_upload_is_listed_with_its_task(alice: httpx.AsyncClient) -> None:
    task = await open_upload(alice, "rest/one", storage_class="STANDARD_IA")
    page = (await alice.get("/v1/uploads")).json()
    row = page["uploads"][0]

    assert (row["key"], row["upload_id"], row["task_id"]) == ("rest/one", task["upload_id"], task["id"])
    assert row["storage_class"] == "STANDARD_IA"
    assert row["initiator"].keys() == row["owner"].keys() == {"id", "display_name"}
    assert row["initiated"].endswith("Z")
    assert (page["bucket"], page["next_cursor"], page["next_key_marker"]) == (BUCKET.name, None, None)


async def test_others_uploads_do_not_exist_but_for_all_tasks(
    rest: Rest, alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    await open_upload(alice, "rest/a/mine")
    await open_upload(bob, "rest/b/theirs")
    async with rest.as_caller("root", actions=["list", "all_tasks"]) as overseer:
        everything = await listed(overseer)

    assert await listed(alice, delimiter="/", prefix="rest/") == {"keys": [], "groups": ["rest/a/"]}
    assert await listed(bob) == {"keys": ["rest/b/theirs"], "groups": []}
    assert everything["keys"] == ["rest/a/mine", "rest/b/theirs"]


async def test_a_token_with_a_prefix_sees_no_further(rest: Rest, alice: httpx.AsyncClient) -> None:
    await open_upload(alice, "rest/in/1")
    await open_upload(alice, "rest/out/1")
    async with rest.as_caller(prefix="rest/in/") as narrow:
        assert await listed(narrow) == {"keys": ["rest/in/1"], "groups": []}
        assert await listed(narrow, prefix="rest/") == {"keys": ["rest/in/1"], "groups": []}
        refused = await narrow.get("/v1/uploads", params={"prefix": "rest/out/"})

    assert (refused.status_code, refused.json()["code"]) == (403, "key_not_allowed")


@pytest.mark.parametrize("by", ["cursor", "markers"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_hold_every_upload_once(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, by: str, limit: int
) -> None:
    keys = [f"rest/页 {n}" for n in (1, 2, 2, 3, 5)]
    for key in keys:
        await open_upload(alice, key)
        await open_upload(bob, key)
    seen: list[str] = []
    query: dict[str, str] = {}
    name = "max_uploads" if by == "markers" else "limit"
    for _ in range(20):
        page = (await alice.get("/v1/uploads", params={name: str(limit), **query})).json()
        assert len(page["uploads"]) <= limit
        seen += [row["upload_id"] for row in page["uploads"]]
        if page["next_cursor"] is None:
            break
        query = {"cursor": page["next_cursor"]}
        if by == "markers":
            query = {"key_marker": page["next_key_marker"], "upload_id_marker": page["next_upload_id_marker"]}

    assert (len(seen), len(set(seen))) == (5, 5)


async def test_keys_are_percent_encoded_when_asked(alice: httpx.AsyncClient) -> None:
    key = "rest/空 格+&.bin"
    await open_upload(alice, key)
    await open_upload(alice, "rest/目/录")

    encoded = await listed(alice, encoding_type="url", delimiter="/", prefix="rest/")
    assert encoded == {"keys": [quote(key, safe="-_.~")], "groups": [quote("rest/目/", safe="-_.~")]}
    assert (await alice.get("/v1/uploads?encoding_type=html")).json()["code"] == "bad_query"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "max_uploads=0",
        "cursor=%21",
        "cursor=AAAA&key_marker=a",
        "unknown=1",
        "prefix=%00",
        "delimiter=%0A",
        "cursor=AAAA",
    ],
)
async def test_a_query_that_means_nothing_is_refused(alice: httpx.AsyncClient, query: str) -> None:
    answer = await alice.get(f"/v1/uploads?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")


async def test_the_parts_that_cos_holds(alice: httpx.AsyncClient) -> None:
    task = await open_upload(alice, "rest/parts")
    for number in (1, 3):
        await alice.put(f"/v1/tasks/{task['id']}/parts/{number}", content=bytes(MIB))
    url = f"/v1/uploads/{task['upload_id']}/parts"
    first = (await alice.get(url, params={"key": "rest/parts", "limit": 1})).json()
    second = (await alice.get(url, params={"key": "rest/parts", "cursor": first["next_cursor"]})).json()
    marked = (await alice.get(url, params={"key": "rest/parts", "part_number_marker": 1})).json()
    fewest = (await alice.get(url, params={"key": "rest/parts", "limit": 2, "max_parts": 1})).json()

    assert [part["number"] for part in first["parts"] + second["parts"]] == [1, 3]
    assert (first["next_cursor"], second["next_cursor"]) == ("1", None)
    assert (marked["parts"], fewest["parts"]) == (second["parts"], first["parts"])
    assert first["parts"][0].keys() == {"number", "size", "etag", "crc64", "last_modified"}
    assert (first["upload_id"], first["key"]) == (task["upload_id"], "rest/parts")


async def test_delete_cancels_the_task_and_leaves_nothing_at_cos(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    task = await open_upload(alice, "rest/abort")
    url = f"/v1/uploads/{task['upload_id']}"
    answers = [await alice.delete(url, params={"key": "rest/abort"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert (answers[0].json()["id"], answers[0].json()["state"]) == (task["id"], "canceled")
    assert cos.open_uploads(BUCKET) == []
    assert (await alice.get(f"/v1/tasks/{task['id']}")).json()["state"] == "canceled"


async def test_what_is_not_the_callers_is_not_there(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, cos: RunningCos
) -> None:
    task = await open_upload(alice, "rest/private")
    url = f"/v1/uploads/{task['upload_id']}"
    asked = [
        await bob.get(url + "/parts?key=rest/private"),
        await bob.delete(url + "?key=rest/private"),
        await alice.delete(url + "?key=rest/other"),
        await alice.delete("/v1/uploads/unknown?key=rest/private"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in asked] == [(404, "task_not_found")] * 4
    assert cos.open_uploads(BUCKET) == ["rest/private"]
    assert (await alice.delete(url)).json()["code"] == "invalid_key"


async def test_an_upload_that_cos_dropped_is_lost(alice: httpx.AsyncClient, cos: RunningCos) -> None:
    task = await open_upload(alice, "rest/dropped")
    for upload in cos.app.uploads.all(BUCKET.name):
        cos.app.uploads.close(upload)
    answer = await alice.get(f"/v1/uploads/{task['upload_id']}/parts?key=rest/dropped")

    assert (answer.status_code, answer.json()["code"]) == (410, "upload_lost")


async def test_a_thousand_uploads_are_listed_for_a_few_calls(rest: Rest, alice: httpx.AsyncClient) -> None:
    for start in range(0, 1000, 10):
        await asyncio.gather(*(open_upload(alice, f"rest/{n:04}") for n in range(start, start + 10)))
    await alice.get("/v1/uploads")  # looks once whether the index is whole
    rest.cos.clear_journal()
    calls, seconds = redis_calls(rest), []
    for _ in range(5):
        began = time.thread_time()  # the local COS has a thread of its own
        page = (await alice.get("/v1/uploads")).json()
        seconds.append(time.thread_time() - began)
        assert len(page["uploads"]) == 1000

    assert len(rest.cos.journal("ListMultipartUploads")) == len(rest.cos.journal()) == 5
    assert redis_calls(rest) - calls <= 5 * 4  # whose index is whole, which is first and still there, whose each is
    assert min(seconds) < 0.25  # 40 ms of CPU


def redis_calls(rest: Rest) -> int:
    """How many calls to Redis lists of uploads made."""
    counts = re.findall(
        r'^gateway_redis_call_seconds_count{call="(?:uploads|zrangebylex|find_uploads|glance)"} (\S+)$',
        rest.gateway.metrics.exposition().decode(),
        re.MULTILINE,
    )
    return sum(int(float(count)) for count in counts)


async def test_s11_uploads_are_listed_where_the_index_does_not_tell(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.upload_index.TASKS_MOST", 0)
    for number in range(3):
        await open_upload(bob, f"rest/a{number}")
        await open_upload(alice, f"rest/b{number}")

    assert (await listed(alice))["keys"] == [f"rest/b{number}" for number in range(3)]

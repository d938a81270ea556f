"""The upload client that pages import, used as code written for Tencent's cos-js-sdk-v5 uses that."""

import base64
import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page

import gateway
from tests.browser.console import MIB
from tests.browser.stack import Stack
from tests.browser.test_control import FILM_BYTES, hold_after
from tests.fakes.local_cos import BUCKET
from tests.tools import require_node_package, require_tool

CONSOLE: Final = Path(gateway.__file__).parent / "console"
MOST_BYTES: Final = 13 << 10
MOST_BYTES_IN_ALL: Final = 15 << 10
_SETUP: Final = """async ([token, at]) => {
    const { UploadGateway } = await import("/console/upload.js");
    window.uploads = new UploadGateway({ gateway: location.origin, token, FileParallelLimit: 2 });
    window.at = { Bucket: at[0], Region: at[1] };
    window.chosen = document.getElementById("one-file").files;
    window.seen = [];
    window.ended = [];
    window.lists = [];
    uploads.on("list-update", ({ list }) => lists.push(list));
    window.params = (Key, more) => ({
        ...at, Bucket: at[0], Region: at[1], Key, Body: chosen[0],
        onTaskReady: (id) => { window.id = id; },
        onProgress: (now) => seen.push(now),
        ...more,
    });
    window.callback = (error, data) => ended.push(error ? { code: error.code, statusCode: error.statusCode,
        inner: error.error.Code, message: error.message } : data);
}"""


@pytest.fixture
def page(stack: Stack, browser: Browser, request: pytest.FixtureRequest, film: Path) -> Iterator[Page]:
    """A page of the gateway's own origin with a client `uploads`, and the film as its only chosen file."""
    page = browser.new_page(bypass_csp=True)
    page.goto(stack.url)
    page.set_input_files("#one-file", film)
    begin(page, stack.token(request.node.name))
    yield page
    page.close()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(random.Random(tmp_path.name).randbytes(FILM_BYTES))
    return path


def begin(page: Page, token: str) -> None:
    page.evaluate(_SETUP, [token, [BUCKET.name, BUCKET.region]])


def three_parts_stored(entries: list[dict[str, Any]]) -> bool:
    stored = [entry for entry in entries if entry["operation"] == "UploadPart" and entry["status"] == 200]
    return len(stored) >= 3


def state_of(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("uploads.getTaskList().find((task) => task.id === id)")
    return found


def wait_for_state(page: Page, state: str) -> dict[str, Any]:
    page.wait_for_function("state => uploads.getTaskList().find((task) => task.id === id)?.state === state", arg=state)
    return state_of(page)


def minified(*more: str) -> bytes:
    """The client as one file, without what it imports only later."""
    esbuild = require_node_package("esbuild") / "bin" / "esbuild"
    command = [require_tool("node"), str(esbuild), str(CONSOLE / "upload.js"), "--bundle", "--minify", "--format=esm"]
    return subprocess.run([*command, *more], capture_output=True, check=True).stdout


def test_the_client_and_all_that_an_upload_loads_take_under_13_kb_minified() -> None:
    """Without what only the comparison of contents needs: browsers load that when an upload of the same key is open."""
    client = minified("--external:./resume.js")

    assert b"UploadGateway" in client
    assert len(client) < MOST_BYTES


def test_with_the_comparison_of_contents_the_client_takes_under_15_kb_minified() -> None:
    assert len(minified()) < MOST_BYTES_IN_ALL


def test_a_large_file_answers_as_the_sdk_does(page: Page, stack: Stack, film: Path) -> None:
    data = page.evaluate("uploads.uploadFile(params('films/大 a+b.mp4', { SliceSize: 1048576 }))")

    host = f"{BUCKET.name}.cos.{BUCKET.region}.myqcloud.com"
    assert data.pop("headers")["etag"] == data["ETag"]
    assert data.pop("UploadId")
    assert data == {
        "statusCode": 200,
        "Location": f"{host}/films/%E5%A4%A7%20a%2Bb.mp4",
        "Bucket": BUCKET.name,
        "Key": "films/大 a+b.mp4",
        "ETag": data["ETag"],
    }
    assert data["ETag"].endswith('-7"')
    assert stack.stored("films/大 a+b.mp4") == film.read_bytes()


@pytest.mark.parametrize(
    "given",
    [
        *("Body: undefined", "Body: null", "Body: {}", "Body: { data: 'x' }", "Body: 5", "Body: [1]", "Body: chosen"),
        "FilePath: 'a.mp4', Body: undefined",
    ],
)
def test_what_is_no_content_is_an_error_and_not_an_empty_object(page: Page, stack: Stack, given: str) -> None:
    page.evaluate("uploads.putObject(params('precious', { Body: 'precious' }))")

    page.evaluate(f"uploads.uploadFile(params('precious', {{ {given} }}), callback)")
    page.wait_for_function("ended.length")

    [ended] = page.evaluate("ended")
    assert (ended["code"], "missing content" in ended["message"]) == ("file_unreadable", True)
    assert stack.stored("precious") == b"precious"


def test_content_that_is_empty_on_purpose_is_stored(page: Page, stack: Stack) -> None:
    page.evaluate("uploads.putObject(params('empty', { Body: '' }))")
    page.evaluate("uploads.putObject(params('view', { Body: new Uint8Array([1, 2, 3, 4]).subarray(1, 3) }))")

    assert (stack.stored("empty"), stack.stored("view")) == (b"", b"\2\3")


def test_two_files_of_one_call_never_become_one_object(page: Page, stack: Stack) -> None:
    results = page.evaluate(
        """uploads.uploadFiles({
            files: ["one", "two", "three"].map((Body, index) => params(`alike${index % 2}`, { Body })),
        }).then(({ files }) => files.map(({ error }) => error?.code ?? "stored"))"""
    )

    assert results == ["stored", "stored", "invalid_key"]
    assert (stack.stored("alike0"), stack.stored("alike1")) == (b"one", b"two")


def test_an_upload_whose_last_parts_another_client_sends_has_arrived(
    page: Page, stack: Stack, film: Path, request: pytest.FixtureRequest
) -> None:
    """COS still has not answered for its parts when the object stands, so that nobody can compare those."""
    token = stack.token(request.node.name)
    for number in (4, 5, 6):
        stack.cos.fault("stall", operation="UploadPart", part_number=number)
    page.evaluate("void uploads.uploadFile(params('others'), callback)")
    stack.until(lambda entries: sum(entry["operation"] == "UploadPart" for entry in entries) == 6)

    [task] = stack.tasks(token)
    stack.finish(token, task, film.read_bytes())
    stack.cos.clear_faults()
    page.wait_for_function("ended.length")

    assert page.evaluate("ended[0].statusCode") == 200
    assert stack.stored("others") == film.read_bytes()


def test_progress_only_grows_and_is_whole_only_at_the_end(page: Page) -> None:
    page.evaluate("uploads.uploadFile(params('grows'))")
    page.wait_for_function("seen.at(-1)?.percent === 1")

    seen = page.evaluate("seen")
    assert [set(now) for now in seen] == [{"loaded", "total", "speed", "percent"}] * len(seen)
    assert [now["loaded"] for now in seen] == sorted(now["loaded"] for now in seen)
    assert [now["percent"] for now in seen[:-1] if now["percent"] >= 1] == []
    assert seen[-1] == {"loaded": FILM_BYTES, "total": FILM_BYTES, "speed": seen[-1]["speed"], "percent": 1}


def test_the_list_tells_every_state_and_what_the_sdk_tells(page: Page) -> None:
    page.evaluate("uploads.sliceUploadFile(params('listed'))")
    page.wait_for_function("lists.at(-1)[0].state === 'success'")

    entry = page.evaluate("lists.at(-1)[0]")
    expected = {"Bucket": BUCKET.name, "Region": BUCKET.region, "Key": "listed", "state": "success"}
    assert entry.items() >= {**expected, "size": FILM_BYTES, "loaded": FILM_BYTES, "percent": 1, "error": None}.items()
    assert entry["id"] == page.evaluate("id")


def test_a_small_file_goes_in_one_piece_with_its_options(page: Page, stack: Stack) -> None:
    data = page.evaluate(
        """uploads.putObject(params("note.txt", {
            Body: "hello", ContentType: "text/plain", CacheControl: "max-age=60", StorageClass: "STANDARD_IA",
            "x-cos-meta-a": "b", Headers: { "x-cos-meta-c": "d", "Content-Length": 5, "x-cos-acl": "private" },
        }))"""
    )

    kept = stack.cos.headers(BUCKET, "note.txt")
    assert stack.stored("note.txt") == b"hello"
    assert "UploadId" not in data
    assert {name: kept[name] for name in ("content-type", "cache-control", "x-cos-storage-class")} == {
        "content-type": "text/plain",
        "cache-control": "max-age=60",
        "x-cos-storage-class": "STANDARD_IA",
    }
    assert (kept["x-cos-meta-a"], kept["x-cos-meta-c"], kept["x-cos-acl"]) == ("b", "d", "private")


def test_an_empty_body_makes_a_folder(page: Page, stack: Stack) -> None:
    page.evaluate("uploads.putObject({ ...at, Key: 'folder/', Body: '' })")

    assert "folder/" in stack.cos.keys(BUCKET)


def test_a_paused_file_goes_on_from_its_stored_parts(page: Page, stack: Stack, film: Path) -> None:
    hold_after(stack, 3)
    page.evaluate("uploads.uploadFile(params('paused'), callback)")
    stack.until(three_parts_stored)

    page.evaluate("uploads.pauseTask(id)")
    paused = wait_for_state(page, "paused")
    stack.cos.clear_faults()
    page.evaluate("uploads.restartTask(id)")
    wait_for_state(page, "success")
    page.wait_for_function("ended.length > 0")

    assert paused["loaded"] >= 3 * 4 * MIB
    loaded = page.evaluate("seen.map((now) => now.loaded)")
    assert loaded == sorted(loaded)
    assert [stack.stored_parts("paused").count(number) for number in (1, 2, 3)] == [1, 1, 1]
    assert stack.stored("paused") == film.read_bytes()
    assert page.evaluate("ended.map((data) => data.Key)") == ["paused"]


def test_a_canceled_file_settles_its_promise_and_leaves_nothing(page: Page, stack: Stack) -> None:
    hold_after(stack, 3)
    page.evaluate("window.promise = uploads.sliceUploadFile(params('gone')).catch((error) => error.code); 0")
    stack.until(three_parts_stored)

    page.evaluate("uploads.cancelTask(id)")

    assert page.evaluate("promise") == "task_canceled"
    assert state_of(page)["state"] == "canceled"
    stack.cos.clear_faults()
    stack.until(lambda entries: any(entry["operation"] == "AbortMultipartUpload" for entry in entries))
    assert "gone" not in stack.cos.open_uploads(BUCKET)
    assert "gone" not in stack.cos.keys(BUCKET)


def test_a_cancel_without_a_network_settles_at_once_and_reaches_the_gateway_later(page: Page, stack: Stack) -> None:
    hold_after(stack, 3)
    page.evaluate("window.promise = uploads.sliceUploadFile(params('offline')).catch((error) => error.code); 0")
    stack.until(three_parts_stored)
    page.context.set_offline(True)

    page.evaluate("void uploads.cancelTask(id)")

    assert page.evaluate("promise") == "task_canceled"
    assert state_of(page)["state"] == "canceled"
    stack.cos.clear_faults()
    page.context.set_offline(False)
    stack.until(lambda entries: any(entry["operation"] == "AbortMultipartUpload" for entry in entries))
    assert "offline" not in stack.cos.open_uploads(BUCKET)


def test_a_file_canceled_in_the_queue_never_starts(page: Page, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)
    page.evaluate("['q1', 'q2', 'q3'].forEach((Key) => uploads.uploadFile(params(Key), callback))")
    page.wait_for_function("uploads.getTaskList().filter((task) => task.state === 'uploading').length === 2")

    page.evaluate("uploads.cancelTask(id)")
    page.wait_for_function("ended.length === 1")
    stack.cos.clear_faults()
    page.wait_for_function("ended.length === 3")

    assert page.evaluate("ended.map((end) => end.code ?? end.Key).sort()") == ["q1", "q2", "task_canceled"]
    assert "q3" not in stack.cos.keys(BUCKET)


def test_a_restart_after_an_error_clears_it(page: Page, stack: Stack, film: Path) -> None:
    stack.cos.fault("error", operation="UploadPart", part_number=5, times=None, status=403, code="AccessDenied")
    page.evaluate("uploads.uploadFile(params('denied'), callback)")
    failed = wait_for_state(page, "error")
    page.wait_for_function("ended.length === 1")
    stack.cos.clear_faults()

    page.evaluate("uploads.restartTask(id)")
    done = wait_for_state(page, "success")
    page.wait_for_function("ended.length === 2")

    first, second = page.evaluate("ended")
    assert failed["error"] is not None
    assert done["error"] is None
    assert (first["code"], first["inner"], first["statusCode"]) == ("AccessDenied", "AccessDenied", 403)
    assert second["Key"] == "denied"
    assert stack.stored("denied") == film.read_bytes()


def test_several_files_end_in_their_order_and_one_failing_stops_none(page: Page, stack: Stack) -> None:
    result = page.evaluate(
        """() => new Promise((resolve) => uploads.uploadFiles({
            files: [
                { ...at, Key: "one", Body: chosen[0] }, { ...at, Key: "/bad//../key", Body: "x" },
                { ...at, Key: "three", Body: "three" },
            ],
            onProgress: (now) => seen.push(now),
            onFileFinish: (error, data, options) => ended.push([Boolean(error), data?.Key, options.Index]),
        }, (error, data) => resolve({
            error,
            files: data.files.map(({ error, data, options }) => [error?.statusCode, data?.Key, options.Key]),
        })))"""
    )

    assert result["error"] is None
    assert result["files"] == [[None, "one", "one"], [400, None, "/bad//../key"], [None, "three", "three"]]
    assert sorted(page.evaluate("ended"), key=str) == [[False, "one", 0], [False, "three", 2], [True, None, 1]]
    assert {now["total"] for now in page.evaluate("seen")} == {FILM_BYTES + 1 + 5}
    assert stack.stored("three") == b"three"


def test_the_limit_of_files_holds_over_separate_calls(page: Page) -> None:
    page.evaluate("Promise.all([1, 2, 3, 4, 5].map((Key) => uploads.uploadFile(params(`limit/${Key}`))))")

    busy = page.evaluate("lists.map((list) => list.filter(({ state }) => /check|upload/.test(state)).length)")
    assert max(busy) == 2


def test_a_batch_has_a_limit_of_its_own_and_is_whole_only_at_its_end(page: Page) -> None:
    page.evaluate(
        """uploads.uploadFiles({
            files: ["one", "two", "three"].map((name) => params(`batch/${name}`, { onProgress: null })),
            FileParallelLimit: 1,
            onProgress: (now) => seen.push(now),
        })"""
    )
    page.wait_for_function("lists.at(-1).every(({ state }) => state === 'success')")

    busy = page.evaluate("lists.map((list) => list.filter(({ state }) => /check|upload/.test(state)).length)")
    seen = page.evaluate("seen")
    assert max(busy) == 1
    assert [now["loaded"] for now in seen] == sorted(now["loaded"] for now in seen)
    assert [now["percent"] for now in seen if now["percent"] == 1] == [1]
    assert seen[-1]["loaded"] == 3 * FILM_BYTES


def break_off(page: Page, stack: Stack, key: str) -> None:
    """Send the film until three of its seven parts are stored, then reload the page."""
    hold_after(stack, 3)
    page.evaluate("key => void uploads.sliceUploadFile(params(key), callback)", key)
    stack.until(three_parts_stored)
    page.reload()
    stack.cos.clear_faults()


def test_the_same_content_goes_on_after_a_reload_whatever_the_file_is_called(
    page: Page, stack: Stack, film: Path, request: pytest.FixtureRequest
) -> None:
    break_off(page, stack, "resumed")
    page.set_input_files("#one-file", film.rename(film.parent / "another name.mp4"))
    begin(page, stack.token(request.node.name))

    page.evaluate(
        """async () => {
            window.hashed = [];
            const onHashProgress = (now) => hashed.push({ ...now, state: uploads.getTaskList()[0].state });
            await uploads.sliceUploadFile(params("resumed", { onHashProgress }));
        }"""
    )

    hashed = page.evaluate("hashed")
    percents = [now["percent"] for now in hashed]
    assert percents == sorted(percents)
    assert len({now["loaded"] for now in hashed}) > 3 * 4
    assert (percents[-1], hashed[-1]["total"]) == (1, FILM_BYTES)
    assert hashed[0]["state"] == "checking"
    assert stack.stored("resumed") == (film.parent / "another name.mp4").read_bytes()
    assert [stack.stored_parts("resumed").count(number) for number in (1, 2, 3)] == [1, 1, 1]
    assert page.evaluate("uploads.getTaskList()[0].hashPercent") == 1


def test_other_content_of_the_same_name_and_size_begins_anew(
    page: Page, stack: Stack, film: Path, request: pytest.FixtureRequest
) -> None:
    break_off(page, stack, "edited")
    film.write_bytes(random.Random("edited").randbytes(FILM_BYTES))
    page.set_input_files("#one-file", film)
    token = stack.token(request.node.name)
    begin(page, token)

    page.evaluate("uploads.sliceUploadFile(params('edited'))")

    assert stack.stored("edited") == film.read_bytes()
    assert sorted(task["state"] for task in stack.tasks(token)) == ["success", "uploading"]
    page.evaluate("id => uploads.cancelTask(id)", page.evaluate("id"))


def test_a_new_file_is_not_read_twice(page: Page) -> None:
    hashed = page.evaluate("uploads.uploadFile(params('fresh', { onHashProgress: (now) => seen.push('hash') }))")

    assert hashed["Key"] == "fresh"
    assert "hash" not in page.evaluate("seen")
    assert (
        page.evaluate("performance.getEntriesByType('resource').filter((e) => /resume|md5/.test(e.name)).length") == 0
    )


def test_the_md5_of_a_file_in_parts_becomes_its_metadata(page: Page, stack: Stack, film: Path) -> None:
    page.evaluate("uploads.uploadFile(params('digested', { UploadAddMetaMd5: true, SliceSize: 1 << 20 }))")
    page.evaluate("uploads.putObject({ ...at, Key: 'digested/small', Body: 'small', UploadAddMetaMd5: true })")

    assert (
        stack.cos.headers(BUCKET, "digested")["x-cos-meta-md5"]
        == hashlib.md5(film.read_bytes(), usedforsecurity=False).hexdigest()
    )
    assert (
        stack.cos.headers(BUCKET, "digested/small")["x-cos-meta-md5"]
        == hashlib.md5(b"small", usedforsecurity=False).hexdigest()
    )


def test_a_wrong_content_md5_is_refused(page: Page, stack: Stack) -> None:
    right = base64.b64encode(hashlib.md5(b"right", usedforsecurity=False).digest()).decode()
    put = """ContentMD5 => Promise.all(["right", "wrong"].map((Body) =>
        uploads.putObject({ ...at, Key: `md5/${Body}`, Body, ContentMD5 }).then(() => "", (error) => error.code)))"""

    assert page.evaluate(put, right) == ["", "digest_mismatch"]
    assert stack.stored("md5/right") == b"right"
    assert "md5/wrong" not in stack.cos.keys(BUCKET)


def test_a_traffic_limit_may_come_as_a_query(page: Page, stack: Stack) -> None:
    limited = """limit => uploads.uploadFile(params("limited", { Query: { "x-cos-traffic-limit": limit } }))
        .catch((error) => error.statusCode)"""

    assert page.evaluate(limited, 1) == 400
    assert page.evaluate(limited, 819_200_00)["Key"] == "limited"


def test_another_token_is_asked_for_when_the_gateway_refuses_one(
    page: Page, stack: Stack, request: pytest.FixtureRequest
) -> None:
    tokens = [stack.token(request.node.name, seconds=-100), stack.token(request.node.name)]
    asked = page.evaluate(
        """async (tokens) => {
            const { UploadGateway } = await import("/console/upload.js");
            const asked = [];
            const getToken = async (refused) => { asked.push(refused); return tokens[asked.length - 1]; };
            await new UploadGateway({ gateway: "", getToken }).putObject({ Key: "late", Body: "x" });
            return asked;
        }""",
        tokens,
    )

    assert asked == [None, tokens[0]]
    assert stack.stored("late") == b"x"


def test_a_token_that_is_no_good_is_an_error(page: Page) -> None:
    code = page.evaluate(
        """async () => {
            const { UploadGateway } = await import("/console/upload.js");
            const uploads = new UploadGateway({ gateway: "", token: "none" });
            return uploads.putObject({ Key: "never", Body: "x" }).catch((error) => error.statusCode);
        }"""
    )

    assert code == 401

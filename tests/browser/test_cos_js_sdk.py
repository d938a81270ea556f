"""Tencent's cos-js-sdk-v5, unmodified, in a real browser on a page of another origin, through the COS door."""

import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page

from tests.system.compared_answers import plain, shown_headers, without_place
from tests.system.cos_door import Door, Key, running_door
from tests.system.stack import MIB, Caller, good
from tests.tools import require_node_package

BODY: Final = random.Random("cos-js-sdk").randbytes(12 * MIB + 11)

_CALL: Final = """async ({key, calls, at}) => {
  const body = await (await fetch("/file.bin")).blob();
  const file = (name) => new File([body], name || "file.bin");
  const cos = new COS({
    Domain: at, Protocol: "http:", ProgressInterval: 1, UploadCheckContentMd5: true,
    ...(key.SecurityToken ? {getAuthorization: (_, done) => done(key)} : key),
  });
  const call = ({method, params, pauseAt, pieces}) => new Promise((resolve) => {
    let progress = null, taskId = null, pauses = 0;
    const given = {...params};
    if (pieces) given.Body = body.slice(...pieces);
    else if (method === "sliceUploadFile" || method === "uploadFile" || given.Body === "file") given.Body = file();
    if (given.files) given.files = given.files.map((row) => ({...row, Body: row.Body === "file" ? file() : row.Body}));
    if (/^(put|upload|slice)/.test(method)) given.onProgress = (now) => {
      progress = now;
      if (!pauseAt || pauses || now.loaded < pauseAt) return;
      pauses += 1;
      cos.pauseTask(taskId);
      setTimeout(() => cos.restartTask(taskId), 300);
    };
    if (pauseAt) given.onTaskReady = (id) => { taskId = id; };
    cos[method](given, (error, data) => resolve({
      error: error && {code: error.code, statusCode: error.statusCode, message: error.message},
      data, progress, pauses,
    }));
  });
  const results = [];
  for (const one of calls) results.push(await call(one));
  return JSON.parse(JSON.stringify(results));
}"""


class _App(BaseHTTPRequestHandler):
    """Somebody's web app: an empty page, and the file that it uploads."""

    def do_GET(self) -> None:
        content = BODY if self.path == "/file.bin" else b"<!doctype html><title>app</title>"
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if self.path == "/file.bin" else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The app's origin. A real one: the browser lets no made-up page reach this machine's addresses."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _App)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="module")
def door(browser: Browser, app: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running_door(tmp_path_factory.mktemp("door"), allowed_origins=app) as door:
        yield door


@pytest.fixture
def dora(door: Door, request: pytest.FixtureRequest) -> Caller:
    door.cos.clear_faults()
    return door.stack.caller(f"dora of {request.node.name}")


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    bundle = require_node_package("cos-js-sdk-v5") / "dist" / "cos-js-sdk-v5.min.js"
    page = browser.new_page()
    page.goto(app)
    page.add_script_tag(path=bundle)
    yield page
    page.close()


class Sdk:
    """The SDK in *page*, with a key of its own."""

    def __init__(self, page: Page, key: Key) -> None:
        self._page = page
        self._key = key

    def run(self, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """What each of *calls*, one after the other, came to."""
        key = self._key
        address = {"Bucket": key.bucket, "Region": key.region}
        own = ("pauseAt", "pieces")
        listed = [
            {
                "method": method,
                "params": {**address, **{name: value for name, value in params.items() if name not in own}},
                **{name: params[name] for name in own if name in params},
            }
            for method, params in calls
        ]
        document: dict[str, Any] = {"SecretId": key.secret_id, "SecretKey": key.secret_key}
        if key.token is not None:
            document = {
                "TmpSecretId": key.secret_id,
                "TmpSecretKey": key.secret_key,
                "SecurityToken": key.token,
                "StartTime": key.start_time,
                "ExpiredTime": key.expired_time,
            }
        found: list[dict[str, Any]] = self._page.evaluate(
            _CALL, {"key": document, "calls": listed, "at": f"127.0.0.1:{key.port}"}
        )
        return found


@pytest.fixture
def sdk(page: Page, door: Door, dora: Caller) -> Sdk:
    return Sdk(page, door.key(dora))


def data_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The data of calls that all succeeded."""
    assert [result["error"] for result in results] == [None] * len(results)
    return [result["data"] for result in results]


def test_every_single_operation(door: Door, sdk: Sdk) -> None:
    name = "js/中文 a+b & c?(1)'.bin"
    put, head, append = data_of(
        sdk.run(
            ("putObject", {"Key": name, "Body": "text body", "ContentType": "text/plain", "x-cos-meta-a": "b"}),
            ("headObject", {"Key": name}),
            ("appendObject", {"Key": "js/log", "Body": "abc", "Position": 0}),
        )
    )
    (begun,) = data_of(sdk.run(("multipartInit", {"Key": "js/m"})))
    upload = {"Key": "js/m", "UploadId": begun["UploadId"]}
    part, listed, uploads = data_of(
        sdk.run(
            ("multipartUpload", {**upload, "PartNumber": 1, "pieces": [0, MIB]}),
            ("multipartListPart", upload),
            ("multipartList", {"Prefix": "js/"}),
        )
    )
    (done,) = data_of(sdk.run(("multipartComplete", {**upload, "Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})))
    (gone,) = sdk.run(("multipartAbort", upload))

    assert door.cos.read(name) == b"text body"
    assert (put["statusCode"], put["headers"]["etag"]) == (200, put["ETag"])
    assert {"x-cos-request-id", "x-cos-hash-crc64ecma"} <= put["headers"].keys()
    assert (head["headers"]["content-length"], head["headers"]["x-cos-meta-a"]) == ("9", "b")
    assert append["headers"]["x-cos-next-append-position"] == "3"
    assert [row["UploadId"] for row in uploads["Upload"]] == [upload["UploadId"]]
    assert listed["Part"][0]["ETag"] == part["ETag"]
    assert done["ETag"].endswith('-1"')
    assert door.cos.read("js/m") == BODY[:MIB]
    assert (gone["error"]["statusCode"], gone["error"]["code"]) == (404, "NoSuchUpload")


def test_a_large_file_paused_midway_arrives_byte_for_byte(door: Door, dora: Caller, sdk: Sdk) -> None:
    door.cos.fault("slow", operation="UploadPart", key="js/paused", times=None, bytes_per_second=8 * MIB)

    (done,) = sdk.run(("sliceUploadFile", {"Key": "js/paused", "ChunkSize": MIB, "pauseAt": 4 * MIB}))

    assert (done["error"], done["pauses"]) == (None, 1)
    assert door.cos.read("js/paused") == BODY
    assert len(door.cos.journal("InitiateMultipartUpload", key="js/paused")) == 1
    (task,) = good(dora.call("GET", "/v1/tasks"))["tasks"]
    assert (task["state"], task["loaded"]) == ("success", len(BODY))


def test_several_files_at_once(door: Door, sdk: Sdk) -> None:
    address = {"Bucket": door.cos.BUCKET, "Region": door.cos.REGION}
    rows = [{**address, "Key": f"js/{name}", "Body": "file"} for name in ("one", "two")]
    rows.append({**address, "Key": "js/small", "Body": "small"})

    (done,) = data_of(sdk.run(("uploadFiles", {"files": rows, "SliceSize": MIB})))

    assert [row["error"] for row in done["files"]] == [None] * 3
    assert [door.cos.read(f"js/{name}") for name in ("one", "two", "small")] == [BODY, BODY, b"small"]


def test_an_error_inside_cos_s_200_is_an_error_here(door: Door, sdk: Sdk) -> None:
    """Straight at COS this SDK reports it as a success."""
    door.cos.fault(
        "error_in_200", operation="CompleteMultipartUpload", key="js/failed", code="InternalError", times=None
    )

    (failed,) = sdk.run(("sliceUploadFile", {"Key": "js/failed", "ChunkSize": 4 * MIB}))

    assert failed["error"]["statusCode"] == 503
    with pytest.raises(FileNotFoundError):
        door.cos.read("js/failed")


def test_the_same_program_at_the_door_and_straight_at_cos_sees_the_same_answers(
    door: Door, dora: Caller, page: Page
) -> None:
    at_door, at_cos = (_told(Sdk(page, key), f"js-{n}") for n, key in enumerate((door.key(dora), door.straight())))

    assert len(at_door) == len(at_cos) > 10
    for pair in zip(at_door, at_cos, strict=True):
        assert pair[0] == pair[1]


def _told(sdk: Sdk, folder: str) -> list[Any]:
    """What the SDK hands to a program that calls everything, the errors among it."""
    (begun,) = data_of(sdk.run(("multipartInit", {"Key": f"{folder}/m"})))
    upload = {"Key": f"{folder}/m", "UploadId": begun["UploadId"]}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("putObject", {"Key": f"{folder}/a b", "Body": "text", "x-cos-meta-a": "b", "ContentType": "text/plain"}),
        ("headObject", {"Key": f"{folder}/a b"}),
        ("headObject", {"Key": f"{folder}/none"}),
        ("appendObject", {"Key": f"{folder}/log", "Body": "abc", "Position": 0}),
        ("appendObject", {"Key": f"{folder}/log", "Body": "abc", "Position": 9}),
        ("multipartUpload", {**upload, "PartNumber": 1, "pieces": [0, MIB]}),
        ("multipartListPart", upload),
        ("multipartList", {"Prefix": folder}),
        ("multipartComplete", {**upload, "Parts": [{"PartNumber": 1, "ETag": '"0123"'}]}),
        ("multipartAbort", upload),
        ("multipartAbort", upload),
        ("sliceUploadFile", {"Key": f"{folder}/sliced", "ChunkSize": 4 * MIB}),
        ("uploadFile", {"Key": f"{folder}/whole", "SliceSize": 16 * MIB}),
    ]
    told = []
    for (method, _), result in zip(calls, sdk.run(*calls), strict=True):
        answer = result.get("data") or result["error"]
        meta = {name: value for name, value in answer.get("headers", {}).items() if name.startswith("x-cos-meta-")}
        answer["headers"] = {**shown_headers(answer.get("headers", {})), **meta}
        answer.pop("message", None)
        told.append((method, without_place(plain(answer), folder)))
    return told


def test_a_page_of_an_origin_that_is_not_listed_may_not(door: Door, dora: Caller, page: Page) -> None:
    gateway, other = door.another(allowed_origins="https://app.example")
    sdk = Sdk(page, other.key(dora.at(gateway)))

    (refused,) = sdk.run(("putObject", {"Key": "js/foreign", "Body": "x"}))

    assert refused["error"] is not None
    with pytest.raises(FileNotFoundError):
        door.cos.read("js/foreign")

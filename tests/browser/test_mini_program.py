"""The upload client of mini-programs, in node with what a mini-program has and without what it lacks."""

import hashlib
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import gateway
from gateway.dev.child import die_with_parent
from tests.browser.console import MIB
from tests.browser.stack import Stack, running_stack
from tests.fakes.local_cos import BUCKET
from tests.tools import NODE_FOLDER, require_tool

CLIENT: Final = Path(gateway.__file__).parent / "console" / "upload-wx.js"
FILM_BYTES: Final = 6 * MIB + 5
_PRELUDE: Final = """
import { createInterface } from "node:readline";
const [, , client, gateway, token, Bucket, Region, FilePath] = process.argv;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = (...what) => console.log(JSON.stringify(what));
const heard = () => lines.next();
const missing = "AbortController AbortSignal BigInt Blob File FormData TextDecoder TextEncoder URL URLSearchParams";
for (const name of `${missing} WebSocket XMLHttpRequest crypto fetch localStorage navigator performance`.split(" "))
  delete globalThis[name];
const { UploadGateway } = await import(client);
const uploads = new UploadGateway({ gateway, token });
let id;
const seen = [];
const params = (Key, more) => ({
  Bucket, Region, Key, FilePath, onTaskReady: (ready) => { id = ready; }, onProgress: (now) => seen.push(now), ...more,
});
const entry = () => uploads.getTaskList().find((task) => task.id === id);
"""


class MiniProgram:
    """A script that runs in node; ``says()`` is the next that it tells, ``hear()`` lets it go on."""

    def __init__(self, stack: Stack, token: str, film: Path, folder: Path, script: str) -> None:
        path = folder / "program.mjs"
        path.write_text(f"{_PRELUDE}{script}\nprocess.exit(0);\n")
        shim = str(NODE_FOLDER / "wx_shim.js")
        at = [stack.url.rstrip("/"), token, BUCKET.name, BUCKET.region, str(film)]
        self.process = subprocess.Popen(
            [require_tool("node"), "--no-warnings", "--require", shim, str(path), CLIENT.as_uri(), *at],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(),
        )

    def says(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait(10)}"
        return json.loads(line)

    def hear(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    require_tool("node")
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def stack(running: Stack) -> Stack:
    running.cos.clear_faults()
    running.cos.clear_journal()
    return running


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(random.Random(tmp_path.name).randbytes(FILM_BYTES))
    return path


@pytest.fixture
def run(stack: Stack, film: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Starts a script."""
    programs: list[MiniProgram] = []

    def start(script: str) -> MiniProgram:
        programs.append(MiniProgram(stack, stack.token(request.node.name), film, tmp_path, script))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def three_parts_stored(entries: list[dict[str, Any]]) -> bool:
    stored = [entry for entry in entries if entry["operation"] == "UploadPart" and entry["status"] == 200]
    return len(stored) >= 3


def hold_after_three(stack: Stack) -> None:
    for number in range(4, 8):
        stack.cos.fault("stall", operation="UploadPart", part_number=number, times=None)


def test_a_small_file_goes_as_one_form_that_tells_its_progress(run: Any, stack: Stack, film: Path) -> None:
    film.write_bytes(random.Random(3).randbytes(700_000))
    program = run(
        """
        const forms = [];
        const uploadFile = wx.uploadFile;
        wx.uploadFile = (options) => { forms.push(options.timeout); return uploadFile(options); };
        const more = { CacheControl: "max-age=1", "x-cos-meta-a": "b", Headers: { "x-cos-meta-c": "d" } };
        uploads.uploadFile(params("photos/猫.jpg", more), (error, data) => told(error, data, seen, forms));
        await heard();
        """
    )

    error, data, seen, forms = program.says()
    kept = stack.cos.headers(BUCKET, "photos/猫.jpg")
    assert error is None
    assert (data["statusCode"], data["Key"], data["Bucket"]) == (200, "photos/猫.jpg", BUCKET.name)
    assert stack.stored("photos/猫.jpg") == film.read_bytes()
    assert (kept["cache-control"], kept["x-cos-meta-a"], kept["x-cos-meta-c"]) == ("max-age=1", "b", "d")
    assert [now["loaded"] for now in seen] == sorted(now["loaded"] for now in seen)
    assert (seen[-1]["loaded"], seen[-1]["total"], seen[-1]["percent"]) == (700_000, 700_000, 1)
    assert forms == [60_000]


def test_a_large_file_goes_in_parts_of_one_mib(run: Any, stack: Stack, film: Path) -> None:
    program = run("told(await uploads.uploadFile(params('films/a b+c.mp4')), seen); await heard();")

    data, seen = program.says()
    assert data["ETag"].endswith('-7"')
    assert stack.stored("films/a b+c.mp4") == film.read_bytes()
    assert [now["loaded"] for now in seen] == sorted(now["loaded"] for now in seen)
    assert [now["percent"] for now in seen if now["percent"] == 1] == [1]


def test_texts_and_bytes_need_no_file(run: Any, stack: Stack) -> None:
    program = run(
        """
        await uploads.putObject({ Bucket, Region, Key: "text", Body: "文字" });
        await uploads.putObject({ Bucket, Region, Key: "bytes", Body: new Uint8Array([0, 255, 7]).buffer });
        told("done");
        """
    )

    assert program.says() == ["done"]
    assert (stack.stored("text"), stack.stored("bytes")) == ("文字".encode(), b"\x00\xff\x07")


def test_what_is_no_content_is_an_error_and_not_an_empty_object(run: Any, stack: Stack) -> None:
    program = run(
        """
        await uploads.putObject({ Bucket, Region, Key: "precious", Body: "precious" });
        const wrong = [
          {}, { FilePath: undefined }, { FilePath: "" }, { filePath: FilePath }, { Body: { data: "x" } }, { Body: 5 },
          { Body: null }, { Body: [1] },
        ];
        const codes = [];
        for (const given of wrong) {
          const end = new Promise((done) => uploads.uploadFile({ Bucket, Region, Key: "precious", ...given }, done));
          codes.push((await end).code);
        }
        await uploads.putObject({ Bucket, Region, Key: "view", Body: new Uint8Array([1, 2, 3, 4]).subarray(1, 3) });
        told(codes);
        await heard();
        """
    )

    [codes] = program.says()
    assert codes == ["file_unreadable"] * 8
    assert (stack.stored("precious"), stack.stored("view")) == (b"precious", b"\2\3")


def test_a_pause_aborts_the_requests_and_a_restart_goes_on(run: Any, stack: Stack, film: Path) -> None:
    hold_after_three(stack)
    program = run(
        """
        let [aborted, sent] = [0, []];
        const request = wx.request;
        wx.request = (options) => {
          const task = request(options);
          if (options.method === "PUT") sent.push(Number(options.url.split("/").pop()));
          return { abort: () => { aborted += 1; task.abort(); } };
        };
        uploads.sliceUploadFile(params("paused"), (error, data) => told(error, data?.Key, seen, sent));
        await heard();
        await uploads.pauseTask(id);
        told(entry().state, aborted);
        await heard();
        sent = [];
        uploads.restartTask(id);
        await heard();
        """
    )
    stack.until(three_parts_stored)
    program.hear()
    assert program.says() == ["paused", 3]
    stack.cos.clear_faults()
    program.hear()

    error, key, seen, sent = program.says()
    assert (error, key, sent[-1]) == (None, "paused", 7)
    assert set(sent) <= {4, 5, 6, 7}, "what was stored is not sent again"
    assert [now["loaded"] for now in seen] == sorted(now["loaded"] for now in seen)
    assert stack.stored("paused") == film.read_bytes()


def test_the_same_content_goes_on_in_another_session(run: Any, stack: Stack, film: Path) -> None:
    hold_after_three(stack)
    first = run("uploads.sliceUploadFile(params('again', { UploadAddMetaMd5: true })); await heard();")
    stack.until(three_parts_stored)
    first.close()
    stack.cos.clear_faults()

    program = run(
        """
        const hashed = [];
        await uploads.sliceUploadFile(params("again", { onHashProgress: ({ percent }) => hashed.push(percent) }));
        told(hashed, entry().hashPercent);
        """
    )

    hashed, percent = program.says()
    assert hashed == sorted(hashed)
    assert (len(hashed) > 3, hashed[-1], percent) == (True, 1, 1)
    assert stack.stored("again") == film.read_bytes()
    assert [stack.stored_parts("again").count(number) for number in (1, 2, 3)] == [1, 1, 1]
    assert (
        stack.cos.headers(BUCKET, "again")["x-cos-meta-md5"]
        == hashlib.md5(film.read_bytes(), usedforsecurity=False).hexdigest()
    )


def test_a_cancel_settles_the_promise_and_leaves_nothing(run: Any, stack: Stack) -> None:
    hold_after_three(stack)
    program = run(
        """
        const promise = uploads.sliceUploadFile(params("gone")).catch((error) => error.code);
        await heard();
        await uploads.cancelTask(id);
        told(await promise, entry().state);
        await heard();
        """
    )
    stack.until(three_parts_stored)
    program.hear()

    assert program.says() == ["task_canceled", "canceled"]
    stack.cos.clear_faults()
    stack.until(lambda entries: any(entry["operation"] == "AbortMultipartUpload" for entry in entries))
    assert "gone" not in stack.cos.open_uploads(BUCKET)


def test_what_the_background_interrupted_goes_on_when_the_app_is_shown(run: Any, stack: Stack, film: Path) -> None:
    """In the background every request fails; the waits between are long by then, and end with the app's return."""
    hold_after_three(stack)
    program = run(
        """
        const [request, shown, running] = [wx.request, new Set(), new Set()];
        let [away, failures, failedOften] = [false, 0];
        const often = new Promise((resolve) => { failedOften = resolve; });
        wx.onAppShow = (listener) => shown.add(listener);
        wx.offAppShow = (listener) => shown.delete(listener);
        wx.request = (options) => {
          if (away) {
            if (++failures === 12) failedOften();
            setTimeout(() => options.fail({ errMsg: "request:fail interrupted" }), 0);
            return { abort() {} };
          }
          const task = request(options);
          if (options.method === "PUT") running.add(task);
          return task;
        };
        const promise = uploads.uploadFile(params("back"));
        await heard();
        away = true;
        for (const task of running) task.abort();
        await often; // by then they wait for seconds
        await heard();
        away = false;
        const since = Date.now();
        while (shown.size < 3) await new Promise((resolve) => setTimeout(resolve, 0));
        [...shown].forEach((listener) => listener());
        told((await promise).Key, Date.now() - since < 1500, shown.size);
        """
    )

    stack.until(three_parts_stored)
    program.hear()
    stack.cos.clear_faults()
    program.hear()

    assert program.says() == ["back", True, 0]
    assert stack.stored("back") == film.read_bytes()


def test_several_files_and_one_that_is_not_there(run: Any, stack: Stack, film: Path) -> None:
    program = run(
        """
        const { files } = await uploads.uploadFiles({
          files: [params("first"), params("second", { FilePath: "/nowhere" }), params("third")],
          onProgress: (now) => seen.push(now),
        });
        told(files.map(({ error, data, options }) => [error ? error.code : data.Key, options.Index]));
        """
    )

    assert program.says() == [[["first", 0], ["file_unreadable", 1], ["third", 2]]]
    assert stack.stored("first") == stack.stored("third") == film.read_bytes()


def test_an_error_has_the_members_of_the_sdks_errors(run: Any, stack: Stack) -> None:
    stack.cos.fault("error", operation="UploadPart", part_number=2, times=None, status=403, code="AccessDenied")
    program = run(
        """
        const error = await uploads.uploadFile(params("denied")).catch((error) => error);
        told(error.code, error.statusCode, error.error.Code, error.message.length > 0);
        told(entry().state, entry().error.code);
        await heard();
        """
    )

    assert program.says() == ["AccessDenied", 403, "AccessDenied", True]
    assert program.says() == ["error", "AccessDenied"]

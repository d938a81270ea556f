"""The README's examples, run as a newcomer runs them: against `dev`, which made everything up by itself."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator
from playwright.sync_api import expect, sync_playwright

from tests.tools import require_tool

_ROOT: Final = Path(__file__).parents[2]
_README: Final = (_ROOT / "README.md").read_text()
_ADDRESS: Final = re.compile(r"(http://[^/\s]+)/#token=")
_FILE: Final = "import { openAsBlob } from 'node:fs'; const file = new File([await openAsBlob('cat.jpg')], 'cat.jpg');"
_HEAD: Final = re.compile(r"HTTP/1\.1 200 .*?\n\n", re.DOTALL)
_SHIM: Final = str(_ROOT / "tests" / "node" / "wx_shim.js")
_REGION: Final = "ap-guangzhou"
_FILM_BYTES: Final = 9_000_000
_EXAMPLE_GATEWAY: Final = "http://127.0.0.1:8080"
_PRELUDE: Final = "const { GATEWAY: gateway, TOKEN: token } = process.env;"
_PAGE: Final = """
globalThis.getApp = () => ({ globalData: { uploadToken: process.env.TOKEN } });
globalThis.Page = (page) => { page.setData = ({ percent }) => console.log(percent); globalThis.page = page; };
wx.chooseMedia = async () => ({
  tempFiles: ["one", "another"].map((folder) => ({ tempFilePath: `./${folder}/chosen.mp4`, size: 9e6 })),
});
wx.showToast = ({ title }) => console.log(title);
"""
_SEND: Final = "await page.send();"
_KEEP_THE_BARS_VALUES: Final = """() => {
  window.shown = [];
  const bar = document.querySelector("progress");
  new MutationObserver(() => shown.push(bar.value)).observe(bar, { attributeFilter: ["value"] });
}"""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Someone in an empty folder, with a gateway at ``env["GATEWAY"]`` and a token."""

    folder: Path
    env: dict[str, str]
    bucket: Path
    app: "App"

    def run(self, *command: str, script: str) -> str:
        """What *command* prints, with *script* on its standard input; a failure shows all it said."""
        ended = subprocess.run(command, cwd=self.folder, env=self.env, input=script, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


class App(ThreadingHTTPServer):
    """A web app of the newcomer's own, on another origin than the gateway: one page, and who signed in gets a token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _AppHandler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.answers = {"/": "", "/upload-token": ""}


class _AppHandler(BaseHTTPRequestHandler):
    server: App

    def do_GET(self) -> None:
        content = self.server.answers.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((content or "").encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with App() as app:
        serving = threading.Thread(target=app.serve_forever, daemon=True)
        serving.start()
        yield app
        app.shutdown()
        serving.join()


def _examples(language: str, heading: str) -> list[str]:
    section = _README.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
    return re.findall(rf"^```{language} tested\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory, app: App) -> Iterator[Newcomer]:
    folder = tmp_path_factory.mktemp("newcomer")
    data = folder / "data"
    env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
    settings = {
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_COS_LISTEN": "",
        "GATEWAY_ADMIN_LISTEN": "",
        "GATEWAY_ALLOWED_ORIGINS": app.origin,
        "GATEWAY_DATA_DIR": str(data),
    }
    command = [sys.executable, "-m", "gateway"]
    with subprocess.Popen(
        [*command, "dev"], cwd=_ROOT, env={**env, **settings}, stdout=subprocess.PIPE, text=True
    ) as dev:
        try:
            assert dev.stdout is not None
            address = next(found[1] for line in dev.stdout if (found := _ADDRESS.search(line)))
            token = subprocess.check_output(
                [*command, "token", "--subject", "alice"], cwd=_ROOT, env={**env, **settings}, text=True
            )
            app.answers["/upload-token"] = token
            everything = {**env, "GATEWAY": address, "TOKEN": token.strip()}
            yield Newcomer(folder, everything, next((data / "cos").glob("*-*")), app)
        finally:
            dev.terminate()


def _documents(text: str) -> list[dict[str, Any]]:
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def _shape(document: dict[str, Any]) -> str:
    """Which of the documented answers *document* must be."""
    by_member = {
        "files": "Batch",
        "uploads": "UploadList",
        "next_position": "Appended",
        "tasks": "TaskList",
        "parts": "PartList",
        "number": "Part",
        "state": "Task",
        "request_id": "Problem",
    }
    return next(name for member, name in by_member.items() if member in document)


def test_the_curl_examples_do_what_they_say(newcomer: Newcomer) -> None:
    require_tool("curl")
    printed = newcomer.run("sh", "-eu", script="\n".join(_examples("sh", "curl")))
    said = _documents(_HEAD.sub("", printed))
    openapi = yaml.safe_load((_ROOT / "openapi" / "openapi.yaml").read_text())
    holiday = (newcomer.folder / "holiday.mp4").read_bytes()

    assert [document for document in said if "request_id" in document] == []
    assert [document["state"] for document in said if "state" in document] == [
        *("success", "success"),
        "success",
        *("uploading", "success"),
        *("paused", "waiting", "canceled"),
        "success",
    ]
    (head,) = _HEAD.findall(printed)
    assert "content-length: 10000000" in head.lower()
    assert [(newcomer.bucket / "films" / name).read_bytes() for name in ("put.mp4", "log.txt")] == [
        holiday,
        b"hello world",
    ]
    moved = [{file["task"]["state"] for file in document["files"]} for document in said if "files" in document]
    assert moved == [{"paused"}, {"canceled"}]
    assert [[row["key"] for row in document["uploads"]] for document in said if "uploads" in document] == [
        ["films/1.mp4"]
    ]
    for document in said:
        schema = {"$ref": f"#/components/schemas/{_shape(document)}", "components": openapi["components"]}
        Draft202012Validator(schema).validate(document)
    assert [part["number"] for document in said for part in document.get("parts", [])] == [1, 2, 3]
    for name in ("form", "raw", "parts", "resumed"):
        assert (newcomer.bucket / "films" / f"{name}.mp4").read_bytes() == holiday, name


def test_the_python_example_hears_of_the_tasks(newcomer: Newcomer) -> None:
    newcomer.run(
        "sh",
        "-eu",
        script='echo hello | curl -sS -H "Authorization: Bearer $TOKEN" '
        '-T - -X POST "$GATEWAY/v1/files?key=seen.txt" -H "Content-Type: application/octet-stream"',
    )
    (example,) = _examples("python", "Watch")
    with subprocess.Popen([sys.executable, "-c", example], env=newcomer.env, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        heard = run.stdout.readline()
        run.terminate()

    assert heard == "seen.txt success 1.0\n"


def test_the_token_that_a_back_end_signs_lets_upload_below_its_prefix(newcomer: Newcomer) -> None:
    made_up = json.loads((newcomer.bucket.parents[1] / "dev-secrets.json").read_text())
    (example,) = _examples("python", "Tokens")
    env = {**newcomer.env, "GATEWAY_TOKEN_SECRET": made_up["token_secret"]}
    token = subprocess.check_output([sys.executable, "-c", example], env=env, text=True).strip()
    send = f"curl -sS -H 'Authorization: Bearer {token}' -H 'Content-Type: text/plain' --data-binary hello"

    said = newcomer.run(
        "sh", "-eu", script="\n".join(f"{send} $GATEWAY/v1/files?key={key}" for key in ("films/a.txt", "other/a.txt"))
    )

    assert [document.get("state") or document["code"] for document in _documents(said)] == [
        "success",
        "key_not_allowed",
    ]


def test_the_browser_example_sends_its_file(newcomer: Newcomer) -> None:
    node = require_tool("node")
    (newcomer.folder / "cat.jpg").write_bytes(random.Random(1).randbytes(70_000))
    example, _ = _examples("js", "Without the client")
    said = newcomer.run(node, "--input-type=module", script=_FILE + _PRELUDE + example)

    assert said.startswith("success https://")
    assert (newcomer.bucket / "photos" / "cat.jpg").read_bytes() == (newcomer.folder / "cat.jpg").read_bytes()


def test_the_mini_program_example_sends_its_file(newcomer: Newcomer) -> None:
    node = require_tool("node")
    (newcomer.folder / "mini").write_bytes(random.Random(2).randbytes(70_000))
    _, example = _examples("js", "Without the client")
    script = f"{_PRELUDE} const filePath = 'mini'; {example}"

    assert newcomer.run(node, "--require", _SHIM, "--input-type=module", script=script) == "201 success\n"
    assert (newcomer.bucket / "photos" / "mini.jpg").read_bytes() == (newcomer.folder / "mini").read_bytes()


def test_a_page_of_ten_lines_sends_what_is_picked_and_shows_how_far_it_is(newcomer: Newcomer) -> None:
    program = require_tool("chromium")
    (example,) = _examples("html", "A page in 10 lines")
    newcomer.app.answers["/"] = "<!doctype html><title>app</title>" + _here(example, newcomer)
    sizes = {"large.mp4": _FILM_BYTES, "small.mp4": 70_000}
    for name, size in sizes.items():
        (newcomer.folder / name).write_bytes(random.Random(name).randbytes(size))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(newcomer.app.origin)
        page.evaluate(_KEEP_THE_BARS_VALUES)
        page.set_input_files("input", [newcomer.folder / name for name in sizes])
        for name in sizes:
            expect(page.locator("output")).to_contain_text(f"-{name}: stored.", timeout=30_000)
        shown = page.evaluate("shown")
        browser.close()

    assert len(example.splitlines()) <= 10
    assert shown == sorted(shown)
    assert shown[-1] == 1
    assert any(0 < value < 1 for value in shown)
    assert [complaint for complaint in complaints if "header" in complaint] == []
    for name in sizes:
        (stored,) = (newcomer.bucket / "films").glob(f"*-{name}")
        assert stored.read_bytes() == (newcomer.folder / name).read_bytes()


def test_a_mini_program_of_fifteen_lines_sends_what_is_chosen(newcomer: Newcomer) -> None:
    (example,) = _examples("js", "A mini-program in 15")
    for folder in ("one", "another"):
        (newcomer.folder / folder).mkdir()
        (newcomer.folder / folder / "chosen.mp4").write_bytes(random.Random(folder).randbytes(_FILM_BYTES))

    *shown, said = _mini_program(newcomer, _PAGE, example, _SEND)

    assert len(example.splitlines()) <= 15
    assert said == "Stored"
    assert [float(percent) for percent in shown] == sorted(map(float, shown))
    assert shown[-1] == "100"
    sent = {path.read_bytes() for path in newcomer.folder.glob("*/chosen.mp4")}
    assert len(sent) == 2
    assert {path.read_bytes() for path in (newcomer.bucket / "album").iterdir()} == sent


def test_two_other_lines_make_the_calls_of_cos_wx_sdk_v5_ours(newcomer: Newcomer) -> None:
    (difference,) = _examples("diff", "From cos-wx-sdk-v5 in two lines")
    (calls,) = _examples("js", "From cos-wx-sdk-v5 in two lines")
    (newcomer.folder / "client").write_bytes(random.Random(4).randbytes(_FILM_BYTES))
    gone, come = (re.findall(rf"^\{sign}(.*)$", difference, re.MULTILINE) for sign in "-+")
    given = f"const [Bucket, Region, filePath] = ['{newcomer.bucket.name}', '{_REGION}', 'client'];"

    said = _mini_program(newcomer, f"{_PRELUDE} {given} const getToken = () => token;", "\n".join(come), calls)

    assert [len(gone), len(come), len(difference.splitlines())] == [2, 2, 4]
    assert {"uploading", "1", "success", f"{newcomer.bucket.name}.cos.{_REGION}.myqcloud.com/films/client.mp4"} <= set(
        said
    )
    assert (newcomer.bucket / "films" / "client.mp4").read_bytes() == (newcomer.folder / "client").read_bytes()


def _here(example: str, newcomer: Newcomer) -> str:
    """*example* with the address of this gateway, as its reader puts in their own."""
    assert _EXAMPLE_GATEWAY in example
    return example.replace(_EXAMPLE_GATEWAY, newcomer.env["GATEWAY"])


def _mini_program(newcomer: Newcomer, before: str, example: str, after: str) -> list[str]:
    """The lines that a page of a mini-program, with the client copied into it, prints."""
    shutil.copytree(_ROOT / "gateway" / "console", newcomer.folder / "upload", dirs_exist_ok=True)
    page = newcomer.folder / "pages" / "films" / "films.mjs"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([before, _here(example, newcomer), after]))
    node = require_tool("node")
    return newcomer.run(node, "--no-warnings", "--require", _SHIM, str(page), script="").splitlines()

"""The README's examples, run as a newcomer runs them: against `dev`, which made everything up by itself."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator
from playwright.sync_api import sync_playwright

from tests.tools import require_tool

_ROOT: Final = Path(__file__).parents[2]
_README: Final = (_ROOT / "README.md").read_text()
_ADDRESS: Final = re.compile(r"(http://[^/\s]+)/#token=")
_FILE: Final = "import { openAsBlob } from 'node:fs'; const file = new File([await openAsBlob('cat.jpg')], 'cat.jpg');"
_HEAD: Final = re.compile(r"HTTP/1\.1 200 .*?\n\n", re.DOTALL)
_SHIM: Final = str(_ROOT / "tests" / "node" / "wx_shim.js")
_REGION: Final = "ap-guangzhou"
_FILM_BYTES: Final = 9_000_000
_PRELUDE: Final = "const { GATEWAY: gateway, TOKEN: token } = process.env;"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Someone in an empty folder, with a gateway at ``env["GATEWAY"]`` and a token."""

    folder: Path
    env: dict[str, str]
    bucket: Path

    def run(self, *command: str, script: str) -> str:
        """What *command* prints, with *script* on its standard input; a failure shows all it said."""
        ended = subprocess.run(command, cwd=self.folder, env=self.env, input=script, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


def _examples(language: str, heading: str) -> list[str]:
    section = _README.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
    return re.findall(rf"^```{language} tested\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    folder = tmp_path_factory.mktemp("newcomer")
    data = folder / "data"
    env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
    settings = {
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_COS_LISTEN": "",
        "GATEWAY_ADMIN_LISTEN": "",
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
            everything = {**env, "GATEWAY": address, "TOKEN": token.strip()}
            yield Newcomer(folder, everything, next((data / "cos").glob("*-*")))
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


def test_the_browser_example_sends_its_file(newcomer: Newcomer) -> None:
    node = require_tool("node")
    (newcomer.folder / "cat.jpg").write_bytes(random.Random(1).randbytes(70_000))
    (example,) = _examples("js", "Browser")
    said = newcomer.run(node, "--input-type=module", script=_FILE + _PRELUDE + example)

    assert said.startswith("success https://")
    assert (newcomer.bucket / "photos" / "cat.jpg").read_bytes() == (newcomer.folder / "cat.jpg").read_bytes()


def test_the_mini_program_example_sends_its_file(newcomer: Newcomer) -> None:
    node = require_tool("node")
    (newcomer.folder / "mini").write_bytes(random.Random(2).randbytes(70_000))
    (example,) = _examples("js", "Mini-program")
    script = f"{_PRELUDE} const filePath = 'mini'; {example}"

    assert newcomer.run(node, "--require", _SHIM, "--input-type=module", script=script) == "201 success\n"
    assert (newcomer.bucket / "photos" / "mini.jpg").read_bytes() == (newcomer.folder / "mini").read_bytes()


def test_the_upload_client_sends_a_pages_file(newcomer: Newcomer) -> None:
    program = require_tool("chromium")
    (newcomer.folder / "page.mp4").write_bytes(random.Random(3).randbytes(_FILM_BYTES))
    page_example, _ = _examples("js", "Upload client")
    imported = re.sub(r"import (.*) from (.*);", r"const \1 = await import(\2);", page_example)
    at = [newcomer.env["GATEWAY"], newcomer.env["TOKEN"], newcomer.bucket.name, _REGION]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        page.goto(newcomer.env["GATEWAY"])
        page.set_input_files("#one-file", newcomer.folder / "page.mp4")
        with page.expect_console_message(lambda message: ".myqcloud.com/" in message.text) as last:
            page.evaluate(
                f"async ([gateway, token, Bucket, Region]) => {{"
                f"const [file] = document.getElementById('one-file').files; {imported} }}",
                at,
            )
        assert last.value.text.endswith("/films/page.mp4")
        browser.close()

    assert (newcomer.bucket / "films" / "page.mp4").read_bytes() == (newcomer.folder / "page.mp4").read_bytes()


def test_the_upload_client_sends_a_mini_programs_file(newcomer: Newcomer) -> None:
    node = require_tool("node")
    (newcomer.folder / "client").write_bytes(random.Random(4).randbytes(_FILM_BYTES))
    shutil.copytree(_ROOT / "gateway" / "console", newcomer.folder / "upload")
    _, example = _examples("js", "Upload client")
    where = f"const filePath = 'client', Bucket = '{newcomer.bucket.name}', Region = '{_REGION}';"
    (newcomer.folder / "program.mjs").write_text(f"{_PRELUDE} {where} {example}")

    said = newcomer.run(node, "--no-warnings", "--require", _SHIM, "program.mjs", script="").splitlines()

    assert said[-1] == "1"
    assert said[-2].startswith('films/client.mp4 "')
    assert (newcomer.bucket / "films" / "client.mp4").read_bytes() == (newcomer.folder / "client").read_bytes()


def test_the_upload_clients_examples_are_short() -> None:
    assert [len(example.splitlines()) <= 15 for example in _examples("js", "Upload client")] == [True, True]

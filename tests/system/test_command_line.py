"""The command line as a person at a shell has it: files through a real gateway, broken off and gone on with."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.system.processes import ROOT, START_SECONDS, Program, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good

PART_BYTES = 4 * MIB


def _argv(caller: Caller, *words: str | Path) -> list[str]:
    return [sys.executable, "-m", "gateway", *map(str, words), "--server", caller.gateway.url]


def _env(caller: Caller) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {**clean, "GATEWAY_TOKEN": caller.bearer}


def _run(caller: Caller, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    """A command, to its end."""
    argv = _argv(caller, *words)
    return subprocess.run(
        argv, cwd=ROOT, env=_env(caller), capture_output=True, text=True, timeout=START_SECONDS, check=False
    )


def _files(folder: Path, *sizes: int) -> list[Path]:
    paths = [folder / f"{folder.name}-{size}.bin" for size in sizes]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(body(path.name, size))
    return paths


def _stored(stack: Stack, key: str) -> list[int]:
    """The numbers of the parts that COS took, as often as it took them."""
    return [entry["part_number"] for entry in stack.cos.journal("UploadPart", key=key, status=200)]


def _begin_and_stall(stack: Stack, caller: Caller, path: Path, stalled: int) -> Program:
    """An upload of one part after the other that hangs in part *stalled*, the earlier ones being stored."""
    key = f"line/{path.name}"
    stack.cos.fault("stall", operation="UploadPart", key=key, part_number=stalled)
    argv = _argv(caller, "upload", path, "--key", "line/", "--parallel", "1")
    program = Program(argv, path.with_suffix(".log"), _env(caller))
    wait_until(lambda: stack.cos.journal("UploadPart", key=key, part_number=stalled) != [], "the part that hangs")
    return program


def test_files_of_every_size_arrive_in_one_command(stack: Stack, alice: Caller, tmp_path: Path) -> None:
    paths = _files(tmp_path, 0, 1, 5 * MIB + 1)

    ended = _run(alice, "upload", *paths, "--key", "line/")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.partition(" -> ")[0] for line in ended.stdout.splitlines()] == [str(path) for path in paths]
    for path in paths:
        assert stack.cos.read(f"line/{path.name}") == path.read_bytes()


def test_a_name_that_is_not_utf_8_is_one_line_and_the_others_go_on(stack: Stack, alice: Caller, tmp_path: Path) -> None:
    """Report 11."""
    good_file = tmp_path / "ok.bin"
    good_file.write_bytes(b"data")
    names = [os.fsencode(tmp_path) + b"/" + name for name in ("合同.txt".encode("gbk"), "é.txt".encode("latin-1"))]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(b"x")
    decomposed = tmp_path / "e\u0301.txt"
    decomposed.write_bytes(b"nfd")

    words = [*map(os.fsdecode, names), str(good_file), str(decomposed)]
    ended = subprocess.run(
        [*_argv(alice, "upload"), *words, "--key", "line/names/"],
        cwd=ROOT,
        env=_env(alice),
        capture_output=True,
        timeout=START_SECONDS,
        check=False,
    )

    said = ended.stderr.decode().splitlines()
    assert ended.returncode == 1
    assert [line.partition(": ")[2] for line in said if "UTF-8" in line] == [
        "its name is not UTF-8, so that no key can be made of it: rename it."
    ] * 2
    assert (stack.cos.read("line/names/ok.bin"), stack.cos.read("line/names/é.txt")) == (b"data", b"nfd")


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_without_the_letters_is_told_all_the_same(
    stack: Stack, alice: Caller, tmp_path: Path, locale: dict[str, str]
) -> None:
    path = tmp_path / "测试.txt"
    path.write_bytes(b"data")
    argv = [*_argv(alice, "upload", path), "--key", "line/letters/"]

    env = {**_env(alice), **locale}
    ended = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, timeout=START_SECONDS, check=False)

    assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False), ended.stderr
    assert b"line/letters/" in ended.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["tasks"],
        ["pause", "{task}"],
        ["token", "--subject", "alice"],
        ["check-config", "--offline"],
        ["doctor"],
        ["revoke", "nobody"],
    ],
    ids=lambda words: words[0],
)
def test_an_output_that_is_full_is_one_line_of_every_command(stack: Stack, alice: Caller, words: list[str]) -> None:
    task = alice.create("line/full", 1)["id"] if "{task}" in words else ""
    calls = words[0] in ("tasks", "pause")
    argv = [sys.executable, "-m", "gateway", *(word.replace("{task}", task) for word in words)]

    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*argv, "--server", alice.gateway.url] if calls else argv,
            cwd=ROOT,
            env=_env(alice) if calls else alice.gateway.env,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=START_SECONDS,
            check=False,
        )

    said = ended.stderr.decode().splitlines()
    assert (ended.returncode, said[-1:]) == (1, ["The output could not be written (No space left on device)."]), said


def test_an_output_that_is_full_is_one_line(stack: Stack, alice: Caller, tmp_path: Path) -> None:
    (path,) = _files(tmp_path, 1)
    argv = [*_argv(alice, "upload", path), "--key", "line/full/"]

    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            argv, cwd=ROOT, env=_env(alice), stdout=full, stderr=subprocess.PIPE, timeout=START_SECONDS, check=False
        )

    assert ended.returncode == 1
    assert ended.stderr.decode().splitlines()[-1] == "The output could not be written (No space left on device)."
    assert b"Traceback" not in ended.stderr
    assert stack.cos.read(f"line/full/{path.name}") == path.read_bytes()


def test_all_calls_about_a_file_carry_one_trace_of_its_own(stack: Stack, alice: Caller, tmp_path: Path) -> None:
    paths = _files(tmp_path, 7, 2 * PART_BYTES + 7)

    earlier = len(stack.gateway.log_lines())

    assert _run(alice, "upload", *paths, "--key", "traced/").returncode == 0

    traces: dict[str, list[str]] = {}
    for line in stack.gateway.log_lines()[earlier:]:
        if line["message"] == "request" and "trace_id" in line:
            traces.setdefault(line["trace_id"], []).append(line["route"])
    whole, in_parts = sorted(traces.values(), key=len)
    assert whole == ["/v1/files"]
    assert (in_parts[0], in_parts[-1]) == ("/v1/tasks", "/v1/tasks/{task_id}/complete")
    assert in_parts.count("/v1/tasks/{task_id}/parts/{number}") == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_upload_that_was_broken_off_sends_only_the_rest(
    stack: Stack, alice: Caller, tmp_path: Path, number: signal.Signals
) -> None:
    [path] = _files(tmp_path, 4 * PART_BYTES + 1)
    key = f"line/{path.name}"
    first = _begin_and_stall(stack, alice, path, stalled=3)

    first.signal(number)
    code = first.wait()
    stack.cos.clear_faults()
    second = _run(alice, "upload", path, "--key", "line/")

    assert code == (130 if number is signal.SIGINT else -signal.SIGKILL)
    assert ("The same command goes on" in first.log.read_text()) == (number is signal.SIGINT)
    assert (second.returncode, "goes on at" in second.stderr) == (0, True)
    taken = _stored(stack, key)
    assert (taken.count(1), taken.count(2), taken.count(4), taken.count(5)) == (1, 1, 1, 1)
    assert taken.count(3) in (1, 2)  # its bytes may all have been at the gateway
    assert len(stack.cos.journal("InitiateMultipartUpload", key=key)) == 1
    assert stack.cos.read(key) == path.read_bytes()


def test_an_upload_whose_last_parts_another_client_sends_has_arrived(
    stack: Stack, alice: Caller, tmp_path: Path
) -> None:
    """COS still has not answered for its part when the object stands, so that nobody can compare that part."""
    [path] = _files(tmp_path, 3 * PART_BYTES)
    data = path.read_bytes()
    uploading = _begin_and_stall(stack, alice, path, stalled=2)
    [task] = good(alice.call("GET", "/v1/tasks?state=uploading"))["tasks"]

    for number in (2, 3):
        good(alice.put_part(task["id"], number, data[(number - 1) * PART_BYTES : number * PART_BYTES]))
    good(alice.control(task["id"], "complete"))
    stack.cos.clear_faults()

    assert uploading.wait() == 0, uploading.log.read_text()
    assert stack.cos.read(f"line/{path.name}") == data


def test_an_upload_that_somebody_pauses_ends_and_goes_on_with_the_same_command(
    stack: Stack, alice: Caller, tmp_path: Path
) -> None:
    [path] = _files(tmp_path, 3 * PART_BYTES)
    uploading = _begin_and_stall(stack, alice, path, stalled=2)
    [line] = _run(alice, "tasks", "--state", "uploading").stdout.splitlines()[1:]
    task_id, *cells = line.split()

    paused = _run(alice, "pause", task_id)
    stack.cos.clear_faults()
    code = uploading.wait()

    assert cells == ["uploading", "33", "%", "12.0", "MiB", f"line/{path.name}"]
    assert (paused.returncode, paused.stdout) == (0, f"{task_id} paused\n")
    assert code == 1
    assert "task_paused: " in uploading.log.read_text()
    again = _run(alice, "upload", path, "--key", "line/")
    assert (again.returncode, "goes on at 8.0 MiB" in again.stderr) == (0, True)
    assert sorted(_stored(stack, f"line/{path.name}")) == [1, 2, 3]


def test_tasks_are_restarted_and_canceled_each_for_itself(stack: Stack, alice: Caller) -> None:
    task_id = alice.create("line/other.bin", 3 * MIB)["id"]
    good(alice.control(task_id, "pause"))

    restarted = _run(alice, "restart", task_id)
    ended = _run(alice, "cancel", "no-such-task", task_id)

    assert (restarted.returncode, restarted.stdout) == (0, f"{task_id} waiting\n")
    assert (ended.returncode, ended.stdout) == (1, f"{task_id} canceled\n")
    assert ended.stderr.startswith("no-such-task: task_not_found: ")
    assert alice.task(task_id)["state"] == "canceled"


@pytest.mark.promise(16)
def test_f3_a_restart_says_that_a_lost_upload_may_have_been_canceled(stack: Stack, alice: Caller) -> None:
    task = alice.create("line/lost.bin", 3 * MIB)
    good(alice.control(task["id"], "cancel"))
    assert stack.redis.command("FLUSHALL") == b"+OK"
    lost = good(alice.call("GET", f"/v1/tasks/{task['id']}", headers={"Upload-Ticket": task["ticket"]}))
    assert "somebody may have canceled" in lost["error"]["detail"]

    restarted = _run(alice, "restart", task["id"])
    once_more = _run(alice, "restart", task["id"])

    assert (restarted.returncode, restarted.stdout) == (0, f"{task['id']} waiting\n")
    assert f"{task['id']}: COS had dropped its upload, perhaps because somebody canceled it." in restarted.stderr
    assert once_more.stderr == ""


def _one_line(ended: "subprocess.CompletedProcess[str]", *parts: str) -> Sequence[str]:
    """What *ended* did not say; it has to end badly and in one line."""
    assert ended.returncode == 1
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    return [part for part in parts if part not in line]


def test_what_goes_wrong_is_one_line(stack: Stack, alice: Caller, tmp_path: Path) -> None:
    [path] = _files(tmp_path, 1)
    away = [sys.executable, "-m", "gateway", "upload", str(path), "--server", "http://127.0.0.1:1"]
    nobody = subprocess.run(away, cwd=ROOT, env=_env(alice), capture_output=True, text=True, timeout=30, check=False)

    assert _one_line(nobody, "http://127.0.0.1:1 does not answer", "--server") == []
    assert _one_line(_run(alice, "upload", tmp_path / "none"), "none: cannot be read: does not exist") == []
    bob = stack.caller("bob", prefix="bob/")
    assert _one_line(_run(bob, "upload", path, "--key", "line/"), "key_not_allowed", "--key") == []

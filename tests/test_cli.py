import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import commands
from gateway.cli import main
from gateway.commands.ending import BAD_SETTINGS, FAILED
from tests.commands.conftest import environment

__all__ = ["environment"]

_ALL = ["serve", "dev", "token", "check-config", "doctor", "upload", "tasks", "pause", "restart", "cancel"]


def test_help_names_every_command_and_comes_at_once() -> None:
    """Measured 0.03 s; a machine under load takes longer but computes no more."""
    began = os.times()
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gateway", "--help"], capture_output=True, text=True
    )

    assert [name for name in _ALL if not re.search(rf"^    {name}\b", ended.stdout, re.MULTILINE)] == []
    heavy = ("pydantic", "httpx", "redis", "aiohttp", "starlette", "asyncio")
    assert [name for name in heavy if f" {name}\n" in ended.stderr] == []
    ended_at = os.times()
    spent = ended_at.children_user + ended_at.children_system - began.children_user - began.children_system
    assert spent < 0.3


@pytest.mark.parametrize("command", _ALL)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])

    assert f"usage: python -m gateway {command}" in capsys.readouterr().out


def test_serve_refuses_settings_that_cannot_work_and_names_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == BAD_SETTINGS

    sentences = capsys.readouterr().err.splitlines()
    assert len(sentences) == 3
    assert all("GATEWAY_" in sentence for sentence in sentences)


@pytest.mark.parametrize("command", ["serve", "dev", "check-config", "doctor", "token --subject alice"])
def test_a_value_that_cannot_be_read_stops_every_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", "many")

    assert main(command.split()) == BAD_SETTINGS
    assert capsys.readouterr().err.startswith("GATEWAY_WORKERS: ")


def test_dev_refuses_what_is_insecure_although_it_makes_up_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_ALLOWED_ORIGINS", "*")

    assert main(["dev"]) == BAD_SETTINGS
    assert capsys.readouterr().err.startswith("GATEWAY_ALLOWED_ORIGINS")


def test_dev_names_the_folder_that_it_cannot_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_DATA_DIR", "/proc/no-disk")

    assert main(["dev"]) == FAILED
    assert capsys.readouterr().err.startswith("GATEWAY_DATA_DIR: /proc/no-disk cannot be written")


def test_every_command_prints_by_say() -> None:
    """Whatever is printed some other way ends in a traceback where the output is full, or its reader gone."""
    folder = Path(commands.__file__).parent
    printing = [path.name for path in folder.glob("*.py") if re.search(r"\bprint\(", path.read_text())]

    assert printing == ["ending.py"]

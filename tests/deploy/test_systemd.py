"""The unit, judged by systemd's own tool; it needs no systemd that runs."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.config import Settings
from tests.deploy.topology import COMPOSE, DEPLOY
from tests.tools import require_tool

UNIT: Final = DEPLOY / "systemd" / "upload-gateway.service"
MOST_EXPOSURE_TENTHS: Final = 13
"""Of 100; a unit that says nothing has 96. What is left is the network, which the gateway is for."""
SETTLE_SECONDS: Final = 10


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine on which the README's steps were taken."""
    programs = {"opt/upload-gateway/bin/python": "/bin/true", "bin/kill": "/bin/true"}
    for name, program in programs.items():
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(program, tmp_path / name)
    place = tmp_path / "etc/systemd/system" / UNIT.name
    place.parent.mkdir(parents=True)
    shutil.copy(UNIT, place)
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([require_tool("systemd-analyze"), *arguments], capture_output=True, text=True)


def verify(machine: Path) -> subprocess.CompletedProcess[str]:
    return analyze("verify", "--man=no", "--recursive-errors=no", f"--root={machine}", UNIT.name)


def test_systemd_finds_nothing_wrong_with_the_unit(machine: Path) -> None:
    judged = verify(machine)

    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


def test_systemd_would_notice_a_misspelled_line(machine: Path) -> None:
    place = machine / "etc/systemd/system" / UNIT.name
    place.write_text(UNIT.read_text().replace("DynamicUser=", "DynamicUsers="))

    assert "DynamicUsers" in verify(machine).stderr


def test_the_unit_is_as_little_exposed_as_a_server_can_be() -> None:
    judged = analyze("security", "--offline=true", "--json=short", f"--threshold={MOST_EXPOSURE_TENTHS}", str(UNIT))

    assert judged.returncode == 0, judged.stdout
    unset: list[dict[str, Any]] = [row for row in json.loads(judged.stdout) if row["set"] is False]
    assert {row["json_field"] for row in unset} <= {
        *("PrivateNetwork", "IPAddressDeny", "RestrictAddressFamilies_AF_INET_INET6"),  # it serves
        "RestrictAddressFamilies_AF_UNIX",  # a Redis on a unix socket
        *("PrivateMounts", "RootDirectoryOrRootImage", "ProcSubset"),
        "DeviceAllow",  # the clock, to read: ProtectClock says so
    }


def test_the_unit_lets_a_drain_end_and_starts_what_the_readme_installs() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    service, default = unit["Service"], Settings.model_fields["drain_seconds"].default
    readme = (DEPLOY.parent / "README.md").read_text()

    assert float(service["TimeoutStopSec"]) >= default + SETTLE_SECONDS
    assert service["ExecStart"] == "/opt/upload-gateway/bin/python -m gateway serve"
    assert "python3 -m venv /opt/upload-gateway" in readme
    assert re.search(rf"install .*deploy/gateway.env.example {service['EnvironmentFile']} ", readme)


def test_s22_the_unit_bounds_memory_as_compose_does_and_leaves_no_core() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT)
    service = unit["Service"]

    assert service["MemoryMax"].lower() == COMPOSE["x-gateway"]["mem_limit"]
    assert (service["OOMPolicy"], service["LimitCORE"]) == ("continue", "0")
    assert COMPOSE["x-gateway"]["ulimits"]["core"] == 0

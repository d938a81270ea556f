"""The image of deploy/Dockerfile made in a folder for want of a container engine: its steps, read from the file."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

from tests.deploy.topology import DEPLOY

APP: Final = "/app"
Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions with their arguments, in order; comments and line breaks are gone."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(name, " ".join(rest.split())) for name, _, rest in pairs]


def stages() -> list[list[Instruction]]:
    """What stands before the first FROM, then each stage."""
    found: list[list[Instruction]] = [[]]
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def arguments(stage: list[Instruction], name: str) -> list[Any]:
    """The exec-form arguments of the one instruction *name* of *stage*. Raises ValueError for anything else."""
    [text] = [rest for found, rest in stage if found == name]
    told: list[Any] = json.loads(text.partition("CMD ")[2] if name == "HEALTHCHECK" else text)
    return told


def environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for name, rest in stages()[-1] if name == "ENV" for pair in rest.split())


def locked(name: str) -> list[Requirement]:
    """What a file of locked requirements installs on this machine; each has its hashes."""
    entries = re.split(r"\n(?=\S)", (DEPLOY / name).read_text())
    found = []
    for entry in (entry for entry in entries if not entry.startswith("#") and entry.strip()):
        told, *hashes = [line.strip(" \\") for line in entry.splitlines()]
        assert hashes, f"{told} has no hash"
        assert all(line.startswith("--hash=sha256:") for line in hashes), told
        requirement = Requirement(told)
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


def build(folder: Path) -> None:
    """Make the image's ``/app`` in *folder*: the locked packages, and nothing else, as pip has installed them here."""
    for requirement in locked("requirements.txt"):
        installed = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(installed.version), f"{installed.name} {installed.version} is not locked"
        for file in installed.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), folder / file)
    shutil.copytree(DEPLOY.parent / "gateway", folder / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    *_, compile_all = [json.loads(rest) for name, rest in stages()[1] if name == "RUN"]
    ran = [sys.executable, *compile_all[1:-1], str(folder)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(ran, env=env, check=True, capture_output=True)
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", str(folder)], check=True)

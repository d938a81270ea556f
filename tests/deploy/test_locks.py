"""The locks install the same on any later day: they name everything that what they lock requires.

pip is told ``--no-deps``. Left to resolve, old versions of it look a requirement with extras up beside the lock, and
refuse the lock once a newer release of that package is out.
"""

import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = {
    "requirements.txt": (),
    "requirements-otel.txt": ("otel",),
    "requirements-dev.txt": ("otel", "dev"),
}
"""Each lock and the extras of pyproject.toml that it is made of."""


def locked(name: str) -> dict[str, Version]:
    """What *name* locks for this Python and platform."""
    lines = (ROOT / "deploy" / name).read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in " #"]
    here = [one for one in pinned if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): Version(next(iter(one.specifier)).version) for one in here}


def asked_for(extras: tuple[str, ...]) -> list[Requirement]:
    """What pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def required(asked: list[Requirement]) -> Iterator[tuple[str, Requirement]]:
    """Every requirement behind *asked*, extras included, each with the package that has it."""
    waiting = [("pyproject.toml", one, {""}) for one in asked]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        by, one, extras = waiting.pop()
        if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        yield by, one
        name = canonicalize_name(one.name)
        wanted = frozenset({"", *one.extras})
        if (name, wanted) not in seen:
            seen.add((name, wanted))
            behind = metadata.requires(name) or []
            waiting += [(name, Requirement(line), set(wanted)) for line in behind]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_all_that_its_packages_require(name: str) -> None:
    versions = locked(name)
    lacking = {
        f"{by} requires {one}"
        for by, one in required(asked_for(LOCKS[name]))
        if (version := versions.get(canonicalize_name(one.name))) is None or not one.specifier.contains(version)
    }

    assert not lacking


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_installed_is_what_the_development_lock_says(name: str) -> None:
    versions = locked(name)

    assert {package: Version(metadata.version(package)) for package in versions} == versions


def test_pip_is_told_to_look_for_nothing_beside_a_lock() -> None:
    for path in ("deploy/venv.sh", "deploy/Dockerfile", "README.md"):
        text = (ROOT / path).read_text(encoding="utf-8")
        lines = text.replace("\\\n", " ").splitlines()
        installs = [line for line in lines if "--require-hashes" in line and "audit" not in line]
        assert installs, path
        assert all("--no-deps" in line for line in installs), path

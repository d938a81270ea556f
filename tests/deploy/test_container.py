"""The container without an engine: the Dockerfile's steps one by one, then its entrypoint as a container runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.deploy.image import APP, arguments, build, environment, instructions, locked, stages
from tests.deploy.topology import DEPLOY
from tests.fakes.redis_server import running_redis
from tests.system.processes import HTTP, LocalCos, Program, free_port, wait_until
from tests.system.stack import MIB, SECRET, body, good, token
from tests.tools import require_tool

ROOT: Final = DEPLOY.parent
IN_IMAGE: Final = "/srv"
PYTHON: Final = "/media/bin/" + os.path.basename(os.path.realpath(sys.executable))
"""Python itself, not the virtual environment's: it finds nothing but what the image brings."""


@dataclass(frozen=True, slots=True)
class Container:
    """A gateway that runs like the image's, and what it was started with."""

    program: Program
    url: str
    admin_port: int
    cos: LocalCos
    launcher: list[str]
    env: dict[str, str]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """What *command* says in another container of the same image."""
        return subprocess.run([*self.launcher, *command], env=self.env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    build(folder)
    return folder


def sandbox(image: Path) -> list[str]:
    """The command line that ends in a command for the container; skipped where nobody may make namespaces."""
    unshare = [require_tool("unshare"), *(() if os.getuid() == 0 else ("--user", "--map-root-user")), "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this kernel, or the container around us, lets nobody unshare mounts")
    return [*unshare, "sh", str(Path(__file__).parent / "sandbox.sh"), str(image)]


@pytest.fixture(scope="module")
def container(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder, ports = tmp_path_factory.mktemp("container"), [free_port() for _ in range(3)]
    last = stages()[-1]
    [user] = [rest.partition(":")[0] for name, rest in last if name == "USER"]
    listens = dict(zip(("LISTEN", "COS_LISTEN", "ADMIN_LISTEN"), ports, strict=True))
    redis_port = free_port()
    with running_redis(None, "--port", str(redis_port), "--bind", "127.0.0.1"):
        cos = LocalCos(folder)
        env = {
            "PATH": os.environ["PATH"],
            **environment(),
            "PYTHONPATH": IN_IMAGE,
            **{f"GATEWAY_{name}": f"127.0.0.1:{port}" for name, port in listens.items()},
            "PYTHON_HOME": sys.base_prefix,
            "LD_LIBRARY_PATH": "/media/lib",  # where a shared libpython is
            "AS_USER": user if os.getuid() == 0 else "",
            "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "GATEWAY_COS_ENDPOINT": cos.url,
            "GATEWAY_COS_SECRET_ID": cos.SECRET_ID,
            "GATEWAY_COS_SECRET_KEY": cos.SECRET_KEY,
            "GATEWAY_BUCKETS": f"files={cos.BUCKET}@{cos.REGION}",
            "GATEWAY_TOKEN_SECRET": SECRET,
            "GATEWAY_WORKERS": "2",  # they keep metrics in files
            "GATEWAY_DRAIN_NOTICE_SECONDS": "0",
        }
        launcher, url = sandbox(image), f"http://127.0.0.1:{ports[0]}"
        entry = [*arguments(last, "ENTRYPOINT"), *arguments(last, "CMD")]
        program = Program([*launcher, PYTHON, *entry[1:]], folder / "gateway.log", env)
        running = Container(program, url, ports[2], cos, launcher, env)
        try:
            wait_until(lambda: _is_ready(running), "the container")
            yield running
        finally:
            program.stop()
            cos.close()


def _is_ready(container: Container) -> bool:
    container.program.alive_or_fail("the container")
    try:
        return httpx.get(f"{container.url}/readyz", **HTTP).status_code == 200
    except httpx.TransportError:
        return False


def test_both_stages_begin_with_the_same_pinned_python() -> None:
    first, *later = stages()
    bases = [rest.partition(" AS ")[0] for stage in later for name, rest in stage[:1]]
    python = re.fullmatch(r"python:(\d+)\.(\d+)-slim-bookworm@\$\{BASE_DIGEST\}", bases[0])

    assert first == [("ARG", "BASE_DIGEST")], "no default: whoever builds says which"
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert python is not None
    assert tuple(map(int, python.groups())) == sys.version_info[:2], "what the tests run on is what is shipped"


def test_no_step_needs_a_shell_or_the_network_but_for_locked_packages() -> None:
    runs = [json.loads(rest) for name, rest in instructions() if name == "RUN"]

    assert [run[:3] for run in runs] == [["python", "-m", "pip"], ["python", "-m", "compileall"]]
    assert {"--no-deps", "--require-hashes", "--only-binary", ":all:"} <= set(runs[0])
    assert {name for name, _ in instructions()} & {"ADD", "SHELL", "VOLUME", "ONBUILD"} == set()
    assert "RUN" not in {name for name, _ in stages()[-1]}


def test_pip_understands_the_step_that_installs(tmp_path: Path) -> None:
    """With nothing to install: what would be is compared with the locked versions where the image is made."""
    install, _ = [json.loads(rest) for name, rest in stages()[1] if name == "RUN"]
    (tmp_path / "requirements.txt").touch()
    places = {APP: str(tmp_path / "app"), "/build/requirements.txt": str(tmp_path / "requirements.txt")}

    ran = subprocess.run([sys.executable, *(places.get(word, word) for word in install[1:])], capture_output=True)

    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-otel.txt"])
def test_every_package_is_locked_with_its_hashes(name: str) -> None:
    assert len(locked(name)) > 20
    assert all(str(requirement.specifier).startswith("==") for requirement in locked(name))


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = [rest.split()[0] for name, rest in stages()[1] if name == "COPY"]

    assert (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()[1] == "*"
    assert {path.replace("${REQUIREMENTS}", "requirements.txt") for path in copied} <= set(allowed)
    assert [path for path in allowed if not (ROOT / path).exists()] == []


def test_it_serves_as_nobody_and_takes_an_upload(container: Container) -> None:
    data, headers = body("container", 6 * MIB), {"Authorization": f"Bearer {token('alice')}"}
    with httpx.Client(base_url=container.url, headers=headers, timeout=30, **HTTP) as alice:
        task = good(alice.post("/v1/files", data={"key": "container/a.bin"}, files={"file": ("a.bin", data)}), 201)
        page = alice.get("/")

    assert task["state"] == "success"
    assert container.cos.read("container/a.bin") == data
    assert page.status_code == 200
    status = Path(f"/proc/{container.program.pid}/status").read_text()
    [uid], [capabilities] = re.findall(r"^Uid:\t(\d+)", status, re.M), re.findall(r"^CapEff:\t(\w+)", status, re.M)
    assert int(uid) >= 10_000 or os.getuid() != 0
    assert int(capabilities, 16) == 0
    children = Path(f"/proc/{container.program.pid}/task/{container.program.pid}/children").read_text().split()
    mapped = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in children)
    assert "site-packages" not in mapped, "it finds only what the image brings"
    assert "uvloop" in mapped


def test_it_can_write_to_its_tmpfs_only(container: Container) -> None:
    places = [IN_IMAGE, f"{IN_IMAGE}/gateway", "/usr", "/etc", "/var/tmp", str(ROOT), "/tmp"]  # noqa: S108 -- not to use them
    script = "import os, sys; [print(place) for place in sys.argv[1:] if os.access(place, os.W_OK)]"

    assert container.run(PYTHON, "-c", script, *places).stdout.split() == ["/tmp"]  # noqa: S108


def test_no_code_is_compiled_at_run_time(container: Container, image: Path) -> None:
    sources = {path.stem for path in (image / "gateway").rglob("*.py")}
    compiled = {path.name.partition(".")[0] for path in (image / "gateway").rglob("*.pyc")}

    assert container.env["PYTHONDONTWRITEBYTECODE"] == "1"
    assert sources == compiled


def test_the_health_check_tells_and_sigterm_arrives(container: Container) -> None:
    """Last in this file: afterwards the container has ended, in order."""
    [_, *check] = arguments(stages()[-1], "HEALTHCHECK")
    check = [PYTHON, *(word.replace("9090", str(container.admin_port)) for word in check)]
    healthy = container.run(*check)

    container.program.signal(signal.SIGTERM)

    assert healthy.returncode == 0, healthy.stderr
    assert container.program.wait() == 0
    assert container.run(*check).returncode != 0


def test_nobody_has_a_shell_to_hand(image: Path) -> None:
    """Whatever the base image has, what we add brings no program but a Redis that is never started."""
    programs = [path for path in image.rglob("*") if path.is_file() and os.access(path, os.X_OK) and not path.suffix]

    assert {path.name for path in programs} <= {"redis-server", "redis-cli"}

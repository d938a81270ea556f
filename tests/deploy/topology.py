"""What compose.yaml describes, started as processes: two gateways, Redis, a local COS, and nginx with TLS in front."""

import getpass
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.system.processes import Gateway, Program, free_port, wait_until
from tests.system.stack import Stack, running_stack, token
from tests.tools import report_missing, require_tool

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CLIENT: Final = "127.0.0.2"
"""Where clients come from: not where nginx does."""
_PLACES: Final = ("172.30.77.11", "172.30.77.12")
_OF_THE_NETWORK: Final = {"GATEWAY_REDIS_URL", "GATEWAY_TRUSTED_PROXIES"}


class Nginx:
    """A real nginx with the rules of deploy/nginx, before *upstreams*: pairs of a REST and a COS port."""

    def __init__(self, folder: Path, upstreams: list[tuple[int, int]], **changed: tuple[str, str]) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or report_missing("nginx")
        self.folder, self.port, self.cos_port = folder, free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._config = folder / "nginx"
        shutil.copytree(DEPLOY / "nginx", self._config, ignore=shutil.ignore_patterns("tls"))
        for place, (rest, cos) in zip(_PLACES, upstreams, strict=True):
            self._change("upstreams.conf", f"{place}:8080", f"127.0.0.1:{rest}")
            self._change("upstreams.conf", f"{place}:8081", f"127.0.0.1:{cos}")
        self._change("rest.conf", "listen 8443", f"listen 127.0.0.1:{self.port}")
        self._change("cos.conf", "listen 8444", f"listen 127.0.0.1:{self.cos_port}")
        for name, (before, after) in changed.items():
            self._change(f"{name}.conf", before, after)
        self.certificate = _self_signed(folder)
        self.tls = ssl.create_default_context(cafile=str(self.certificate))
        # Only root may, and must, say whom the workers run as: anyone else's stay the caller's.
        user = ["-g", "user root;"] if getpass.getuser() == "root" else []
        argv = [program, "-p", f"{folder}/", "-c", str(self._config / "nginx.conf"), "-e", "stderr", *user]
        self.program = Program(argv, folder / "nginx.log")
        wait_until(self._answers, "nginx")

    def client(self, bearer: str) -> httpx.Client:
        """A front end with a token."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {bearer}"},
            transport=httpx.HTTPTransport(verify=self.tls, local_address=CLIENT, trust_env=False),
            timeout=60,
        )

    @property
    def collected(self) -> list[Path]:
        """Bodies that lie on the disk."""
        return [path for path in (self.folder / "body").rglob("*") if path.is_file()]

    def _change(self, name: str, before: str, after: str) -> None:
        path = self._config / name
        text = path.read_text()
        assert text.count(before) == 1, f"{name}: {before}"
        path.write_text(text.replace(before, after))

    def _answers(self) -> bool:
        self.program.alive_or_fail("nginx")
        try:
            return httpx.get(f"{self.url}/readyz", verify=self.tls, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@dataclass
class Topology:
    """All of it. ``doors`` are the gateways with their COS ports, in the order of nginx's upstreams."""

    stack: Stack
    folder: Path
    doors: list[tuple[Gateway, int]]
    nginx: Nginx
    _clients: list[httpx.Client] = field(default_factory=list)
    _others: list[Nginx] = field(default_factory=list)

    @property
    def gateways(self) -> list[Gateway]:
        return [gateway for gateway, _ in self.doors]

    def client(self, subject: str, nginx: Nginx | None = None) -> httpx.Client:
        """A front end with a token of its own, before nginx."""
        self._clients.append((nginx or self.nginx).client(token(subject)))
        return self._clients[-1]

    def another_nginx(self, name: str, **changed: tuple[str, str]) -> Nginx:
        """One more, with one text of each file of *changed* replaced by another."""
        self._others.append(_nginx(self.folder / name, self.doors, **changed))
        return self._others[-1]

    def total(self, metric: str) -> float:
        """A metric's sum over both gateways and all labels."""
        found = [gateway.metrics() for gateway in self.gateways]
        return sum(value for one in found for name, value in one.items() if name.partition("{")[0] == metric)

    def log_lines(self, logger: str) -> list[dict[str, Any]]:
        """What both gateways logged under this name."""
        return [line for gateway in self.gateways for line in gateway.log_lines() if line["logger"] == logger]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for nginx in (self.nginx, *self._others):
            nginx.program.stop()


def compose_settings() -> dict[str, str]:
    """What compose.yaml tells the gateways, less the addresses of its own network."""
    told: dict[str, str] = COMPOSE["x-gateway"]["environment"]
    assert told.keys() >= _OF_THE_NETWORK
    names = told.keys() - _OF_THE_NETWORK
    return {name.removeprefix("GATEWAY_").lower(): told[name] for name in names}


@contextmanager
def running_topology(folder: Path) -> Iterator[Topology]:
    """Start everything, its files in *folder*; end it with the block."""
    settings = {**compose_settings(), "drain_seconds": "5", "trusted_proxies": "127.0.0.1"}
    with running_stack(folder, gateways=0) as stack:
        doors = []
        for _ in _PLACES:
            port = free_port()
            doors.append((stack.start_gateway(cos_listen=f"127.0.0.1:{port}", **settings), port))
        topology = Topology(stack, folder, doors, _nginx(folder / "nginx", doors))
        try:
            yield topology
        finally:
            topology.close()


def _nginx(folder: Path, doors: list[tuple[Gateway, int]], **changed: tuple[str, str]) -> Nginx:
    folder.mkdir()
    return Nginx(folder, [(gateway.port, cos_port) for gateway, cos_port in doors], **changed)


def _self_signed(folder: Path) -> Path:
    """A certificate for this machine, made by the command that the README tells newcomers."""
    (folder / "nginx" / "tls").mkdir()
    readme = (DEPLOY.parent / "README.md").read_text()
    command = next(line for line in readme.splitlines() if line.startswith("openssl req -x509 "))
    require_tool("openssl")
    subprocess.run(["sh", "-euc", command], cwd=folder, check=True, capture_output=True)
    return folder / "nginx" / "tls" / "tls.crt"

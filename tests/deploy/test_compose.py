"""compose.yaml, judged by the compose specification's schema; what its parts have to agree on; its Redis, run."""

import ipaddress
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from gateway.config import Settings
from gateway.dev import local_cos
from gateway.store.redis_watch import shortcomings
from tests.deploy.topology import COMPOSE, DEPLOY
from tests.fakes.redis_server import running_redis

SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
GATEWAYS: Final = [SERVICES["gateway-1"], SERVICES["gateway-2"]]
SETTLE_SECONDS: Final = 10
MIB: Final = 1 << 20
_SETTING: Final = re.compile(r"\bGATEWAY_[A-Z_]*[A-Z]\b")
_NOT_OURS_TO_READ: Final = {"gateway.env", "tls"}
"""What the operator puts there."""


def judge(path: Path) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(argv, capture_output=True, text=True)


def deploy_files() -> list[Path]:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    return [path for path in files if not _NOT_OURS_TO_READ & set(path.relative_to(DEPLOY).parts)]


def env_file(name: str) -> dict[str, str]:
    lines = (DEPLOY / name).read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def effective(**more: str) -> Settings:
    """The settings of a gateway in compose.yaml, with *more* from its env file."""
    image = {
        "GATEWAY_LISTEN": "0.0.0.0:8080",
        "GATEWAY_COS_LISTEN": "0.0.0.0:8081",
        "GATEWAY_ADMIN_LISTEN": "0.0.0.0:9090",
    }
    told = {**image, **more, **COMPOSE["x-gateway"]["environment"]}
    return Settings(**{name.removeprefix("GATEWAY_").lower(): value for name, value in told.items()})


def test_the_file_is_one_to_the_compose_specification(tmp_path: Path) -> None:
    misspelled = tmp_path / "compose.yaml"
    misspelled.write_text((DEPLOY / "compose.yaml").read_text().replace("read_only:", "readonly:"))

    assert judge(DEPLOY / "compose.yaml").returncode == 0, judge(DEPLOY / "compose.yaml").stdout
    assert judge(misspelled).returncode == 1


def test_every_setting_that_a_file_here_names_is_one() -> None:
    known = {f"GATEWAY_{name.upper()}" for name in Settings.model_fields}
    named = {name: path.name for path in deploy_files() for name in _SETTING.findall(path.read_text())}

    assert {name: file for name, file in named.items() if name not in known} == {}
    assert len(named) > 60


def test_the_trial_works_as_it_is_copied() -> None:
    settings = effective(**env_file("trial.env"), GATEWAY_TOKEN_SECRET="0123456789abcdef0123456789abcdef")
    command = SERVICES["cos"]["command"]
    given = dict(zip(command[::2], command[1::2], strict=True))

    assert settings.problems() == []
    assert settings.cos_endpoint == "http://cos:" + given["--listen"].rpartition(":")[2]
    [bucket] = settings.buckets
    assert given["--bucket"] == f"{bucket.name}@{bucket.region}"
    assert given["--key"] == f"{settings.cos_secret_id.get_secret_value()}:{settings.cos_secret_key.get_secret_value()}"
    assert SERVICES["cos"]["entrypoint"][-1] == local_cos.__name__
    assert SERVICES["cos"]["profiles"] == ["trial"]


def test_the_gateways_trust_nginx_and_nobody_else() -> None:
    nginx = SERVICES["nginx"]["networks"]["inside"]["ipv4_address"]
    [network] = [ipaddress.ip_network(one["subnet"]) for one in COMPOSE["networks"]["inside"]["ipam"]["config"]]
    addresses = [gateway["networks"]["inside"]["ipv4_address"] for gateway in GATEWAYS]
    rules = (DEPLOY / "nginx" / "upstreams.conf").read_text()

    assert [str(one) for one in effective().trusted_proxies] == [f"{nginx}/32"]
    assert all(ipaddress.ip_address(address) in network for address in [nginx, *addresses])
    for port in (8080, 8081):
        assert re.findall(rf"server (\S+):{port} ", rules) == addresses


def test_only_nginx_and_on_this_machine_grafana_can_be_reached() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published.keys() == {"nginx", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert SERVICES["redis"]["networks"] == ["inside"]
    for name, listen in (("rest", "8443"), ("cos", "8444")):
        assert f"listen {listen} ssl;" in (DEPLOY / "nginx" / f"{name}.conf").read_text()
        assert any(port.endswith(f":{listen}") for port in published["nginx"])


@pytest.mark.parametrize("name", ["gateway-1", "gateway-2", "nginx", "redis", "cos"])
def test_a_service_may_write_nothing_and_gain_nothing(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_a_gateway_has_the_time_to_drain_and_the_memory_it_asks_for() -> None:
    settings = effective()

    for gateway in GATEWAYS:
        assert int(gateway["stop_grace_period"].removesuffix("s")) >= settings.drain_seconds + SETTLE_SECONDS
        assert int(gateway["mem_limit"].removesuffix("m")) >= 96 + 2 * settings.replay_budget_bytes // MIB
    assert SERVICES["nginx"]["stop_grace_period"] == GATEWAYS[0]["stop_grace_period"]


def test_what_is_mounted_is_there() -> None:
    binds = [
        volume for service in SERVICES.values() for volume in service.get("volumes", ()) if volume.startswith("./")
    ]

    assert {bind.partition(":")[0] for bind in binds if not (DEPLOY / bind.partition(":")[0]).is_dir()} == set()
    assert {bind.rpartition(":")[2] for bind in binds} == {"ro"}


async def test_the_gateway_finds_nothing_wrong_with_this_redis(tmp_path: Path) -> None:
    program, *options = SERVICES["redis"]["command"]
    with running_redis(tmp_path, *options) as url:
        async with Redis.from_url(url) as redis:
            told = {name: str(value) for name, value in (await redis.info()).items()}

    assert program == "redis-server"
    assert told["maxmemory_policy"] == "noeviction"
    assert list(shortcomings(told, is_cluster=False)) == []

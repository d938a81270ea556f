"""compose.yaml, judged by the compose specification's schema; what its parts have to agree on; its Redis, run."""

import ipaddress
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from gateway.commands.redis_survey import look_at_redis
from gateway.config import Settings
from gateway.dev import local_cos
from gateway.store.redis_watch import shortcomings
from tests.deploy.topology import COMPOSE, DEPLOY
from tests.fakes.local_cos import running_local_cos
from tests.fakes.redis_server import running_redis, send_command
from tests.web.rest import PREFIX, running_rest

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
    told = {**image, **more, **GATEWAYS[0]["environment"]}
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
    assert SERVICES["cos"]["environment"] == {
        "GATEWAY_COS_SECRET_ID": settings.cos_secret_id.get_secret_value(),
        "GATEWAY_COS_SECRET_KEY": settings.cos_secret_key.get_secret_value(),
    }
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
    with running_redis(tmp_path, *options[: options.index("--aclfile")]) as url:
        async with Redis.from_url(url) as redis:
            told = {name: str(value) for name, value in (await redis.info()).items()}

    assert program == "redis-server"
    assert told["maxmemory_policy"] == "noeviction"
    assert list(shortcomings(told, is_cluster=False)) == []


def members(network: str) -> set[str]:
    return {name for name, service in SERVICES.items() if network in service["networks"]}


def test_s18_each_network_has_those_alone_who_talk_there() -> None:
    gateways = {"gateway-1", "gateway-2"}

    assert set(SERVICES["redis"]["networks"]) == {"state"}
    assert members("state") == {"redis", *gateways}
    assert members("monitoring") == {"prometheus", "grafana", *gateways}
    assert members("inside") == {"nginx", "cos", *gateways}
    assert members("outside") == gateways
    assert (members("edge"), members("desk")) == ({"nginx"}, {"grafana"})
    assert {name for name, network in COMPOSE["networks"].items() if "internal" in network} == {
        *("inside", "state", "monitoring")
    }


def test_s18_the_admin_listeners_are_for_those_who_watch() -> None:
    [network] = [ipaddress.ip_network(one["subnet"]) for one in COMPOSE["networks"]["monitoring"]["ipam"]["config"]]
    for gateway in GATEWAYS:
        address = gateway["networks"]["monitoring"]["ipv4_address"]

        assert gateway["environment"]["GATEWAY_ADMIN_LISTEN"] == f"{address}:9090"
        assert ipaddress.ip_address(address) in network
        assert f"'{address}', 9090" in gateway["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", [name for name in SERVICES if "build" not in SERVICES[name]])
def test_s18_an_image_that_is_not_built_here_is_named_by_its_digest(name: str) -> None:
    image = SERVICES[name]["image"]
    built_here = {gateway["image"] for gateway in GATEWAYS}

    assert image in built_here or re.fullmatch(r"[a-z/]+:[0-9a-z.-]+@\$\{[A-Z]+_DIGEST:\?its digest\}", image)
    if image not in built_here:
        variable = re.sub(r".*\{(\w+):.*", r"\1", image)
        assert f"{variable}=$(digest {image.partition('@')[0]})" in (DEPLOY.parent / "README.md").read_text()


async def test_s18_this_redis_takes_the_gateway_with_its_password_and_nothing_else(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A whole gateway's work, and what `doctor` looks at, with the rights that compose.yaml gives."""
    password = "a1b2c3"
    users = tmp_path / "users.acl"
    users.write_text(COMPOSE["configs"]["redis-users"]["content"].replace("${REDIS_PASSWORD}", password))
    data = tmp_path / "data"
    data.mkdir()
    with running_redis(data, "--aclfile", str(users)) as url, running_local_cos(tmp_path / "cos") as cos:
        place = url.removeprefix("unix://")
        ours = f"unix://gateway:{password}@{place}"
        async with running_rest(ours, cos) as rest, rest.as_caller() as alice:
            task = await alice.post("/v1/tasks", json={"key": f"{PREFIX}a", "size": MIB, "part_size": MIB})
            assert (await alice.put(f"/v1/tasks/{task.json()['id']}/parts/1", content=bytes(MIB))).status_code == 200
            assert (await alice.post(f"/v1/tasks/{task.json()['id']}/complete")).json()["state"] == "success"
            assert (await alice.post(f"/v1/files?key={PREFIX}b", content=b"b")).status_code == 201
            assert (await alice.get("/v1/tasks")).status_code == 200
            assert (await alice.get("/readyz")).status_code == 200
        assert [finding for finding in await look_at_redis(ours) if finding.is_problem] == []
        assert send_command(url, "PING") == b"+PONG"
        for words in (("GET", "gw:revoked"), ("ZADD", "gw:revoked", "1", "a"), ("INFO",), ("CONFIG", "GET", "*")):
            assert send_command(url, *words).startswith(b"-NOPERM"), words
        async with Redis.from_url(ours) as redis:
            for words in (("GET", "other"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("SHUTDOWN",)):
                with pytest.raises(NoPermissionError):
                    await redis.execute_command(*words)  # type: ignore[no-untyped-call]

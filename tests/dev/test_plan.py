import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_values import BucketSetting, ListenAddress
from gateway.dev.made_up import MadeUpSecrets
from gateway.dev.plan import HeldPorts, Plan, free_port, make_plan

_MADE_UP = MadeUpSecrets(token_secret="t" * 43, cos_secret_id="AKIDmade", cos_secret_key="made-key")
_BUCKET = BucketSetting("docs", "docs-1250000001", "ap-beijing", "in/")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("GATEWAY_"):
            monkeypatch.delenv(name)


def _plan(**given: Any) -> Plan:
    return make_plan(Settings(**given), _MADE_UP, lambda wanted: wanted or 40000)


def test_with_nothing_set_everything_is_made_up_and_nothing_is_wrong() -> None:
    plan = _plan()

    assert plan.settings.problems() == []
    assert plan.settings.token_secret.get_secret_value() == _MADE_UP.token_secret
    assert plan.settings.cos_endpoint == "http://127.0.0.1:9000"
    assert (plan.local_cos_port, plan.local_redis) == (9000, True)
    assert plan.page == "http://127.0.0.1:8080/"


def test_the_local_cos_serves_the_very_buckets_and_key_that_the_gateway_uses() -> None:
    plan = _plan(buckets=(_BUCKET, BucketSetting("again", "docs-1250000001", "ap-beijing", "out/")), data_dir=Path("d"))

    assert plan.settings.buckets[0] == _BUCKET
    assert plan.local_cos_arguments() == [
        *("--listen", "127.0.0.1:9000", "--data", "d"),
        *("--bucket", "docs-1250000001@ap-beijing"),
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"cos_endpoint": "http://127.0.0.1:9999"},
        {"cos_secret_id": SecretStr("AKIDreal"), "cos_secret_key": SecretStr("real")},
        {"cos_credentials_file": Path("keys.json")},
    ],
)
def test_whoever_names_a_cos_gets_no_other(given: dict[str, Any]) -> None:
    plan = _plan(buckets=(_BUCKET,), **given)

    assert plan.local_cos_port is None
    for name, value in given.items():
        assert getattr(plan.settings, name) == value
    assert plan.settings.cos_secret_id.get_secret_value() != _MADE_UP.cos_secret_id


def test_whoever_names_a_redis_gets_no_other() -> None:
    assert not _plan(redis_url=SecretStr("redis://127.0.0.1:6379/0")).local_redis


def test_a_token_secret_that_is_set_stays() -> None:
    plan = _plan(token_secret=SecretStr("mine" * 10))

    assert plan.settings.token_secret.get_secret_value() == "mine" * 10


def test_with_a_jwks_file_no_token_secret_is_made_up() -> None:
    plan = _plan(token_jwks_file=Path("jwks.json"))

    assert plan.settings.token_secret.get_secret_value() == ""


def test_it_ends_quickly_unless_it_was_told_how_long_to_drain() -> None:
    assert _plan().settings.drain_seconds == 5
    assert _plan(drain_seconds=60).settings.drain_seconds == 60


def test_port_0_becomes_a_free_port_and_an_empty_door_stays_shut() -> None:
    plan = _plan(listen="0.0.0.0:0", cos_listen="", admin_listen="[::1]:0")

    assert plan.settings.listen == ListenAddress("0.0.0.0", 40000)  # noqa: S104 -- the rule under test
    assert plan.settings.cos_listen is None
    assert plan.settings.admin_listen == ListenAddress("::1", 40000)
    assert plan.page == "http://127.0.0.1:40000/"


def test_the_wanted_port_is_taken_only_while_nothing_listens_there() -> None:
    with closing(HeldPorts()) as ports:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]

            assert ports.take(port) not in (0, port)
        assert ports.take(port) == port


def test_a_port_that_is_held_is_given_to_nobody_else() -> None:
    first, second = HeldPorts(), HeldPorts()
    wanted = free_port()
    with closing(first), closing(second):
        assert first.take(wanted) == wanted
        assert second.take(wanted) not in (0, wanted)
    with closing(HeldPorts()) as later:
        assert later.take(wanted) == wanted


def test_s21_no_secret_is_an_argument_that_everybody_on_the_machine_sees() -> None:
    plan = _plan(buckets=(_BUCKET,))

    told = " ".join(plan.local_cos_arguments())
    assert plan.settings.cos_secret_key.get_secret_value() not in told
    assert plan.settings.cos_secret_id.get_secret_value() not in told

"""What cannot work is named in one line by `check-config` and `doctor`; `serve` is shown from outside."""

from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from gateway.cli import main
from gateway.commands.ending import BAD_SETTINGS, FAILED, OK
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos
from tests.fakes.redis_server import running_redis

ROWS: Final[Mapping[str, tuple[Mapping[str, str], int, str]]] = {
    "a secret is missing": ({"TOKEN_SECRET": ""}, BAD_SETTINGS, "GATEWAY_TOKEN_SECRET or GATEWAY_TOKEN_JWKS_FILE"),
    "a value is wrong": ({"PART_SIZE_BYTES": "canary"}, BAD_SETTINGS, "GATEWAY_PART_SIZE_BYTES: "),
    "Redis is away": ({"REDIS_URL": "redis://:canary@127.0.0.1:1/0"}, FAILED, "GATEWAY_REDIS_URL: 127.0.0.1:1 does"),
    "COS is away": ({"COS_ENDPOINT": "http://127.0.0.1:1"}, FAILED, "GATEWAY_COS_ENDPOINT: http://127.0.0.1:1 does"),
    "the key is wrong": ({"COS_SECRET_KEY": "canary-wrong-key"}, FAILED, "GATEWAY_COS_SECRET_KEY: "),
    "there is no such bucket": ({"BUCKETS": "files=none-1250000000@ap-guangzhou"}, FAILED, "GATEWAY_BUCKETS: "),
    "the disk is read-only": ({"WORKERS": "2", "METRICS_DIR": "/proc/none"}, FAILED, "GATEWAY_METRICS_DIR: /proc/none"),
    "the clock is off": ({}, FAILED, "set it by NTP"),
}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningCos]]:
    """A Redis set up as it should be, and a local COS."""
    folder = tmp_path_factory.mktemp("bad-input")
    with running_redis(folder) as redis_url, running_local_cos(folder) as cos:
        yield redis_url, cos


@pytest.fixture
def cos(services: tuple[str, RunningCos], monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningCos]:
    """The settings are those of a gateway that works."""
    redis_url, cos = services
    for name, value in {
        "REDIS_URL": redis_url,
        "COS_ENDPOINT": cos.url,
        "COS_SECRET_ID": KEY.secret_id,
        "COS_SECRET_KEY": KEY.secret_key,
        "BUCKETS": f"files={BUCKET.name}@{BUCKET.region}/up/",
        "TOKEN_SECRET": "s" * 40,
    }.items():
        monkeypatch.setenv(f"GATEWAY_{name}", value)
    yield cos
    cos.clear_faults()


def _bad_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was said besides ``NAME=value``, the settings in force, and good news."""
    out, err = capsys.readouterr()
    lines = [*out.splitlines(), *err.splitlines()]
    return [line for line in lines if not line.startswith("ok ") and "=" not in line.partition(" ")[0]]


@pytest.mark.parametrize("command", ["check-config", "doctor"])
@pytest.mark.parametrize("row", list(ROWS))
def test_what_cannot_work_is_named_in_one_line(
    cos: RunningCos, row: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, code, named = ROWS[row]
    for name, value in settings.items():
        monkeypatch.setenv(f"GATEWAY_{name}", value)
    if row == "the clock is off":
        cos.fault("skewed_clock", seconds=1200, times=None)

    assert main([command]) == code

    [line] = _bad_lines(capsys)
    assert named in line
    assert "canary" not in line


@pytest.mark.parametrize("command", ["check-config", "doctor"])
def test_what_works_has_nothing_bad_said_of_it(
    cos: RunningCos, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command]) == OK

    assert _bad_lines(capsys) == []
    assert cos.keys(BUCKET) == cos.open_uploads(BUCKET) == []


def test_a_folder_for_metrics_is_no_setting_of_one_process(
    cos: RunningCos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_METRICS_DIR", "/proc/none")

    assert main(["check-config"]) == OK
    assert _bad_lines(capsys) == []

"""A setting with a typing error is named, and nothing starts (newcomer A4)."""

import pytest

from gateway.cli import main
from gateway.commands.misspelt import misspelt_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "a caller's")
    monkeypatch.setenv("GATEWAY_WORKERS", "2")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GATEWAY_BUCKET", "GATEWAY_BUCKETS"),
        ("GATEWAY_ALLOWED_ORIGIN", "GATEWAY_ALLOWED_ORIGINS"),
        ("GATEWAY_MAX_FILE_SIZE", "GATEWAY_MAX_FILE_SIZE_BYTES"),
        ("gateway_workes", "GATEWAY_WORKERS"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "dev", "check-config"])
def test_a4_a_misspelt_setting_is_named_and_nothing_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, meant: str, command: str
) -> None:
    monkeypatch.setenv(name, "x")

    assert main([command]) == 2
    assert f"{name} is no setting of ours: did you mean {meant}?" in capsys.readouterr().err.splitlines()


def test_what_is_like_no_setting_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_QQQ", "x")

    assert misspelt_settings() == ["GATEWAY_QQQ is no setting of ours: take it out."]


@pytest.mark.parametrize(
    "name",
    [
        "GATEWAY_SERVICE_HOST",
        "GATEWAY_SERVICE_PORT",
        "GATEWAY_SERVICE_PORT_HTTP",
        "GATEWAY_PORT",
        "GATEWAY_PORT_8080_TCP",
        "GATEWAY_PORT_8080_TCP_ADDR",
        "GATEWAY_COS_SERVICE_HOST",
        "GATEWAY_COS_PORT_8081_TCP_PROTO",
    ],
)
def test_what_kubernetes_says_of_a_service_called_gateway_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:8080")

    assert misspelt_settings() == []

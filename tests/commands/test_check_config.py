import pytest

from gateway.cli import main
from gateway.commands.ending import BAD_SETTINGS, OK

_SECRET = "s" * 40


def _set_good_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BUCKETS": "files=files-1250000000@ap-guangzhou/",
        "COS_SECRET_ID": "AKIDabcdefgh",
        "COS_SECRET_KEY": "key-of-cos",
        "TOKEN_SECRET": _SECRET,
    }.items():
        monkeypatch.setenv(f"GATEWAY_{name}", value)


def test_check_config_shows_what_is_in_force_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _set_good_settings(monkeypatch)
    monkeypatch.setenv("GATEWAY_WORKERS", "2")

    assert main(["check-config", "--offline"]) == OK

    output = capsys.readouterr()
    assert "GATEWAY_WORKERS=2\n" in output.out
    assert "GATEWAY_TOKEN_SECRET=**********\n" in output.out
    assert _SECRET not in output.out + output.err


def test_check_config_ends_badly_when_serve_would_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config"]) == BAD_SETTINGS
    assert "GATEWAY_BUCKETS names no bucket" in capsys.readouterr().err

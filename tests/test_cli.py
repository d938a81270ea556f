import os
import time
from pathlib import Path

import jwt
import pytest

from gateway.cli import BAD_SETTINGS, OK, main
from gateway.dev.made_up import keep_secrets
from gateway.web.auth import Authenticator

_SECRET = "s" * 40


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("GATEWAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))


def _set_good_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BUCKETS": "files=files-1250000000@ap-guangzhou/",
        "COS_SECRET_ID": "AKIDabcdefgh",
        "COS_SECRET_KEY": "key-of-cos",
        "TOKEN_SECRET": _SECRET,
    }.items():
        monkeypatch.setenv(f"GATEWAY_{name}", value)


def test_token_prints_one_token_that_the_gateway_takes_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN_SECRET", _SECRET)
    monkeypatch.setenv("GATEWAY_TOKEN_ISSUER", "https://issuer.example")

    code = main(
        [
            *("token", "--subject", "alice", "--bucket", "docs", "--bucket", "files", "--prefix", "a/"),
            *("--max-size", "1048576", "--ttl", "60", "--types", "image/*", "text/plain"),
            *("--actions", "create", "upload"),
        ]
    )

    output = capsys.readouterr()
    caller = Authenticator.with_secret(_SECRET, "upload-gateway", "https://issuer.example").caller_of(
        output.out.strip()
    )
    assert (code, output.err, output.out.count("\n")) == (OK, "", 1)
    assert caller.owner == "alice"
    assert caller.policy.buckets == frozenset({"docs", "files"})
    assert (caller.policy.prefix, caller.policy.max_size) == ("a/", 1048576)
    assert caller.policy.types == ("image/*", "text/plain")
    assert caller.policy.actions == frozenset({"create", "upload"})
    assert 0 < caller.expires_at - time.time() <= 60


def test_a_token_without_restrictions_carries_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN_SECRET", _SECRET)

    main(["token", "--subject", "alice"])

    claims = jwt.decode(capsys.readouterr().out.strip(), _SECRET, algorithms=["HS256"], audience="upload-gateway")
    assert set(claims) == {"sub", "aud", "iat", "exp"}


def test_beside_a_dev_a_token_is_signed_with_the_secret_it_made_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up = keep_secrets(tmp_path / "data")

    assert main(["token", "--subject", "bob"]) == OK

    token = capsys.readouterr().out.strip()
    assert Authenticator.with_secret(made_up.token_secret, "upload-gateway").caller_of(token).owner == "bob"


def test_without_a_secret_there_is_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--subject", "alice"]) == BAD_SETTINGS

    output = capsys.readouterr()
    assert output.out == ""
    assert "GATEWAY_TOKEN_SECRET" in output.err


@pytest.mark.parametrize("arguments", ["--max-size -1", "--ttl soon", "--actions delete", "--max-size 1_000"])
def test_a_token_is_not_made_of_nonsense(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["token", "--subject", "alice", *arguments.split()])

    assert capsys.readouterr().out == ""


def test_serve_refuses_settings_that_cannot_work_and_names_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == BAD_SETTINGS

    sentences = capsys.readouterr().err.splitlines()
    assert len(sentences) == 3
    assert all("GATEWAY_" in sentence for sentence in sentences)


@pytest.mark.parametrize("command", ["serve", "dev", "check-config", "token --subject alice"])
def test_a_value_that_cannot_be_read_stops_every_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", "many")

    assert main(command.split()) == BAD_SETTINGS
    assert capsys.readouterr().err.startswith("GATEWAY_WORKERS: ")


def test_dev_refuses_what_is_insecure_although_it_makes_up_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_ALLOWED_ORIGINS", "*")

    assert main(["dev"]) == BAD_SETTINGS
    assert capsys.readouterr().err.startswith("GATEWAY_ALLOWED_ORIGINS")


def test_check_config_shows_what_is_in_force_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _set_good_settings(monkeypatch)
    monkeypatch.setenv("GATEWAY_WORKERS", "2")
    monkeypatch.setenv("GATEWAY_WORKRES", "3")

    assert main(["check-config"]) == OK

    output = capsys.readouterr()
    assert "GATEWAY_WORKERS=2\n" in output.out
    assert "GATEWAY_TOKEN_SECRET=**********\n" in output.out
    assert output.err.startswith("GATEWAY_WORKRES is no setting of ours")
    assert _SECRET not in output.out + output.err


def test_check_config_ends_badly_when_serve_would_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config"]) == BAD_SETTINGS
    assert "GATEWAY_BUCKETS names no bucket" in capsys.readouterr().err

import time
from pathlib import Path

import jwt
import pytest

from gateway.cli import main
from gateway.commands.ending import BAD_SETTINGS, OK
from gateway.dev.made_up import keep_secrets
from gateway.web.auth import Authenticator

_SECRET = "s" * 40


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
            *("--options", "acl", "grant_*", "--forbid-overwrite"),
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
    assert (caller.policy.options, caller.policy.forbid_overwrite) == (("acl", "grant_*"), True)
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


def test_s17_no_token_is_made_that_the_gateway_would_refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN_SECRET", _SECRET)
    monkeypatch.setenv("GATEWAY_TOKEN_LIFE_SECONDS", "600")

    assert main(["token", "--subject", "alice", "--ttl", "600"]) == OK
    capsys.readouterr()
    assert main(["token", "--subject", "alice", "--ttl", "601"]) != OK
    output = capsys.readouterr()
    assert output.out == ""
    assert "GATEWAY_TOKEN_LIFE_SECONDS" in output.err


@pytest.mark.parametrize("arguments", ["--max-size -1", "--ttl soon", "--actions delete", "--max-size 1_000"])
def test_a_token_is_not_made_of_nonsense(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["token", "--subject", "alice", *arguments.split()])

    assert capsys.readouterr().out == ""

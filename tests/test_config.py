import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.config import BadSettings, Settings, load_settings, unknown_names
from gateway.config_values import BucketSetting, ListenAddress, SealKey

_CANARY = "canary-0123456789-0123456789-0123456789"
_GOOD: dict[str, Any] = {
    "buckets": (BucketSetting("main", "files-1250000000", "ap-guangzhou", ""),),
    "cos_secret_id": SecretStr("id"),
    "cos_secret_key": SecretStr("key"),
    "token_secret": SecretStr("t" * 32),
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("GATEWAY_"):
            monkeypatch.delenv(name)


def test_the_environment_is_read_under_our_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_LISTEN", "[::1]:80")
    monkeypatch.setenv("GATEWAY_COS_LISTEN", "")
    monkeypatch.setenv("GATEWAY_BUCKETS", "a=b-1234567890@ap-beijing/in/, c=d-1234567890@ap-shanghai")
    monkeypatch.setenv("GATEWAY_SEAL_KEYS", f"k1:{_CANARY}")
    monkeypatch.setenv("GATEWAY_ALLOWED_ORIGINS", "https://one.example, https://two.example")
    monkeypatch.setenv("GATEWAY_TOKEN_JWKS_FILE", "")
    monkeypatch.setenv("GATEWAY_WORKERS", "3")

    settings = load_settings()

    assert settings.listen == ListenAddress("::1", 80)
    assert settings.cos_listen is None
    assert settings.buckets == (
        BucketSetting("a", "b-1234567890", "ap-beijing", "in/"),
        BucketSetting("c", "d-1234567890", "ap-shanghai", ""),
    )
    assert settings.seal_keys == (SealKey("k1", SecretStr(_CANARY)),)
    assert settings.allowed_origins == ("https://one.example", "https://two.example")
    assert settings.token_jwks_file is None
    assert settings.workers == 3


def test_secrets_show_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COS_SECRET_ID", "COS_SECRET_KEY", "COS_SESSION_TOKEN", "TOKEN_SECRET"):
        monkeypatch.setenv(f"GATEWAY_{name}", _CANARY)
    monkeypatch.setenv("GATEWAY_SEAL_KEYS", f"k1:{_CANARY}")
    monkeypatch.setenv("GATEWAY_REDIS_URL", f"redis://:{_CANARY}@redis.example/0")

    settings = load_settings()

    shown = repr(settings) + str(settings) + str(settings.effective()) + " ".join(settings.problems())
    assert _CANARY not in shown
    assert settings.effective()["GATEWAY_SEAL_KEYS"] == "k1:**********"


@pytest.mark.parametrize("name", ["SEAL_KEYS", "BUCKETS", "WORKERS", "LISTEN", "COS_CONNECTIONS_COUNT", "LOG_LEVEL"])
def test_a_value_that_cannot_be_read_is_named_but_never_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"GATEWAY_{name}", _CANARY)

    with pytest.raises(BadSettings) as caught:
        load_settings()

    assert [sentence.partition(":")[0] for sentence in caught.value.sentences] == [f"GATEWAY_{name}"]
    assert _CANARY not in str(caught.value)


def test_good_settings_have_no_problem() -> None:
    assert Settings(**_GOOD).problems() == []


_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"buckets": ()}, "GATEWAY_BUCKETS names no bucket"),
    ({"buckets": _GOOD["buckets"] * 2}, "GATEWAY_BUCKETS uses an alias twice"),
    ({"cos_secret_key": SecretStr("")}, "GATEWAY_COS_SECRET_ID and GATEWAY_COS_SECRET_KEY are only useful together"),
    ({"cos_secret_id": SecretStr(""), "cos_secret_key": SecretStr("")}, "GATEWAY_COS_CREDENTIALS_FILE, are missing"),
    ({"cos_credentials_file": Path("keys")}, "GATEWAY_COS_CREDENTIALS_FILE and GATEWAY_COS_SECRET_ID are both set"),
    ({"token_secret": SecretStr("")}, "GATEWAY_TOKEN_SECRET or GATEWAY_TOKEN_JWKS_FILE is missing"),
    ({"token_secret": SecretStr("t" * 31)}, "GATEWAY_TOKEN_SECRET has 31 bytes, expected at least 32"),
    ({"token_jwks_file": Path("jwks"), "seal_keys": f"k:{_CANARY}"}, "are both set: keep one"),
    ({"token_jwks_file": Path("jwks"), "token_secret": SecretStr("")}, "GATEWAY_SEAL_KEYS is missing"),
    ({"seal_keys": "k:short"}, "GATEWAY_SEAL_KEYS holds a secret of less than 32 bytes"),
    ({"seal_keys": f"k:{_CANARY},k:{_CANARY}"}, "GATEWAY_SEAL_KEYS uses an id twice"),
    ({"allowed_origins": "*"}, "GATEWAY_ALLOWED_ORIGINS"),
    ({"allowed_origins": "https://a.example/path"}, "GATEWAY_ALLOWED_ORIGINS"),
    ({"allowed_hosts": "*.example"}, "GATEWAY_ALLOWED_HOSTS"),
    ({"admin_listen": "127.0.0.1:8080"}, "GATEWAY_ADMIN_LISTEN must differ"),
    ({"listen": "192.0.2.1:80", "admin_listen": "127.0.0.1:80"}, "GATEWAY_ADMIN_LISTEN must differ in their ports"),
    ({"cos_endpoint": "http://10.0.0.8:9000"}, "GATEWAY_COS_ENDPOINT is plain http beyond this machine"),
    ({"cos_endpoint": "ftp://cos.example"}, "GATEWAY_COS_ENDPOINT is not"),
    ({"cos_endpoint": "https://cos.example/path"}, "GATEWAY_COS_ENDPOINT is not"),
    ({"cos_endpoint": "https://[cos.example"}, "GATEWAY_COS_ENDPOINT is not"),
    ({"redis_url": SecretStr("redis://redis.example/0")}, "GATEWAY_REDIS_URL has no TLS"),
    ({"redis_url": SecretStr("redis+sentinel://127.0.0.1,10.0.0.9/main/0")}, "GATEWAY_REDIS_URL has no TLS"),
    ({"redis_url": SecretStr("redis+cluster://127.0.0.1,10.0.0.9")}, "GATEWAY_REDIS_URL has no TLS"),
    ({"redis_url": SecretStr("rediss+sentinel://redis.example")}, "GATEWAY_REDIS_URL names no master"),
    ({"redis_url": SecretStr("rediss+cluster://a.example,,b.example")}, "GATEWAY_REDIS_URL is none of"),
    ({"redis_url": SecretStr("redis+other://127.0.0.1")}, "GATEWAY_REDIS_URL is none of"),
    ({"redis_url": SecretStr("http://127.0.0.1")}, "GATEWAY_REDIS_URL is none of"),
    ({"redis_url": SecretStr("unix://")}, "GATEWAY_REDIS_URL is none of"),
    ({"redis_url": SecretStr("redis://:canary@[redis.example")}, "GATEWAY_REDIS_URL is none of"),
    ({"bucket_types": "nowhere=image/*"}, "GATEWAY_BUCKET_TYPES names an alias that is not in GATEWAY_BUCKETS"),
    ({"replay_budget_bytes": 2**20}, "GATEWAY_REPLAY_BUDGET_BYTES is 1048576, expected at least one part: 4194304"),
]


@pytest.mark.parametrize(
    ("change", "expected"), _PROBLEMS, ids=[f"{list(c)}-{i}" for i, (c, _) in enumerate(_PROBLEMS)]
)
def test_what_is_insecure_or_impossible_is_named_in_one_sentence(change: dict[str, Any], expected: str) -> None:
    problems = Settings(**{**_GOOD, **change}).problems()

    assert len(problems) == 1
    assert expected in problems[0]
    assert problems[0].endswith(".")


@pytest.mark.parametrize(
    "change",
    [
        {"cos_endpoint": "http://127.0.0.1:9000"},
        {"cos_endpoint": "http://[::1]:9000"},
        {"cos_endpoint": "http://localhost:9000"},
        {"cos_endpoint": "https://cos.example"},
        {"cos_endpoint": "http://cos.example", "cos_allow_plain_http": True},
        {"redis_url": SecretStr("unix:///run/redis.sock")},
        {"redis_url": SecretStr("rediss://redis.example/0")},
        {"redis_url": SecretStr("redis://redis.example/0"), "redis_allow_plain": True},
        {"redis_url": SecretStr("redis+sentinel://:secret@127.0.0.1:26379,localhost/main/0")},
        {"redis_url": SecretStr("rediss+cluster://redis-1.example:7000,redis-2.example")},
        {"token_secret": SecretStr(""), "token_jwks_file": Path("jwks.json"), "seal_keys": f"k1:{_CANARY}"},
        {"listen": "127.0.0.1:0", "cos_listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"},
        {"allowed_origins": "https://a.example,http://localhost:3000"},
    ],
)
def test_what_is_secure_or_opted_into_is_no_problem(change: dict[str, Any]) -> None:
    assert Settings(**{**_GOOD, **change}).problems() == []


def test_a_misspelt_setting_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_BUCKET", "a=b-1234567890@ap-beijing")
    monkeypatch.setenv("GATEWAY_WORKERS", "2")

    assert unknown_names() == ["GATEWAY_BUCKET"]


def test_settings_reach_the_workers_whole() -> None:
    settings = Settings(**_GOOD)

    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 -- our own bytes


def test_a_child_reads_the_very_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", "2")
    settings = load_settings(
        **_GOOD,
        seal_keys=(SealKey("k1", SecretStr(_CANARY)), SealKey("k2", SecretStr(_CANARY))),
        cos_listen=None,
        drain_seconds=1_234_567.25,
        metrics_dir=Path("m"),
        redis_url=SecretStr("redis://:secret@127.0.0.1/0"),
        cos_allow_plain_http=True,
    )

    for name, text in settings.child_environment().items():
        monkeypatch.setenv(name, text)

    assert load_settings() == settings


def test_a_child_keeps_the_rest_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")

    assert Settings(**_GOOD).child_environment()["LANG"] == "zh_CN.UTF-8"

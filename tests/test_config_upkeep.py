from typing import Any

import pytest
from pydantic import SecretStr

from gateway.config import BadSettings, Settings, load_settings
from gateway.config_upkeep import WebhookSetting

_GOOD: dict[str, Any] = {
    "buckets": "main=files-1250000000@ap-guangzhou,again=files-1250000000@ap-guangzhou/b/",
    "cos_secret_id": SecretStr("id"),
    "cos_secret_key": SecretStr("key"),
    "token_secret": SecretStr("t" * 32),
    "webhook_secret": SecretStr("s" * 32),
}


def _problems(**settings: Any) -> list[str]:
    return load_settings(**{**_GOOD, **settings}).problems()


def test_webhooks_are_read_by_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WEBHOOKS", "main=https://a.example/hook?x=1, other=https://b.example/")

    settings = load_settings()

    assert settings.webhooks == (
        WebhookSetting("main", "https://a.example/hook?x=1"),
        WebhookSetting("other", "https://b.example/"),
    )
    assert settings.effective()["GATEWAY_WEBHOOKS"] == "main=https://a.example/hook?x=1,other=https://b.example/"


@pytest.mark.parametrize("text", ["https://a.example/", "main=", "=https://a.example/", "main"])
def test_webhooks_without_alias_or_address_cannot_be_read(text: str) -> None:
    with pytest.raises(BadSettings, match="GATEWAY_WEBHOOKS"):
        load_settings(webhooks=text)


@pytest.mark.parametrize(
    "url",
    ["https://hooks.example/a", "https://8.8.8.8/", "http://127.0.0.1:9/x", "http://localhost:9/", "http://[::1]:9/"],
)
def test_public_and_loopback_receivers_are_fine(url: str) -> None:
    assert _problems(webhooks=f"main={url}") == []


@pytest.mark.promise(26)
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"webhooks": "main=http://hooks.example/"}, "GATEWAY_WEBHOOK_ALLOW_PLAIN_HTTP"),
        ({"webhooks": "main=https://10.0.0.5/"}, "GATEWAY_WEBHOOK_ALLOW_PRIVATE"),
        ({"webhooks": "main=https://[::ffff:169.254.169.254]/"}, "GATEWAY_WEBHOOK_ALLOW_PRIVATE"),
        ({"webhooks": "main=ftp://hooks.example/"}, "GATEWAY_WEBHOOKS takes"),
        ({"webhooks": "main=https://user:pw@hooks.example/"}, "GATEWAY_WEBHOOKS takes"),
        ({"webhooks": "main=https:///x"}, "GATEWAY_WEBHOOKS takes"),
        ({"webhooks": "elsewhere=https://hooks.example/"}, "GATEWAY_WEBHOOKS names an alias"),
        ({"webhooks": "main=https://a.example/,again=https://b.example/"}, "GATEWAY_WEBHOOKS names a bucket twice"),
        ({"webhooks": "main=https://a.example/", "webhook_secret": SecretStr("short")}, "GATEWAY_WEBHOOK_SECRET"),
        ({"webhooks": "main=https://a.example/", "task_ttl_seconds": 60}, "GATEWAY_WEBHOOK_RETRY_SECONDS"),
    ],
)
def test_what_is_insecure_or_cannot_work_is_named(settings: dict[str, Any], named: str) -> None:
    problems = _problems(**settings)

    assert len(problems) == 1
    assert named in problems[0]


def test_each_opt_in_allows_its_own() -> None:
    assert _problems(webhooks="main=http://hooks.example/", webhook_allow_plain_http=True) == []
    assert _problems(webhooks="main=https://10.0.0.5/", webhook_allow_private=True) == []


def test_without_webhooks_nothing_is_asked_of_their_settings() -> None:
    assert _problems(webhook_secret=SecretStr(""), webhook_retry_seconds=10**9) == []
    assert Settings().webhooks == ()


def test_a_sweep_period_keeps_the_promise() -> None:
    """An orphan is gone half an hour after its time."""
    with pytest.raises(BadSettings, match="GATEWAY_SWEEP_SECONDS"):
        load_settings(sweep_seconds=1801)

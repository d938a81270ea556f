"""The settings of what runs beside requests: the sweeper, open intents, webhooks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from gateway.config_values import is_loopback
from gateway.domain.addresses import is_public_address

MIN_WEBHOOK_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WebhookSetting:
    """Where the events of the bucket ``alias`` go."""

    alias: str
    url: str

    def __str__(self) -> str:
        return f"{self.alias}={self.url}"


def _parse_webhooks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [item.strip().partition("=") for item in value.split(",") if item.strip()]
    if not all(alias and url for alias, _, url in pairs):
        raise ValueError("expected alias=https://…, separated by commas")
    return tuple(WebhookSetting(alias, url) for alias, _, url in pairs)


Webhooks = Annotated[tuple[WebhookSetting, ...], NoDecode, BeforeValidator(_parse_webhooks)]


class UpkeepSettings(BaseSettings):
    """The part of ``config.Settings`` that is about upkeep."""

    sweep_seconds: float = Field(
        default=900, gt=0, le=1800, description="Time between two sweeps for uploads at COS that no living task has."
    )
    sweep_whole_buckets: bool = Field(
        default=False,
        description="Sweeps buckets configured without a prefix too: other programs' old uploads there are aborted.",
    )
    intent_seconds: float = Field(
        default=30,
        gt=0,
        description="Time after which another process looks after what one began at COS: to open, complete or abort.",
    )

    webhooks: Webhooks = Field(
        default=(),
        description="alias=https://…, separated by commas: where the events of a bucket's tasks go. No secrets in it.",
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description=f"Signs what webhooks are told (HMAC-SHA256), {MIN_WEBHOOK_SECRET_BYTES} bytes or more.",
    )
    webhook_retry_seconds: float = Field(
        default=3 * 24 * 3600, gt=0, description="Time that an event is told again before it is given up."
    )
    webhook_allow_private: bool = Field(
        default=False, description="Allows webhooks at private addresses; loopback written as such always is."
    )
    webhook_allow_plain_http: bool = Field(
        default=False, description="Allows http:// webhooks beyond this machine: anybody on the way reads events."
    )

    def _upkeep_problems(self, buckets: Mapping[str, str], task_ttl_seconds: float) -> Iterator[str]:
        """One sentence for each of these settings that is insecure or cannot work; *buckets* by their aliases."""
        if not self.webhooks:
            return
        secret = self.webhook_secret.get_secret_value().encode()
        if len(secret) < MIN_WEBHOOK_SECRET_BYTES:
            yield f"GATEWAY_WEBHOOK_SECRET has {len(secret)} bytes, expected at least {MIN_WEBHOOK_SECRET_BYTES}."
        if self.webhook_retry_seconds > task_ttl_seconds:
            yield "GATEWAY_WEBHOOK_RETRY_SECONDS is more than GATEWAY_TASK_TTL_SECONDS: events end with their tasks."
        if len({buckets.get(hook.alias, hook.alias) for hook in self.webhooks}) < len(self.webhooks):
            yield "GATEWAY_WEBHOOKS names a bucket twice."
        if not all(hook.alias in buckets for hook in self.webhooks):
            yield "GATEWAY_WEBHOOKS names an alias that GATEWAY_BUCKETS does not have."
        for hook in self.webhooks:
            yield from self._address_problems(hook.url)

    def _address_problems(self, address: str) -> Iterator[str]:
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or url.fragment:
            yield "GATEWAY_WEBHOOKS takes http(s)://host[:port]/path only, without a user or a fragment."
            return
        if is_loopback(url.hostname):
            return
        if url.scheme == "http" and not self.webhook_allow_plain_http:
            yield "GATEWAY_WEBHOOKS is plain http beyond this machine: use https or GATEWAY_WEBHOOK_ALLOW_PLAIN_HTTP."
        if _is_private(url.hostname) and not self.webhook_allow_private:
            yield "GATEWAY_WEBHOOKS has a private address: set GATEWAY_WEBHOOK_ALLOW_PRIVATE if that is meant."


def _is_private(host: str) -> bool:
    try:
        return not is_public_address(host)
    except ValueError:
        return False  # a name: what it leads to is looked at before each connection

"""Every setting of the gateway, from ``GATEWAY_*``. Nothing else reads the environment.

Units are in the names: bytes, seconds, counts. ``problems`` names what is insecure or cannot work; `serve` refuses to
start with any.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from gateway.config_edge import EdgeSettings
from gateway.config_limits import LimitSettings
from gateway.config_tracing import TracingSettings
from gateway.config_upkeep import UpkeepSettings
from gateway.config_values import (
    AddressRanges,
    Buckets,
    Listen,
    ListenAddress,
    Names,
    OptionalListen,
    OptionalPath,
    SealKeys,
    as_text,
    hosts_of,
    is_endpoint,
    is_loopback,
    is_origin,
)

PREFIX: Final = "GATEWAY_"
CALLER_TOKEN: Final = "GATEWAY_TOKEN"  # noqa: S105 -- a variable's name
"""No setting of the service: the token of whoever calls one from the command line."""
MIN_SECRET_BYTES: Final = 32
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB
_PLAIN_REDIS_SCHEMES: Final = frozenset({"redis", "redis+sentinel", "redis+cluster"})
_REDIS_SCHEMES: Final = _PLAIN_REDIS_SCHEMES | {"rediss", "rediss+sentinel", "rediss+cluster", "unix"}
_NO_SECRET: Final = SecretStr("")


class BadSettings(Exception):
    """The settings cannot be used; each of ``sentences`` names one of them."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class Settings(EdgeSettings, LimitSettings, TracingSettings, UpkeepSettings):
    """What ``GATEWAY_<FIELD>`` says, or the default. Secrets show as stars wherever the object is printed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, hide_input_in_errors=True)

    listen: Listen = Field(
        default=ListenAddress("127.0.0.1", 8080), description="Where front ends connect: REST, websockets, the console."
    )
    cos_listen: OptionalListen = Field(
        default=ListenAddress("127.0.0.1", 8081), description="Where COS's own SDKs connect; empty turns this door off."
    )
    admin_listen: OptionalListen = Field(
        default=ListenAddress("127.0.0.1", 9090), description="Where /metrics and /version are; empty turns them off."
    )
    allowed_origins: Names = Field(
        default=(), description="Web origins, as https://host, that may call besides our own; separated by commas."
    )
    allowed_hosts: Names = Field(
        default=(),
        description="Host names we answer to, separated by commas; empty means the listen addresses, localhost and, "
        "on the COS door, the buckets' own hosts.",
    )
    workers: int = Field(default=1, ge=1, le=256, description="Processes that share the listen addresses.")

    buckets: Buckets = Field(
        default=(),
        description="The only destinations there are: alias=bucket-appid@region/prefix, separated by commas; "
        "the first is the default, the prefix may be empty.",
    )
    cos_secret_id: SecretStr = Field(default=_NO_SECRET, description="Tencent Cloud SecretId.")
    cos_secret_key: SecretStr = Field(default=_NO_SECRET, description="Tencent Cloud SecretKey.")
    cos_session_token: SecretStr = Field(default=_NO_SECRET, description="Session token, when the keys are temporary.")
    cos_credentials_file: OptionalPath = Field(
        default=None, description="File with the COS keys instead, read again when it changes."
    )
    cos_endpoint: str = Field(
        default="",
        description="http(s)://host:port to connect to instead of the bucket's own host; empty for COS itself.",
    )
    cos_allow_plain_http: bool = Field(
        default=False, description="Allows an http:// COS endpoint beyond this machine: bytes and keys pass in clear."
    )
    cos_address_ranges: AddressRanges = Field(
        default=(),
        description="Where COS's addresses may lie, as 203.0.113.0/24,…; a DNS answer outside is refused; "
        "empty allows all.",
    )
    cos_connections_count: int = Field(
        default=1024,
        ge=1024,
        description="Connections to COS, at most, per process; a quarter more for calls that are repeated.",
    )
    cos_connect_seconds: float = Field(default=3, gt=0, description="Time to connect to COS.")
    cos_stall_seconds: float = Field(
        default=20, gt=0, description="Time without a byte moving after which a call to COS is given up."
    )
    cos_answer_seconds: float = Field(default=30, gt=0, description="Time COS has to answer once it has the request.")
    cos_complete_seconds: float = Field(
        default=600, gt=0, description="Time COS has to merge the parts of one upload and say so."
    )

    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// or unix:// of one server; redis+sentinel://host,host/master/0; "
        "redis+cluster://host,host; rediss+… with TLS.",
    )
    redis_allow_plain: bool = Field(
        default=False, description="Allows a Redis without TLS beyond this machine: a private network protects it."
    )

    ack_without_state: bool = Field(
        default=False,
        description="Acknowledges a part that COS holds although Redis does not answer, "
        "instead of asking for it again.",
    )

    token_secret: SecretStr = Field(
        default=_NO_SECRET, description=f"HS256 secret of the callers' tokens, {MIN_SECRET_BYTES} bytes or more."
    )
    token_jwks_file: OptionalPath = Field(
        default=None, description="JWKS file with the public keys of the callers' tokens, instead of the secret."
    )
    token_audience: str = Field(default="upload-gateway", min_length=1, description="The aud that tokens must carry.")
    token_issuer: str = Field(default="", description="The iss that tokens must carry; empty asks for none.")
    seal_keys: SealKeys = Field(
        default=(),
        description="id:secret,… that seal tickets, cursors and issued COS keys: the first seals, all open; "
        "empty derives one from the token secret.",
    )

    slice_size_bytes: int = Field(
        default=_MIB, ge=_MIB, le=5 * _GIB, description="Files up to this size go to COS in one piece, larger in parts."
    )
    part_size_bytes: int = Field(
        default=4 * _MIB,
        ge=_MIB,
        le=5 * _GIB,
        description="Size of a part unless the caller asks for another; grows so that a file fits 10,000 parts.",
    )
    max_file_size_bytes: int = Field(
        default=50_000 * _GIB, ge=0, le=50_000 * _GIB, description="Largest file; COS's own limit is the default."
    )
    replay_budget_bytes: int = Field(
        default=256 * _MIB,
        ge=_MIB,
        description="Memory per process that holds parts in flight, so that we can send them to COS again.",
    )
    memory_budget_bytes: int = Field(
        default=32 * _MIB,
        ge=32 * _MIB,
        description="Memory per process that holds whatever else callers send or have not taken yet: lists, form "
        "fields, answers, progress.",
    )
    complete_wait_seconds: float = Field(
        default=50, gt=0, description="Time a complete call waits for COS's verdict before it answers 202."
    )
    task_ttl_seconds: int = Field(
        default=7 * 24 * 3600, ge=60, description="Life of an unfinished task after its last change, and of its parts."
    )

    start_seconds: float = Field(
        default=10,
        ge=0,
        description="Time that `serve` gives Redis and COS to answer before it gives up; 0 starts without looking.",
    )
    drain_seconds: float = Field(
        default=60,
        ge=0,
        description="Time from SIGTERM to the end, the notice included; bodies have all but the last fifth of it, "
        "5 s at most.",
    )
    drain_notice_seconds: float = Field(
        default=5, ge=0, description="Time after SIGTERM that new requests are still taken, while readiness is off."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    metrics_dir: OptionalPath = Field(
        default=None,
        description="Folder, best on tmpfs, where several workers keep their metrics; empty makes a temporary one.",
    )
    data_dir: Path = Field(
        default=Path("data"), description="dev only: Redis's files, the local COS and made-up secrets."
    )

    def problems(self) -> list[str]:
        """One sentence for each setting, or combination, that is insecure or cannot work; empty when all is well."""
        return [
            *self._destination_problems(),
            *self._identity_problems(),
            *self._limit_problems({bucket.alias for bucket in self.buckets}),
            *self._network_problems(),
            *self._size_problems(),
            *self._edge_problems(),
            *self._tracing_problems(),
            *self._upkeep_problems({place.alias: place.name for place in self.buckets}, self.task_ttl_seconds),
        ]

    def effective(self, *, reveal: bool = False) -> dict[str, str]:
        """Every setting as an environment variable; secrets as stars unless they are to be revealed."""
        return {PREFIX + name.upper(): as_text(getattr(self, name), reveal=reveal) for name in type(self).model_fields}

    def child_environment(self) -> dict[str, str]:
        """The environment of a process that we start: ours, and these settings in clear."""
        return {**os.environ, **self.effective(reveal=True)}

    def _destination_problems(self) -> Iterator[str]:
        if not self.buckets:
            yield "GATEWAY_BUCKETS names no bucket: give at least one as alias=bucket-appid@region/prefix."
        if len({bucket.alias for bucket in self.buckets}) < len(self.buckets):
            yield "GATEWAY_BUCKETS uses an alias twice."
        has_id, has_key = bool(self.cos_secret_id.get_secret_value()), bool(self.cos_secret_key.get_secret_value())
        if has_id != has_key:
            yield "GATEWAY_COS_SECRET_ID and GATEWAY_COS_SECRET_KEY are only useful together."
        if not (has_id or has_key or self.cos_credentials_file):
            yield "GATEWAY_COS_SECRET_ID and GATEWAY_COS_SECRET_KEY, or GATEWAY_COS_CREDENTIALS_FILE, are missing."
        if (has_id or has_key) and self.cos_credentials_file:
            yield "GATEWAY_COS_CREDENTIALS_FILE and GATEWAY_COS_SECRET_ID are both set: keep one."

    def _identity_problems(self) -> Iterator[str]:
        secret = self.token_secret.get_secret_value()
        if not secret and not self.token_jwks_file:
            yield "GATEWAY_TOKEN_SECRET or GATEWAY_TOKEN_JWKS_FILE is missing: nobody could be let in."
        if secret and self.token_jwks_file:
            yield "GATEWAY_TOKEN_SECRET and GATEWAY_TOKEN_JWKS_FILE are both set: keep one."
        if secret and len(secret.encode()) < MIN_SECRET_BYTES:
            yield f"GATEWAY_TOKEN_SECRET has {len(secret.encode())} bytes, expected at least {MIN_SECRET_BYTES}."
        if self.token_jwks_file and not self.seal_keys:
            yield "GATEWAY_SEAL_KEYS is missing: with a JWKS file there is no secret to derive it from."
        if any(len(key.secret.get_secret_value().encode()) < MIN_SECRET_BYTES for key in self.seal_keys):
            yield f"GATEWAY_SEAL_KEYS holds a secret of less than {MIN_SECRET_BYTES} bytes."
        if len({key.id for key in self.seal_keys}) < len(self.seal_keys):
            yield "GATEWAY_SEAL_KEYS uses an id twice."

    def _network_problems(self) -> Iterator[str]:
        if not all(is_origin(origin) for origin in self.allowed_origins):
            yield "GATEWAY_ALLOWED_ORIGINS takes origins as https://host[:port] only; * would let every site in."
        if any("*" in host or "/" in host for host in self.allowed_hosts):
            yield "GATEWAY_ALLOWED_HOSTS takes plain host names only, without * or a scheme."
        ports = [at.port for at in (self.listen, self.cos_listen, self.admin_listen) if at is not None and at.port]
        if len(set(ports)) < len(ports):  # a request's port, not its address, says which door it is for
            yield "GATEWAY_LISTEN, GATEWAY_COS_LISTEN and GATEWAY_ADMIN_LISTEN must differ in their ports."
        yield from self._endpoint_problems()
        yield from self._redis_problems()

    def _endpoint_problems(self) -> Iterator[str]:
        if not self.cos_endpoint:
            return
        if not is_endpoint(self.cos_endpoint):
            yield "GATEWAY_COS_ENDPOINT is not http(s)://host[:port]."
            return
        url = urlsplit(self.cos_endpoint)
        if url.scheme == "http" and not is_loopback(url.hostname or "") and not self.cos_allow_plain_http:
            yield "GATEWAY_COS_ENDPOINT is plain http beyond this machine: use https or GATEWAY_COS_ALLOW_PLAIN_HTTP."

    def _redis_problems(self) -> Iterator[str]:
        try:
            url = urlsplit(self.redis_url.get_secret_value())
        except ValueError:  # a bracket that nothing closes
            url = urlsplit("")
        if url.scheme not in _REDIS_SCHEMES or not (url.path if url.scheme == "unix" else all(hosts_of(url.netloc))):
            yield "GATEWAY_REDIS_URL is none of redis:// rediss:// unix:// redis+sentinel:// redis+cluster://."
            return
        if url.scheme.endswith("+sentinel") and not url.path.strip("/"):
            yield "GATEWAY_REDIS_URL names no master: redis+sentinel://host:port,host:port/master/0."
        plain = url.scheme in _PLAIN_REDIS_SCHEMES and not self.redis_allow_plain
        if plain and not all(is_loopback(host) for host in hosts_of(url.netloc)):
            yield "GATEWAY_REDIS_URL has no TLS beyond this machine: use rediss:// or GATEWAY_REDIS_ALLOW_PLAIN."

    def _size_problems(self) -> Iterator[str]:
        if self.replay_budget_bytes < self.part_size_bytes:
            yield (
                f"GATEWAY_REPLAY_BUDGET_BYTES is {self.replay_budget_bytes}, expected at least one part: "
                f"{self.part_size_bytes}, as GATEWAY_PART_SIZE_BYTES says."
            )


def load_settings(**given: Any) -> Settings:
    """The settings of this process; *given* fields go before the environment.

    Raises:
        BadSettings: a value cannot be read. The values themselves are never repeated.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise BadSettings([_sentence(dict(item)) for item in error.errors()]) from None


def _sentence(item: Mapping[str, Any]) -> str:
    name = PREFIX + str(item["loc"][0]).upper()
    return f"{name}: {item['msg'].removeprefix('Value error, ')}."


def known_names() -> frozenset[str]:
    """Every variable that is ours."""
    return frozenset({PREFIX + name.upper() for name in Settings.model_fields} | {CALLER_TOKEN})


def unknown_names() -> list[str]:
    """Variables that begin like ours and are none: a typing error, or another program's."""
    known = known_names()
    return sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)

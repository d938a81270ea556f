"""What `dev` fills in: whatever is set in ``GATEWAY_*`` is honoured, the rest is made up."""

import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_values import BucketOptionsSetting, BucketSetting, ListenAddress
from gateway.dev.made_up import MadeUpSecrets

LOOPBACK: Final = "127.0.0.1"
_BACKLOG: Final = 2048
_COS_PORT: Final = 9000
_BUCKET: Final = BucketSetting("files", "files-1250000000", "ap-guangzhou", "")
_QUICK_END: Final = {"drain_seconds": 5.0, "drain_notice_seconds": 0.0}


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings with nothing left open, and what to start beside the gateway.

    Args:
        settings: what `serve` will read; but for Redis's address, which the started one tells.
        local_cos_port: where the local COS listens, or None where COS is elsewhere.
        local_redis: whether to start a Redis.
    """

    settings: Settings
    local_cos_port: int | None
    local_redis: bool

    @property
    def page(self) -> str:
        """The console's address, as this machine reaches it."""
        return f"http://{self.reachable}/"

    @property
    def reachable(self) -> ListenAddress:
        """Where this machine reaches the gateway."""
        listen = self.settings.listen
        here = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 -- compared, not bound
        return ListenAddress(here.get(listen.host, listen.host), listen.port)

    def local_cos_arguments(self) -> list[str]:
        """The command line of the local COS, which takes its key from the environment as the gateway does."""
        settings = self.settings
        places = dict.fromkeys(f"{bucket.name}@{bucket.region}" for bucket in settings.buckets)
        return [
            *("--listen", f"{LOOPBACK}:{self.local_cos_port}"),
            *("--data", str(settings.data_dir)),
            *(argument for place in places for argument in ("--bucket", place)),
        ]


def make_plan(settings: Settings, made_up: MadeUpSecrets, free_port: Callable[[int], int]) -> Plan:
    """Fill in what *settings* leave open. *free_port* gives a port to listen on, the wanted one if it can (0: any)."""
    given = settings.model_fields_set
    changes: dict[str, Any] = {name: value for name, value in _QUICK_END.items() if name not in given}
    for name in ("listen", "cos_listen", "admin_listen"):
        at: ListenAddress | None = getattr(settings, name)
        if at is not None and at.port == 0:
            changes[name] = ListenAddress(at.host, free_port(0))
    if not settings.token_secret.get_secret_value() and settings.token_jwks_file is None:
        changes["token_secret"] = SecretStr(made_up.token_secret)
    port = free_port(_COS_PORT) if _wants_local_cos(settings) else None
    if port is not None:
        changes |= {
            "cos_endpoint": f"http://{LOOPBACK}:{port}",
            "cos_secret_id": SecretStr(made_up.cos_secret_id),
            "cos_secret_key": SecretStr(made_up.cos_secret_key),
            "buckets": settings.buckets or (_BUCKET,),
        }
    if "bucket_options" not in given:  # whoever develops has the buckets to themselves
        places = changes.get("buckets", settings.buckets)
        changes["bucket_options"] = tuple(BucketOptionsSetting(place.alias, ("*",)) for place in places)
    return Plan(settings.model_copy(update=changes), port, local_redis="redis_url" not in given)


def _wants_local_cos(settings: Settings) -> bool:
    return not (settings.cos_endpoint or settings.cos_secret_id.get_secret_value() or settings.cos_credentials_file)


class HeldPorts:
    """Takes ports for ``make_plan``: a wanted one is listened on at once, so that two starts never agree on it."""

    def __init__(self) -> None:
        self.listeners: dict[int, socket.socket] = {}

    def take(self, wanted: int) -> int:
        """*wanted*, or another where something listens already; for 0 a port that was free a moment ago."""
        if not wanted:
            return free_port()
        try:
            listener = socket.create_server((LOOPBACK, wanted), backlog=_BACKLOG)
        except OSError:
            listener = socket.create_server((LOOPBACK, 0), backlog=_BACKLOG)
        port: int = listener.getsockname()[1]
        self.listeners[port] = listener
        return port

    def close(self) -> None:
        """Listen on none of them any more."""
        for listener in self.listeners.values():
            listener.close()


def free_port() -> int:
    """A port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port

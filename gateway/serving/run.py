"""What `serve` does: listen, then serve here or have workers serve, until a signal ends it."""

import contextlib
import logging
import os
from urllib.parse import urlsplit

from gateway import VERSION
from gateway.config import Settings, load_settings
from gateway.config_values import as_text
from gateway.serving.listeners import CannotStart, bound, raise_file_limit
from gateway.serving.process import serve_alone, start_logging
from gateway.serving.workers import serve_with_workers
from gateway.telemetry import metrics_folder

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Raises:
        CannotStart: an address cannot be listened on, or the folder of metrics not be written.
    """
    raise_file_limit()
    lines = start_logging(settings)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(listener) for listener in bound(settings)]
        settings = load_settings()  # with the ports that came of port 0
        log.info("the gateway serves", extra=what_serves(settings))
        if settings.workers == 1:
            return serve_alone(settings, lines, sockets)
        try:
            folder = stack.enter_context(metrics_folder(settings.metrics_dir))
        except OSError as error:
            raise CannotStart(
                f"GATEWAY_METRICS_DIR: {error.filename} cannot be written ({error.strerror}): name a folder on a tmpfs."
            ) from error
        os.environ["GATEWAY_METRICS_DIR"] = str(folder)
        return serve_with_workers(settings, sockets, folder)


def what_serves(settings: Settings) -> dict[str, str | int]:
    """What whoever starts it wants to read first: its version, where it listens, and what it works with."""
    redis = urlsplit(settings.redis_url.get_secret_value())
    told: dict[str, str | int] = {
        "version": VERSION,
        "listen": as_text(settings.listen),
        "cos_listen": as_text(settings.cos_listen),
        "admin_listen": as_text(settings.admin_listen),
        "buckets": as_text(settings.buckets),
        "redis": f"{redis.scheme}://{redis.netloc.rpartition('@')[2]}{redis.path}",
        "workers": settings.workers,
    }
    return {name: value for name, value in told.items() if value != ""}

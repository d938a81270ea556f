"""What `serve` does: listen, then serve here or have workers serve, until a signal ends it."""

import contextlib
import os

from gateway.config import Settings, load_settings
from gateway.serving.listeners import CannotStart, bound, raise_file_limit
from gateway.serving.process import serve_alone, start_logging
from gateway.serving.workers import serve_with_workers
from gateway.telemetry import metrics_folder


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

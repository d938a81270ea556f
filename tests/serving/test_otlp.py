import socket
import time

import pytest

from gateway.serving.otlp import exporting
from gateway.tracing import Span, Trace

pytest.importorskip("opentelemetry.sdk")


def test_a_collector_that_is_away_costs_nobody_time() -> None:
    """What a collector gets is shown by tests/system/test_traces.py."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    export, close = exporting(f"http://127.0.0.1:{port}")
    trace = Trace("a" * 32, "b" * 16, sampled=True)

    began = time.monotonic()
    for _ in range(100):
        export(Span("PUT rest", "server", trace, "", 1, 2, {}, failed=True))
    assert time.monotonic() - began < 5
    close()

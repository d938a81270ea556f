import io
import logging
import sys

import pytest

from gateway.log_writer import LogWriter
from gateway.serving.process import build_server, start_logging
from tests.test_app import settings


async def test_a_process_is_unready_from_the_first_order_on(redis_url: str) -> None:
    """What a drain does to clients is shown from outside, by tests/system/test_drain.py."""
    lines = LogWriter(io.StringIO())
    server = build_server(settings(redis_url, drain_notice_seconds=1, drain_seconds=2), lines)
    assert not server.should_exit

    server.drain()
    server.retire()

    assert server.should_exit


def test_no_password_of_redis_reaches_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    url = "redis+sentinel://user:pass%2Fword-1@h1:1,h2:2/name/0?sentinel_password=password-2"
    level = root.level
    lines = start_logging(settings(url))
    logging.getLogger("redis").warning("at user:pass%2Fword-1, pass/word-1 or password-2")
    lines.flush(5)
    root.setLevel(level)

    assert "at user:***, *** or ***" in stream.getvalue()

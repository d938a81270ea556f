import io
import logging
import sys

import pytest

from gateway.log_writer import LogWriter
from gateway.serving.process import build_server, read_budget_of, start_logging
from gateway.web.read_budget import SMALLEST_PIECE_BYTES
from tests.test_app import settings


async def test_a_process_is_unready_from_the_first_order_on(redis_url: str) -> None:
    """What a drain does to clients is shown from outside, by tests/system/test_drain.py."""
    lines = LogWriter(io.StringIO())
    server = build_server(settings(redis_url, drain_notice_seconds=1, drain_seconds=2), lines)
    assert not server.should_exit

    server.drain()
    server.retire()

    assert server.should_exit


@pytest.mark.parametrize(("replay_mib", "shared_mib"), [(8, 2), (64, 16), (256, 32)])
def test_f1_what_bodies_hold_without_a_lease_follows_the_replay_budget(replay_mib: int, shared_mib: int) -> None:
    reads = read_budget_of(settings("redis://127.0.0.1:6379/0", replay_budget_bytes=replay_mib << 20))
    while reads.piece_bytes > SMALLEST_PIECE_BYTES:
        reads.hold(reads.piece_bytes)

    assert 0 <= (shared_mib << 20) - reads.held_bytes < 8 * SMALLEST_PIECE_BYTES


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

import io

from gateway.log_writer import LogWriter
from gateway.serving.process import build_server
from tests.test_app import settings


async def test_a_process_is_unready_from_the_first_order_on(redis_url: str) -> None:
    """What a drain does to clients is shown from outside, by tests/system/test_drain.py."""
    lines = LogWriter(io.StringIO())
    server = build_server(settings(redis_url, drain_notice_seconds=1, drain_seconds=2), lines)
    assert not server.should_exit

    server.drain()
    server.retire()

    assert server.should_exit

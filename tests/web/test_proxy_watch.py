import logging

import pytest

from gateway.web.client_address import Headers
from gateway.web.proxy_watch import LEAST_BYTES, QUIET_SECONDS, ProxyWatch

PROXY = "10.0.0.1"


def waited(*told: str) -> Headers:
    return [(b"host", b"gateway"), *((b"x-request-waited", value.encode()) for value in told)]


@pytest.mark.parametrize(
    ("told", "length", "found"),
    [
        (["1.000"], LEAST_BYTES, True),
        (["75"], 5_000_000, True),
        (["0.999"], LEAST_BYTES, False),
        (["0.000"], 5_000_000, False),
        (["60.000"], LEAST_BYTES - 1, False),
        (["60.000"], 0, False),
        (["60.000"], None, False),
        ([], 5_000_000, False),
        ([""], 5_000_000, False),
        (["-5"], 5_000_000, False),
        (["nan"], 5_000_000, False),
        (["1e9"], 5_000_000, False),
        (["t=1700000000.000"], 5_000_000, False),
    ],
)
def test_a_large_body_that_waited_at_the_proxy_was_collected(told: list[str], length: int | None, found: bool) -> None:
    assert ProxyWatch().found_buffering(PROXY, waited(*told), length) is found


def test_the_log_names_the_proxy_and_the_mend_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    moments = [0.0, 1.0, QUIET_SECONDS - 1, QUIET_SECONDS, QUIET_SECONDS + 1]
    watch = ProxyWatch(iter(moments).__next__)

    with caplog.at_level(logging.WARNING):
        for _ in moments:
            assert watch.found_buffering(PROXY, waited("7.5"), 5_000_000)

    assert len(caplog.records) == 2
    told = caplog.records[0]
    assert "proxy_request_buffering off" in told.getMessage()
    assert {"proxy": PROXY, "seconds": 7.5, "bytes": 5_000_000}.items() <= vars(told).items()

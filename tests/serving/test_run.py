import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from gateway import VERSION
from gateway.config_values import BucketSetting, ListenAddress
from gateway.serving.run import run, what_serves
from tests.test_app import settings


@contextmanager
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        yield other.getsockname()[1]


def test_a_taken_port_is_told_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    del capfd  # keeps the process's logging out of this run's output
    with taken_port() as port, pytest.raises(OSError, match="in use"):
        run(settings(listen=ListenAddress("127.0.0.1", port)))


def test_b8_it_says_what_it_is_where_it_listens_and_what_it_works_with() -> None:
    told = what_serves(
        settings(
            "redis+sentinel://user:secret-1@h1:1,h2:2/name/0?sentinel_password=secret-2",
            listen=ListenAddress("0.0.0.0", 8080),  # noqa: S104 -- nobody listens
            cos_listen=ListenAddress("::1", 8081),
            admin_listen=None,
            buckets=(
                BucketSetting("a", "one-1250000000", "ap-beijing", "up/"),
                BucketSetting("b", "two-1250000000", "ap-guangzhou", ""),
            ),
            workers=3,
        )
    )

    assert told == {
        "version": VERSION,
        "listen": "0.0.0.0:8080",
        "cos_listen": "[::1]:8081",
        "buckets": "a=one-1250000000@ap-beijing/up/,b=two-1250000000@ap-guangzhou/",
        "redis": "redis+sentinel://h1:1,h2:2/name/0",
        "workers": 3,
    }

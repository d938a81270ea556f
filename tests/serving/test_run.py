import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from gateway.config_values import ListenAddress
from gateway.serving.run import run
from tests.test_app import settings


@contextmanager
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        yield other.getsockname()[1]


def test_a_taken_port_is_told_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    del capfd  # keeps the process's logging out of this run's output
    with taken_port() as port, pytest.raises(OSError, match="in use"):
        run(settings(listen=ListenAddress("127.0.0.1", port)))

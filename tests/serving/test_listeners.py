import os
import resource
import socket
from contextlib import closing

import pytest

from gateway.serving.listeners import bound, inherited, raise_file_limit, within_files
from tests.test_app import settings


def test_port_0_becomes_the_port_that_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0")
    for listener, name in zip(bound(settings()), ("GATEWAY_LISTEN", "GATEWAY_ADMIN_LISTEN"), strict=True):
        with closing(listener):
            assert os.environ[name] == f"127.0.0.1:{listener.getsockname()[1]}"
            assert listener.getsockname()[1] > 0


def test_what_was_handed_down_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        [heir] = inherited([os.dup(listener.fileno())])
        with heir, socket.create_connection(listener.getsockname()):
            accepted, _ = heir.accept()
            accepted.close()


def test_as_many_files_may_be_open_as_the_machine_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("files", "connections", "fits"),
    [(64, 10_000, 12), (1024, 10_000, 492), (1024, 100, 100), (8192, 10_000, 6872), (20_000, 10_000, 10_000)],
)
def test_b15_there_are_no_more_connections_than_descriptors_for_them(files: int, connections: int, fits: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, before[1]), before[1]))
    try:
        assert within_files(settings(connections_count=connections)).connections_count == fits
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

"""The parent with workers that really serve is shown by tests/system/test_workers.py; here, with ones that cannot."""

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.serving.workers import Workers
from tests.test_app import settings


async def test_a_worker_that_cannot_start_ends_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", "many")  # what a worker reads, and cannot
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.timeout(30):
            assert await Workers(settings(workers=1), [listener], tmp_path).run() == 1

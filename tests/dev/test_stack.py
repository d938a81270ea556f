"""`python -m gateway dev`, started and stopped as a developer does."""

import asyncio
import json
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.dev.plan import free_port
from gateway.dev.stack import StackFailed, data_folder
from tests.fakes.redis_server import require_redis_server

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 30


@dataclass
class Dev:
    process: asyncio.subprocess.Process
    url: str
    token: str

    async def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, trust_env=False, timeout=20
        )

    def children(self) -> dict[str, int]:
        """The programs of our children and their process ids."""
        ids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in ids}
        names = ("redis-server", "gateway.dev.local_cos", "gateway serve")
        return {name: int(pid) for name in names for pid, line in lines.items() if name in line}


async def _start(data: Path, **settings: str) -> asyncio.subprocess.Process:
    require_redis_server()
    bare = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    doors = {f"GATEWAY_{name}": "127.0.0.1:0" for name in ("LISTEN", "COS_LISTEN", "ADMIN_LISTEN")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "dev"),
        cwd=_ROOT,
        env={**bare, **doors, "GATEWAY_DATA_DIR": str(data), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def _dev(data: Path, **settings: str) -> AsyncIterator[Dev]:
    process = await _start(data, **settings)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        output = b""
        async with asyncio.timeout(_START_SECONDS):
            while b"Ctrl-C" not in output:
                line = await process.stdout.readline()
                assert line, (await process.stderr.read()).decode()
                output += line
        page = re.search(r"(http://[^/]+)/#token=(\S+)", output.decode())
        assert page is not None
        yield Dev(process, page[1], page[2])
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _failure(process: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(_START_SECONDS):
        output, errors = await process.communicate()
    assert output == b""
    assert process.returncode == 1
    return errors.decode()


async def _gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(15):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_ctrl_c_ends_all_of_it_and_the_next_start_finds_tasks_and_objects_again(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(3_000_000)
    async with _dev(tmp_path) as dev, dev.client() as client:
        answer = await client.post("/v1/files", params={"key": "a/report.bin"}, content=body)
        assert answer.status_code == 201, answer.text
        children = dev.children()

        assert len(children) == 3
        assert await dev.stop() == 0
        for pid in children.values():
            await _gone(pid)

    async with _dev(tmp_path) as again, again.client() as client:
        client.headers["Authorization"] = f"Bearer {dev.token}"
        listed = (await client.get("/v1/tasks")).json()["tasks"]

        assert [(task["id"], task["state"]) for task in listed] == [(answer.json()["id"], "success")]
        assert (tmp_path / "cos" / "files-1250000000" / "a" / "report.bin").read_bytes() == body
        assert await again.stop() == 0


async def test_the_page_is_served_and_its_token_is_in_no_log(tmp_path: Path) -> None:
    async with _dev(tmp_path, GATEWAY_LOG_LEVEL="debug") as dev, dev.client() as client:
        page = await client.get("/", headers={"Authorization": ""})
        assert page.status_code == 200
        assert "text/html" in page.headers["content-type"]
        await client.get("/v1/tasks")
        await dev.stop()

        made_up = json.loads((tmp_path / "dev-secrets.json").read_text())
        for log in tmp_path.glob("*.log"):
            text = log.read_text()
            assert dev.token not in text, log
            assert not any(secret in text for secret in made_up.values()), log


async def test_when_a_part_of_it_dies_the_rest_ends_and_the_error_says_which(tmp_path: Path) -> None:
    async with _dev(tmp_path) as dev:
        children = dev.children()
        os.kill(children["redis-server"], signal.SIGKILL)

        async with asyncio.timeout(20):
            code = await dev.process.wait()

        assert code == 1
        assert dev.process.stderr is not None
        assert (await dev.process.stderr.read()).startswith(b"redis-server ended with code -9")
        for pid in children.values():
            await _gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
async def test_nothing_is_left_behind_when_it_is_killed(tmp_path: Path) -> None:
    async with _dev(tmp_path) as dev:
        children = dev.children()

        assert await dev.stop(signal.SIGKILL) == -signal.SIGKILL
        for pid in children.values():
            await _gone(pid)


async def test_a_port_in_use_is_named_with_its_setting(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

        errors = await _failure(await _start(tmp_path, GATEWAY_LISTEN=address))

    assert errors.startswith(f"cannot listen on {address}")
    assert errors.endswith("set GATEWAY_LISTEN\n")


async def test_what_serve_refuses_is_shown_from_its_log(tmp_path: Path) -> None:
    port = free_port()
    redis = f"redis://127.0.0.1:{port}/0"

    errors = await _failure(
        await _start(
            tmp_path, GATEWAY_TOKEN_JWKS_FILE="no-such-file", GATEWAY_SEAL_KEYS="a:" + "b" * 32, GATEWAY_REDIS_URL=redis
        )
    )

    assert "ended with code" in errors
    assert "no-such-file" in errors


def test_two_of_them_do_not_share_one_folder(tmp_path: Path) -> None:
    with data_folder(tmp_path), pytest.raises(StackFailed, match="set GATEWAY_DATA_DIR"), data_folder(tmp_path):
        pass

    with data_folder(tmp_path):
        pass

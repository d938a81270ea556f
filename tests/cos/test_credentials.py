"""Keys from a file: read again when it changes, kept while it cannot be read, gone when they run out."""

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.cos.credentials import FileCredentials, FixedCredentials, read_credentials, read_file
from gateway.cos.signing import Credentials
from gateway.domain.errors import CredentialsUnavailable


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def write(path: Path, secret_id: str, expired_time: float | None = None) -> None:
    document: dict[str, Any] = {"TmpSecretId": secret_id, "TmpSecretKey": "key", "Token": "token"}
    if expired_time is not None:
        document["ExpiredTime"] = expired_time
    path.write_text(json.dumps(document))


async def test_fixed_keys_cannot_be_renewed() -> None:
    keys = Credentials("id", "key", "token")
    source = FixedCredentials(keys)

    assert await source.current() is keys
    with pytest.raises(CredentialsUnavailable):
        await source.refresh(keys)


async def test_a_change_of_the_file_is_seen_within_thirty_seconds(path: Path, clock: Clock) -> None:
    source = FileCredentials(path, clock=clock)
    write(path, "one", clock.now + 3600)
    assert await source.current() == Credentials("one", "key", "token", clock.now + 3600)

    write(path, "two", clock.now + 7200)
    clock.now += 30

    assert (await source.current()).secret_id == "two"


async def test_keys_are_looked_for_every_second_once_most_of_their_life_is_over(path: Path, clock: Clock) -> None:
    source = FileCredentials(path, clock=clock)
    write(path, "one", clock.now + 20)
    await source.current()

    clock.now += 15
    write(path, "two", clock.now + 3600)
    assert (await source.current()).secret_id == "one"
    clock.now += 1
    assert (await source.current()).secret_id == "two"


async def test_keys_outlive_an_unreadable_file_until_they_run_out(path: Path, clock: Clock) -> None:
    source = FileCredentials(path, clock=clock)
    write(path, "one", clock.now + 100)
    await source.current()

    path.write_text("not json")
    clock.now += 99
    assert (await source.current()).secret_id == "one"
    clock.now += 1
    with pytest.raises(CredentialsUnavailable):
        await source.current()
    write(path, "two", clock.now + 100)
    clock.now += 1
    assert (await source.current()).secret_id == "two"


async def test_without_a_file_there_are_no_keys(path: Path, clock: Clock) -> None:
    with pytest.raises(CredentialsUnavailable):
        await FileCredentials(path, clock=clock).current()


async def test_keys_that_cos_refuses_are_replaced_at_once_or_not_at_all(path: Path, clock: Clock) -> None:
    source = FileCredentials(path, clock=clock)
    write(path, "one", clock.now + 3600)
    stale = await source.current()
    with pytest.raises(CredentialsUnavailable):
        await source.refresh(stale)

    write(path, "two", clock.now + 3600)
    found = await asyncio.gather(*(source.refresh(stale) for _ in range(5)))

    assert {keys.secret_id for keys in found} == {"two"}
    assert (await source.current()).secret_id == "two"


class SlowDisk:
    """Reads the file whenever it is asked to, but hands nothing out before ``go_on`` is set."""

    def __init__(self) -> None:
        self.reads = 0
        self.go_on = threading.Event()

    def read(self, path: Path) -> Credentials:
        self.reads += 1
        found = read_file(path)
        assert self.go_on.wait(10)
        return found


async def at_once(disk: SlowDisk, ask: Callable[[], Awaitable[Credentials]]) -> list[Credentials | BaseException]:
    """What fifty callers get who all ask before the disk has answered any."""
    disk.go_on.clear()
    asking = [asyncio.ensure_future(ask()) for _ in range(50)]
    await asyncio.sleep(0)  # each runs up to its wait
    disk.go_on.set()
    return await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.promise(23)
async def test_b67_however_many_calls_are_refused_at_once_the_file_is_read_once(path: Path, clock: Clock) -> None:
    """Whether it holds the refused keys still, or others."""
    disk = SlowDisk()
    source = FileCredentials(path, clock=clock, read=disk.read)
    write(path, "one", clock.now + 3600)
    one = Credentials("one", "key", "token", clock.now + 3600)
    assert await at_once(disk, source.current) == [one] * 50
    assert disk.reads == 1

    refused = await at_once(disk, lambda: source.refresh(one))
    assert {type(error) for error in refused} == {CredentialsUnavailable}
    assert disk.reads == 2

    write(path, "two", clock.now + 3600)
    assert await at_once(disk, lambda: source.refresh(one)) == [replace(one, secret_id="two")] * 50
    assert disk.reads == 3
    assert await at_once(disk, lambda: source.refresh(one)) == [replace(one, secret_id="two")] * 50
    assert disk.reads == 3


@pytest.mark.promise(20)
async def test_b68_a_file_that_cannot_be_opened_is_not_waited_for_for_ever(path: Path, clock: Clock) -> None:
    source = FileCredentials(path, clock=clock, read_seconds=0.1)
    write(path, "one", clock.now + 100)
    await source.current()
    path.unlink()
    os.mkfifo(path)  # opening it waits for a writer
    clock.now += 90

    for _ in range(3):
        assert (await source.current()).secret_id == "one"
        clock.now += 2
    with path.open("w") as one_reader:  # all looks share one thread, which is let go
        json.dump({"TmpSecretId": "two", "TmpSecretKey": "key"}, one_reader)
    assert (await source.current()).secret_id == "two"


def test_both_spellings_are_read_and_token_and_time_may_be_missing() -> None:
    assert read_credentials(b'{"TmpSecretId":"i","TmpSecretKey":"k"}') == Credentials("i", "k")
    assert read_credentials(
        b'{"tmp_secret_id":"i","tmp_secret_key":"k","session_token":"t","expired_time":5}'
    ) == Credentials("i", "k", "t", 5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'"SECRET"',
        b"\xff",
        b'{"TmpSecretId":"SECRET"}',
        b'{"TmpSecretKey":"SECRET"}',
        b'{"TmpSecretId":"i","TmpSecretKey":5}',
        b'{"TmpSecretId":"i","TmpSecretKey":"SECRET\\n"}',
        b'{"TmpSecretId":"i","TmpSecretKey":"SECRET","ExpiredTime":"soon"}',
        b'{"TmpSecretId":"i","TmpSecretKey":"SECRET","ExpiredTime":true}',
    ],
)
def test_an_unusable_file_is_refused_without_quoting_it(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not |missing") as refused:
        read_credentials(content)

    assert "SECRET" not in str(refused.value)


async def test_a_file_without_bounds_is_not_read_whole(path: Path, clock: Clock) -> None:
    path.write_text(json.dumps({"TmpSecretId": "i", "TmpSecretKey": "k", "x": "x" * 100_000}))

    with pytest.raises(CredentialsUnavailable):
        await FileCredentials(path, clock=clock).current()

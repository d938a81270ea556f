import asyncio
from urllib.parse import urlsplit

import pytest

from gateway.commands.findings import Level
from gateway.commands.redis_survey import look_at_redis
from tests.fakes.redis_server import running_redis, send_command
from tests.fakes.scripted_redis import running_script

REFUSALS = {
    b"-NOAUTH Authentication required.": "asks for one",
    b"-WRONGPASS invalid username-password pair or user is disabled.": "refuses the user or password",
    b"-NOPERM this user has no permissions": "grant ~gw:*",
    b"-READONLY You can't write against a read only replica.": "is a replica",
    b"-MOVED 3999 127.0.0.1:6381": "redis+cluster://",
    b"-OOM command not allowed when used memory > 'maxmemory'.": "raise its maxmemory",
    b"-MISCONF Redis is configured to save RDB snapshots": "disk is full or read-only",
    b"-LOADING Redis is loading the dataset in memory": "is still loading",
    b"-ERR something else": "refuses a write",
}


async def test_a_redis_that_does_all_is_told_in_one_line_and_keeps_nothing(redis_url: str) -> None:
    send_command(redis_url, "CONFIG", "SET", "appendonly", "yes")
    try:
        [finding] = await look_at_redis(redis_url)
    finally:
        send_command(redis_url, "CONFIG", "SET", "appendonly", "no")

    assert (finding.level, finding.about) == (Level.OK, "redis")
    assert send_command(redis_url, "DBSIZE") == b":0"


async def test_a_policy_that_evicts_is_a_warning() -> None:
    with running_redis(None, "--maxmemory-policy", "allkeys-lru") as url:
        findings = await look_at_redis(url)

    assert {finding.level for finding in findings} == {Level.WARNING}
    assert any("maxmemory-policy is allkeys-lru, expected noeviction" in finding.text for finding in findings)


@pytest.mark.parametrize("reply", list(REFUSALS))
async def test_each_refusal_of_redis_names_the_setting_and_the_mend(reply: bytes) -> None:
    async with running_script() as scripted:
        scripted.replies.extend([reply + b"\r\n"] * 4)
        [finding] = await look_at_redis(scripted.url)

    assert finding.is_problem
    assert finding.text.startswith("GATEWAY_REDIS_URL: ")
    assert REFUSALS[reply] in finding.text
    assert finding.passing == reply.startswith(b"-LOADING")


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://user:canary@127.0.0.1:1/0", "127.0.0.1:1 does not answer (connection refused)"),
        ("unix:///nowhere/redis.sock", "/nowhere/redis.sock does not answer (no such socket)"),
        ("redis+sentinel://:canary@127.0.0.1:1/main/0", "127.0.0.1:1 does not answer (no Sentinel there knows"),
        ("redis+cluster://:canary@127.0.0.1:1", "127.0.0.1:1 does not answer (no node there tells of a cluster)"),
    ],
)
async def test_a_redis_that_is_not_there_is_named_without_its_password(url: str, cause: str) -> None:
    [finding] = await look_at_redis(url)

    assert finding.is_problem
    assert finding.passing
    assert cause in finding.text
    assert "canary" not in finding.text


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("unix://user:canary@{}", "refuses the user or password"),
        ("unix://{}?db=99", "has no database of that number"),
    ],
)
async def test_what_a_real_redis_refuses_when_we_connect_is_no_silence(
    redis_url: str, address: str, named: str
) -> None:
    [finding] = await look_at_redis(address.format(urlsplit(redis_url).path))

    assert finding.is_problem
    assert not finding.passing
    assert named in finding.text
    assert "canary" not in finding.text


@pytest.mark.parametrize(
    ("scheme", "answer", "named"),
    [
        ("rediss", b"-ERR unknown command\r\n", "does not speak TLS: mend the port, or write redis://"),
        ("redis", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Redis's protocol"),
        ("redis", b"", "it closes the connection: perhaps it wants rediss://"),
        ("redis", b"-ERR max number of clients reached\r\n", "it has too many clients"),
    ],
)
async def test_a_server_that_speaks_otherwise_is_told_from_silence(scheme: str, answer: bytes, named: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        [finding] = await look_at_redis(f"{scheme}://127.0.0.1:{port}/0")

    assert finding.is_problem
    assert named in finding.text

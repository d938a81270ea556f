import asyncio
import time

import pytest

from gateway.cli import main
from gateway.store.redis_address import connect
from gateway.store.revocations import RedisRevocations

SHOWN = "2bd806c97f0e00af"


async def revoked(redis_url: str) -> dict[str, float]:
    redis = connect(redis_url)
    try:
        return await RedisRevocations(redis).load()
    finally:
        await redis.aclose()


@pytest.mark.parametrize("name", ["alice", SHOWN, "jti:42", "张三"])
def test_s12_a_name_is_revoked_from_now_on_until_that_is_undone(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("GATEWAY_REDIS_URL", redis_url)
    before = time.time()

    assert main(["revoke", name]) == 0
    [(listed, until)] = asyncio.run(revoked(redis_url)).items()
    assert listed == name
    assert before <= until <= time.time()
    assert "15 s" in capsys.readouterr().out

    assert main(["revoke", "--undo", name]) == 0
    assert asyncio.run(revoked(redis_url)) == {}
    assert main(["revoke", "--undo", name]) == 1


def test_s12_without_redis_nothing_is_said_to_be_revoked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_REDIS_URL", "redis://127.0.0.1:1/0")

    assert main(["revoke", "alice"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "GATEWAY_REDIS_URL: Redis does not answer; `doctor` says why.\n")

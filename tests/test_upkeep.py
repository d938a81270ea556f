import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config import Settings, load_settings
from gateway.domain.objects import Bucket
from gateway.domain.task import TaskId
from gateway.upkeep import Upkeep, kept_running, webhook_receivers

_BUCKETS = "main=files-1250000000@ap-guangzhou,other=more-1250000000@ap-beijing/in/"


def _settings(**given: Any) -> Settings:
    return load_settings(
        buckets=_BUCKETS,
        cos_secret_id="id",
        cos_secret_key="key",
        token_secret="t" * 32,
        webhook_secret="s" * 32,
        **given,
    )


@pytest.fixture
async def build() -> AsyncIterator[Any]:
    built: list[Upkeep] = []

    def upkeep(**given: Any) -> Upkeep:
        built.append(Gateway(_settings(**given))._upkeep)
        return built[-1]

    yield upkeep
    for each in built:
        await each.aclose()


def test_each_bucket_with_a_webhook_has_its_receiver() -> None:
    settings = _settings(webhooks="other=https://hooks.example/a")

    assert webhook_receivers(settings) == {Bucket("more-1250000000", "ap-beijing"): "https://hooks.example/a"}
    assert webhook_receivers(_settings()) == {}


async def test_webhooks_run_only_where_there_are_any(build: Any) -> None:
    for given, count in (({}, 2), ({"webhooks": "main=https://hooks.example/"}, 3)):
        assert len(build(**given).works()) == count


async def test_nobody_is_woken_without_webhooks(build: Any) -> None:
    build().wake(TaskId("t"), 1.0)


async def test_work_that_fails_is_begun_again_and_told(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Semaphore(0)

    async def work() -> None:
        begun.release()
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "gateway.upkeep"):
        running = asyncio.create_task(kept_running(work, again_seconds=0))
        async with asyncio.timeout(5):
            await begun.acquire()
            await begun.acquire()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert running.cancelled()
    assert "ZeroDivisionError" in caplog.text

import asyncio
import time
from pathlib import Path
from typing import Any

from gateway.commands.survey import look, look_at_files, look_before_serving
from gateway.config import Settings
from gateway.config_values import BucketSetting
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos
from tests.system.processes import free_port
from tests.test_app import settings


def _settings(redis_url: str, cos: RunningCos, **given: Any) -> Settings:
    told = {"cos_endpoint": cos.url, "cos_secret_id": KEY.secret_id, "cos_secret_key": KEY.secret_key, **given}
    return settings(redis_url, **told)


async def test_where_all_is_well_nothing_is_a_problem(redis_url: str, tmp_path: Path) -> None:
    with running_local_cos(tmp_path) as cos:
        findings = await look(_settings(redis_url, cos), try_all=True)

    assert [finding for finding in findings if finding.is_problem] == []
    assert [finding.about for finding in findings if finding.about != "redis"] == ["cos files", "clock"]


async def test_a_clock_20_minutes_off_is_a_problem(redis_url: str, tmp_path: Path) -> None:
    with running_local_cos(tmp_path) as cos:
        findings = await look(_settings(redis_url, cos), clock=lambda: time.time() + 1200)

    assert [finding.about for finding in findings if finding.is_problem] == ["clock"]
    assert "ahead of COS: set it by NTP" in findings[-1].text


async def test_serving_waits_for_a_cos_that_is_still_starting(redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    good = settings(
        redis_url,
        cos_endpoint=f"http://127.0.0.1:{port}",
        cos_secret_id=KEY.secret_id,
        cos_secret_key=KEY.secret_key,
        start_seconds=10,
    )
    looking = asyncio.create_task(look_before_serving(good))
    await asyncio.sleep(0)

    with running_local_cos(tmp_path, port=port):
        findings = await looking

    assert [finding for finding in findings if finding.is_problem] == []


async def test_serving_does_not_wait_where_waiting_mends_nothing(redis_url: str, tmp_path: Path) -> None:
    nowhere = BucketSetting("files", "none-1250000000", BUCKET.region, "")
    with running_local_cos(tmp_path) as cos:
        bad = _settings(redis_url, cos, buckets=(nowhere,), start_seconds=600)
        async with asyncio.timeout(10):
            findings = await look_before_serving(bad)

    assert any("GATEWAY_BUCKETS" in finding.text for finding in findings if finding.is_problem)


async def test_serving_can_be_told_not_to_look() -> None:
    assert await look_before_serving(settings(start_seconds=0)) == []


def test_files_and_disks_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")

    def said(**given: Any) -> list[str]:
        return [finding.text for finding in look_at_files(settings(**given))]

    jwks = {"token_secret": "", "seal_keys": "a:" + "s" * 40}
    assert said(token_jwks_file=tmp_path / "nope", **jwks)[0].endswith(
        "nope cannot be read (No such file or directory): mend it."
    )
    assert "bad.json cannot be used: " in said(token_jwks_file=tmp_path / "bad.json", **jwks)[0]
    [disk] = said(workers=2, metrics_dir=Path("/proc/no-disk"))
    assert disk.startswith("GATEWAY_METRICS_DIR: /proc/no-disk cannot be written")
    assert said(workers=2, metrics_dir=tmp_path / "new") == said(workers=2) == said() == []
    assert list((tmp_path / "new").iterdir()) == []

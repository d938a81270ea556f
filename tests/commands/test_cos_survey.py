"""Against the local COS, which refuses and fails as COS does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.commands import cos_survey, cos_visit
from gateway.commands.cos_survey import clock, look_at_cos, try_rights
from gateway.commands.cos_visit import CosVisit
from gateway.commands.findings import Finding, Level
from gateway.config_values import BucketSetting
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos
from tests.test_app import settings

PLACE = BucketSetting("files", BUCKET.name, BUCKET.region, "up/")


@pytest.fixture
def cos(tmp_path: Path) -> Iterator[RunningCos]:
    with running_local_cos(tmp_path) as running:
        yield running


async def _found(cos: RunningCos, *, rights: bool = False, place: BucketSetting = PLACE, **given: Any) -> list[Finding]:
    told = {"cos_endpoint": cos.url, "cos_secret_id": KEY.secret_id, "cos_secret_key": KEY.secret_key, **given}
    visit = CosVisit(settings(buckets=(place,), **told))
    try:
        return await (try_rights if rights else look_at_cos)(visit, [place])
    finally:
        await visit.aclose()


async def test_a_look_changes_nothing(cos: RunningCos) -> None:
    findings = await _found(cos)

    assert [(finding.about, finding.level) for finding in findings] == [("cos files", Level.OK), ("clock", Level.OK)]
    assert {entry["operation"] for entry in cos.journal()} == {"ListMultipartUploads"}


async def test_every_right_is_tried_and_nothing_stays(cos: RunningCos) -> None:
    [finding] = await _found(cos, rights=True)

    assert finding.level is Level.OK
    tried = [entry["operation"] for entry in cos.journal()]
    assert {"PutObject", "HeadObject", "GetObject", "UploadPart", "ListParts"} < set(tried)
    assert {"CompleteMultipartUpload", "AbortMultipartUpload"} < set(tried)
    assert cos.keys(BUCKET) == cos.open_uploads(BUCKET) == []


@pytest.mark.parametrize(
    "right",
    ["PutObject", "HeadObject", "InitiateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload"],
)
async def test_a_right_that_is_missing_is_named(cos: RunningCos, right: str) -> None:
    cos.fault("error", operation=right, status=403, code="AccessDenied", times=None)

    [finding] = await _found(cos, rights=True)

    assert finding.is_problem
    assert f"may not do {right} " in finding.text
    assert f"grant name/cos:{right} on {BUCKET.name}/up/*" in finding.text
    assert cos.keys(BUCKET) == []


async def test_keys_that_may_neither_read_nor_delete_are_enough(cos: RunningCos) -> None:
    for operation in ("GetObject", "DeleteObject"):
        cos.fault("error", operation=operation, status=403, code="AccessDenied", times=None)

    [finding] = await _found(cos, rights=True)

    assert finding.level is Level.OK
    assert "up/.upload-gateway-doctor stays" in finding.text


async def test_keys_that_may_not_list_are_a_warning(cos: RunningCos) -> None:
    cos.fault("error", operation="ListMultipartUploads", status=403, code="AccessDenied", times=None)

    assert (await _found(cos))[0].level is Level.WARNING


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cos_secret_key": "wrong"}, "GATEWAY_COS_SECRET_KEY"),
        ({"cos_secret_id": "AKIDnobody"}, "GATEWAY_COS_SECRET_ID"),
        ({"place": BucketSetting("files", "none-1250000000", BUCKET.region, "")}, "GATEWAY_BUCKETS"),
        ({"cos_endpoint": "http://127.0.0.1:1"}, "GATEWAY_COS_ENDPOINT"),
        (
            {"cos_secret_id": "", "cos_secret_key": "", "cos_credentials_file": Path("/nowhere")},
            "GATEWAY_COS_CREDENTIALS_FILE",
        ),
    ],
)
async def test_a_wrong_setting_is_named(cos: RunningCos, given: dict[str, Any], named: str) -> None:
    finding = (await _found(cos, **given))[0]

    assert finding.is_problem
    assert finding.text.startswith(named)


async def test_a_cos_that_fails_or_hangs_may_come_back(cos: RunningCos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cos_survey, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(cos_visit, "LOOK_SECONDS", 0.2)
    cos.fault("error", operation="ListMultipartUploads", status=500, code="InternalError")
    assert (await _found(cos))[0].passing

    cos.fault("delay", operation="ListMultipartUploads")
    finding = (await _found(cos))[0]

    assert finding.is_problem
    assert finding.passing


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{}", "holds no keys (TmpSecretId is missing)"),
        ('{"TmpSecretId": "a", "TmpSecretKey": "canary", "ExpiredTime": 1}', "holds no valid keys"),
    ],
)
async def test_why_the_file_gives_no_keys_is_told(
    cos: RunningCos, tmp_path: Path, content: str | None, named: str
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)

    finding = (await _found(cos, cos_secret_id="", cos_secret_key="", cos_credentials_file=path))[0]

    assert finding.is_problem
    assert finding.text.startswith(f"GATEWAY_COS_CREDENTIALS_FILE: {path}: it {named}")
    assert "canary" not in finding.text


async def test_a_server_that_refuses_without_cos_s_words_is_the_wrong_one(cos: RunningCos) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finding = (await _found(cos, cos_endpoint=address))[0]

    assert finding.is_problem
    assert finding.text == f"GATEWAY_COS_ENDPOINT: {address} answers 404 as COS does not: mend the address."


async def test_what_is_not_cos_is_a_warning_only(cos: RunningCos) -> None:
    cos.fault("truncated", operation="ListMultipartUploads")

    assert (await _found(cos))[0].level is Level.WARNING


@pytest.mark.parametrize(
    ("offset", "level"), [(0.0, Level.OK), (-29.0, Level.OK), (31.0, Level.WARNING), (1200.0, Level.PROBLEM)]
)
def test_clocks_are_compared(offset: float, level: Level) -> None:
    [finding] = clock(offset)
    assert (finding.about, finding.level) == ("clock", level)
    assert ("behind" in finding.text) == (offset > 30)
    assert clock(None) == []

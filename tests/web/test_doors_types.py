"""A bucket that looks at its files, at every door and however a file is cut: finding S13."""

from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from gateway.config_values import BucketTypesSetting
from gateway.domain.signatures import PEEK_BYTES
from tests.fakes.local_cos import BUCKET, RunningCos
from tests.transfer.kit import random_bytes
from tests.web.doors import APPENDS, DOORS, Doors, doors_of, outcome
from tests.web.rest import Rest, running_rest

TYPES: Final = ("image/*", "text/plain", "video/mp4")
HTML: Final = b"<!DOCTYPE html><script>alert(1)</script>" + b" " * PEEK_BYTES
SVG: Final = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>' + b" " * PEEK_BYTES
PNG: Final = b"\x89PNG\r\n\x1a\n" + random_bytes(2 * PEEK_BYTES)
MIB: Final = 1 << 20


@pytest.fixture
async def typed(redis_url: str, cos: RunningCos) -> AsyncIterator[Rest]:
    """A gateway whose bucket takes pictures, texts and films."""
    async with running_rest(redis_url, cos, bucket_types=(BucketTypesSetting("files", TYPES),)) as rest:
        yield rest


@pytest.mark.parametrize("door", DOORS)
async def test_s13_what_is_stored_is_judged_saved_and_named_by_its_true_type(
    typed: Rest, cos: RunningCos, door: str
) -> None:
    async with doors_of(typed) as alice:
        for said, data in (
            ("image/png", HTML),
            ("video/mp4", SVG),
            ("text/plain", HTML),
            ("image/png", b"%PDF-" + PNG),
        ):
            refused = await outcome(alice, door, f"rest/bad/{door}", {"content-type": said}, data)
            assert (refused.status, refused.code) in ((415, "type_mismatch"), (403, "AccessDenied")), (said, refused)
        assert f"rest/bad/{door}" not in cos.keys(BUCKET)
        assert (await outcome(alice, door, f"rest/good/{door}", {"content-type": "image/png"}, PNG)).is_good
        assert (await outcome(alice, door, f"rest/true/{door}", {"content-type": "image/jpeg"}, PNG)).is_good

    good, true = (cos.headers(BUCKET, f"rest/{kind}/{door}") for kind in ("good", "true"))
    assert (good["content-type"], good["content-disposition"]) == ("image/png", "attachment")
    opened_before_a_byte_came = door in ("task_parts", "cos_multipart")
    assert true["content-type"] == ("image/jpeg" if opened_before_a_byte_came else "image/png")
    assert true["content-disposition"] == "attachment"


@pytest.mark.parametrize("data", [HTML, SVG, HTML[:153]], ids=["page", "svg", "short page"])
@pytest.mark.parametrize("cuts", [(1,), (7,), (4095,), (1, 7, 100), (150,)])
async def test_s13_a_page_cut_in_bodies_is_no_film(
    typed: Rest, cos: RunningCos, cuts: tuple[int, ...], data: bytes
) -> None:
    async with doors_of(typed) as alice:
        refused = await in_bodies(
            alice, f"rest/cut/{len(data)}", "video/mp4", data, [cut for cut in cuts if cut < len(data)]
        )

    assert (refused.status_code, refused.json()["code"]) == (415, "type_mismatch")
    assert not [entry for entry in cos.journal("UploadPart") if entry["key"].startswith("rest/cut/")]
    assert f"rest/cut/{len(data)}" not in cos.keys(BUCKET)


@pytest.mark.parametrize("cut", [1, 7, 4095])
async def test_s13_a_picture_cut_in_bodies_is_one_and_has_its_true_type(typed: Rest, cos: RunningCos, cut: int) -> None:
    async with doors_of(typed) as alice:
        stored = await in_bodies(alice, f"rest/picture/{cut}", "image/jpeg", PNG, [cut])

    assert stored.json()["state"] == "success"
    assert cos.read(BUCKET, f"rest/picture/{cut}") == PNG
    assert cos.headers(BUCKET, f"rest/picture/{cut}")["content-type"] == "image/png"


async def test_s13_a_tail_that_complete_makes_the_last_part_is_judged(typed: Rest, cos: RunningCos) -> None:
    async with doors_of(typed) as alice:
        made = await alice.rest.post("/v1/tasks", json={"key": "rest/tail", "content_type": "video/mp4"})
        task = f"/v1/tasks/{made.json()['id']}"
        part = {"Content-Range": "bytes 0-152/*"}
        assert (await alice.rest.put(f"{task}/content", content=HTML[:153], headers=part)).status_code == 200

        refused = await alice.rest.post(f"{task}/complete")

    assert (refused.status_code, refused.json()["code"]) == (415, "type_mismatch")
    assert "rest/tail" not in cos.keys(BUCKET)


async def test_s13_part_1_is_judged_whenever_it_comes(typed: Rest) -> None:
    async with doors_of(typed) as alice:
        options = {"key": "rest/parts", "size": 2 * MIB, "part_size": MIB, "content_type": "image/png"}
        task = f"/v1/tasks/{(await alice.rest.post('/v1/tasks', json=options)).json()['id']}"
        assert (await alice.rest.put(f"{task}/parts/2", content=HTML.ljust(MIB))).status_code == 200
        assert (await alice.rest.put(f"{task}/parts/1", content=PNG.ljust(MIB))).status_code == 200
        refused = await alice.rest.put(f"{task}/parts/1", content=HTML.ljust(MIB))

    assert (refused.status_code, refused.json()["code"]) == (415, "type_mismatch")


@pytest.mark.parametrize("door", sorted(APPENDS))
async def test_s13_the_first_append_brings_all_that_is_looked_at(typed: Rest, cos: RunningCos, door: str) -> None:
    said = {"content-type": "image/png"}
    async with doors_of(typed) as alice:
        for size in (0, 1, 7, PEEK_BYTES - 1):
            refused = await outcome(alice, door, f"rest/append/{door}", said, PNG[:size])
            assert (refused.status, refused.code) in ((400, "invalid_size"), (400, "InvalidArgument"))
        later = await alice.rest.post(
            "/v1/objects/rest/append/x", params={"append": "", "position": "7"}, content=PNG, headers=said
        )
        assert (later.status_code, later.json()["code"]) == (400, "invalid_size")
        assert (await outcome(alice, door, f"rest/append/{door}", said, PNG[:PEEK_BYTES])).is_good

    assert cos.headers(BUCKET, f"rest/append/{door}")["content-disposition"] == "attachment"


@pytest.mark.parametrize("door", DOORS)
async def test_s13_inline_is_for_what_cannot_run_and_nothing_is_hidden_by_an_encoding(typed: Rest, door: str) -> None:
    text = b"only text".ljust(PEEK_BYTES)
    cases = (
        ({"content-type": "image/png", "content-disposition": "inline"}, PNG, True),
        ({"content-type": "text/plain", "content-disposition": "inline; filename=a"}, text, True),
        ({"content-type": "image/svg+xml", "content-disposition": "inline"}, SVG, False),
        ({"content-type": "text/plain", "content-encoding": "gzip"}, text, False),
    )
    async with doors_of(typed) as alice:
        for n, (said, data, is_good) in enumerate(cases):
            stored = await outcome(alice, door, f"rest/inline/{door}{n}", said, data)
            assert stored.is_good == is_good, (said, stored)


async def in_bodies(alice: Doors, key: str, said: str, data: bytes, cuts: list[int]) -> httpx.Response:
    """The answer to the last of the bodies into which *data* is cut, or to the first that is refused."""
    made = await alice.rest.post("/v1/tasks", json={"key": key, "size": len(data), "content_type": said})
    task = f"/v1/tasks/{made.json()['id']}"
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        span = {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
        answer = await alice.rest.put(f"{task}/content", content=data[begin:end], headers=span)
        if not answer.is_success:
            break
    return answer

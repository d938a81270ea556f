import hashlib
from dataclasses import replace

import pytest

from gateway.domain.object_headers import lacks_md5, with_md5
from gateway.domain.parts import MIB
from gateway.domain.task import Task
from gateway.transfer.put_headers import put_headers, streamed_headers
from gateway.transfer.replay import BufferedBody
from tests.transfer.kit import random_bytes
from tests.web.sample_tasks import new_task


def task_with(headers: dict[str, str]) -> Task:
    return replace(new_task("t"), object_headers=headers, part_headers={"x-cos-traffic-limit": "819200"})


@pytest.mark.parametrize("size", [0, 1, 2 * MIB + 3])
async def test_an_md5_that_is_lacking_is_that_of_the_bytes(size: int) -> None:
    data = random_bytes(size)
    body = BufferedBody([data[:7], data[7:]])
    headers = await put_headers(task_with(with_md5({"x-cos-acl": "private"}, None)), body, None)

    assert headers == {
        "x-cos-acl": "private",
        "x-cos-traffic-limit": "819200",
        "x-cos-meta-md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
    }


async def test_an_md5_that_was_given_stays_and_one_that_nobody_wants_is_not_computed() -> None:
    body = BufferedBody([b"abc"])
    given = with_md5({}, "0" * 32)

    assert (await put_headers(task_with(given), body, None))["x-cos-meta-md5"] == "0" * 32
    assert "x-cos-meta-md5" not in await put_headers(task_with({}), body, "AAAA")
    assert not lacks_md5(given)


def test_what_the_client_says_of_the_body_goes_along() -> None:
    assert streamed_headers(task_with({}), "AAAA") == {"x-cos-traffic-limit": "819200", "content-md5": "AAAA"}

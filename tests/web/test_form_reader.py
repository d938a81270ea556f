"""Forms of senders who are not known yet, at the COS door: what they hold, for how long, and how many there are."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from tests.fakes.local_cos import RunningCos
from tests.web.cos_calls import DoorKey
from tests.web.rest import PREFIX, Rest, running_rest

BEGIN: Final = b'--b\r\nContent-Disposition: form-data; name="x-cos-meta-%d"\r\n\r\n%b\r\n'


class Hanging:
    """A form whose fields come so far and no further until it is told to go on."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.came = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(self._size // 1000):
            yield BEGIN % (number, b"v" * 1000)
        self.came.set()
        await self.go_on.wait()
        yield b"--b--\r\n"


async def key_of(rest: Rest) -> DoorKey:
    async with rest.as_caller() as client:
        return DoorKey(rest, (await client.post("/v1/keys", json={"bucket": "files"})).json())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.form_reader.WAIT_SECONDS", 0.01)


async def test_s3_the_fields_of_an_unproved_form_are_held_by_its_address_and_counted(rest: Rest) -> None:
    key, form = await key_of(rest), Hanging(10_000)
    answer = asyncio.create_task(key.post_form(aiter(form)))
    await form.came.wait()

    assert 10_000 <= rest.gateway.memory.strangers.used_bytes < 20_000
    assert rest.gateway.memory.callers.used_bytes == 0
    assert rest.gateway.bodies_count == 1

    form.go_on.set()
    assert (await answer).code == "MalformedPOSTRequest"
    assert rest.gateway.memory.strangers.used_bytes == rest.gateway.bodies_count == 0


async def test_s3_without_memory_for_strangers_a_form_is_refused_and_callers_are_not(rest: Rest) -> None:
    key, budget = await key_of(rest), rest.gateway.memory.strangers
    held = budget.try_take(budget.limit_bytes, "198.51.100.1")
    assert held is not None

    answer = await key.post(PREFIX + "form", b"data")
    assert (answer.status, answer.code) == (503, "SlowDown")
    async with rest.as_caller() as client:
        assert (await client.post("/v1/tasks", json={"key": PREFIX + "a", "size": 1})).status_code == 201

    held.release()
    assert (await key.post(PREFIX + "form", b"data")).status == 204


async def test_s3_one_unproved_form_more_than_there_may_be_is_refused_at_once(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.strangers.MOST_PER_ADDRESS", 4)
    key, forms = await key_of(rest), [Hanging(2000) for _ in range(4)]
    answers = [asyncio.create_task(key.post_form(aiter(form))) for form in forms]
    for form in forms:
        await form.came.wait()

    async with asyncio.timeout(5):
        refused = await key.post(PREFIX + "fifth", b"data")
    assert (refused.status, refused.code) == (503, "SlowDown")

    for form in forms:
        form.go_on.set()
    await asyncio.gather(*answers)
    assert (await key.post(PREFIX + "fifth", b"data")).status == 204


async def test_s3_fields_that_do_not_come_in_time_are_given_up(redis_url: str, cos: RunningCos) -> None:
    async with running_rest(redis_url, cos, head_seconds=0.2) as rest:
        key, form = await key_of(rest), Hanging(2000)

        answer = await key.post_form(aiter(form))

        assert (answer.status, answer.code) == (400, "RequestTimeout")
        assert rest.gateway.memory.strangers.used_bytes == rest.gateway.bodies_count == 0


async def test_s3_a_proved_form_has_more_time_and_holds_its_fields_as_its_owner(
    redis_url: str, cos: RunningCos
) -> None:
    async with running_rest(redis_url, cos, head_seconds=0.2) as rest:
        key, began, go_on = await key_of(rest), asyncio.Event(), asyncio.Event()
        whole = key.form(PREFIX + "slow", b"data")

        async def slowly() -> AsyncIterator[bytes]:
            yield whole[:-10]
            began.set()
            await go_on.wait()
            yield whole[-10:]

        answer = asyncio.create_task(key.post_form(slowly()))
        await began.wait()
        await asyncio.sleep(0.4)
        assert rest.gateway.memory.strangers.used_bytes == 0
        assert rest.gateway.memory.callers.used_bytes > 0
        go_on.set()

        assert (await answer).status == 204
        assert rest.gateway.memory.callers.used_bytes == 0


@pytest.mark.parametrize("limit", ["memory", "name"])
async def test_s3_the_rest_form_has_the_same_limits(rest: Rest, alice: httpx.AsyncClient, limit: str) -> None:
    name = "n" * 129 if limit == "name" else "x"
    field = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\nvalue\r\n'
    file = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{PREFIX}f"\r\n\r\ndata\r\n--b--\r\n'
    budget = rest.gateway.memory.callers
    held = budget.try_take(budget.limit_bytes, "mallory") if limit == "memory" else None

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await alice.post("/v1/files", content=(field + file).encode(), headers=headers)

    expected = (503, "overloaded") if limit == "memory" else (413, "field_too_large")
    assert (answer.status_code, answer.json()["code"]) == expected
    if held is not None:
        held.release()

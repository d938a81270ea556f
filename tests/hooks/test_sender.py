import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.domain.notices import Notice, NoticeRefused, notice_of
from gateway.domain.objects import Bucket
from gateway.domain.task import CancelRequested
from gateway.hooks.sender import WebhookSender
from gateway.web.task_document import task_document
from tests.hooks.receiver import Receiver, running_receiver
from tests.store.conftest import new_task
from tests.transfer.kit import kinds

SECRET = "webhook-secret-0123456789-0123456789"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


def _notice() -> Notice:
    notice = notice_of(new_task(), new_task().after(CancelRequested(), time.time()))
    assert notice is not None
    return notice


def _sender(url: str, answer_seconds: float = 10) -> WebhookSender:
    bucket = _notice().task.at.bucket
    return WebhookSender(
        {bucket: url}, SECRET, lambda task: task_document(task, "a-ticket"), answer_seconds=answer_seconds
    )


async def test_the_receiver_gets_the_task_signed_and_without_its_ticket(receiver: Receiver) -> None:
    notice, sender = _notice(), _sender(receiver.url)

    await sender.send(notice)
    await sender.aclose()

    (told,) = receiver.told
    assert (told.method, told.target, told.headers["content-type"]) == ("POST", "/hook", "application/json")
    document = json.loads(told.body)
    assert (document["id"], document["type"]) == (notice.id, "task.canceled")
    assert (document["task"]["id"], document["task"]["state"]) == (notice.task.id, "canceled")
    assert "ticket" not in document["task"]
    assert b"a-ticket" not in told.body
    assert told.headers["idempotency-key"] == told.headers["webhook-id"] == notice.id
    stamp = told.headers["webhook-timestamp"]
    signed = f"{notice.id}.{stamp}.".encode() + told.body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert told.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(time.time() - int(stamp)) < 5


async def test_the_trace_in_which_it_happened_goes_on_to_the_receiver(receiver: Receiver) -> None:
    traceparent, sender = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", _sender(receiver.url)

    await sender.send(replace(_notice(), traceparent=traceparent))
    await sender.send(_notice())
    await sender.aclose()

    assert [told.headers.get("traceparent") for told in receiver.told] == [traceparent, None]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_taken(receiver: Receiver, status: int) -> None:
    receiver.statuses, receiver.body = [status], b"thanks"
    sender = _sender(receiver.url)

    await sender.send(_notice())
    await sender.aclose()


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 429, 500, 503])
async def test_no_other_status_is_and_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    receiver.statuses, receiver.headers = [status], [("Location", receiver.url + "/elsewhere")]
    sender = _sender(receiver.url)

    with pytest.raises(NoticeRefused, match=str(status)):
        await sender.send(_notice())
    await sender.aclose()

    assert [told.target for told in receiver.told] == ["/hook"]


async def test_a_receiver_that_does_not_answer_in_time_is_given_up(receiver: Receiver) -> None:
    receiver.silent = True
    sender, began = _sender(receiver.url, answer_seconds=0.2), time.monotonic()

    with pytest.raises(NoticeRefused, match="Timeout"):
        await sender.send(_notice())
    await sender.aclose()

    assert time.monotonic() - began < 5


async def test_an_endless_answer_is_not_read(receiver: Receiver) -> None:
    receiver.statuses, receiver.endless = [200], True
    sender = _sender(receiver.url)

    async with asyncio.timeout(5):
        await sender.send(_notice())
    await sender.aclose()

    assert receiver.sent_bytes < 32 << 20


async def test_nobody_there_and_nonsense_are_refusals() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = _sender(f"http://127.0.0.1:{port}/")
    with pytest.raises(NoticeRefused):
        await sender.send(_notice())
    server.close()
    await server.wait_closed()
    with pytest.raises(NoticeRefused, match="ClientConnectorError"):
        await sender.send(_notice())
    await sender.aclose()


async def test_a_bucket_without_a_receiver_any_more_is_a_refusal() -> None:
    sender = WebhookSender({Bucket("other-1250000000", "ap-beijing"): "http://127.0.0.1:1/"}, SECRET, lambda task: {})

    with pytest.raises(NoticeRefused, match="no webhook"):
        await sender.send(_notice())
    await sender.aclose()


async def test_many_at_once_share_a_few_connections(receiver: Receiver) -> None:
    sender = _sender(receiver.url)

    outcomes = await asyncio.gather(*(sender.send(_notice()) for _ in range(50)), return_exceptions=True)
    await sender.aclose()

    assert kinds(outcomes) == ["NoneType"] * 50

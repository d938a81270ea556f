"""What is sent again, what is not, and what is put right before."""

import asyncio
import email.utils
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cos import signing, wire_requests
from gateway.cos.credentials import CredentialSource, FileCredentials, FixedCredentials
from gateway.cos.exchange import CosLimits, Exchange
from gateway.cos.retrying import MAX_ATTEMPTS
from gateway.cos.sender import Sender
from gateway.cos.signing import Credentials
from gateway.cos.transport import AiohttpTransport
from gateway.cos.wire_answers import CosResponse
from gateway.cos.wire_requests import CosRequest
from gateway.domain import errors
from gateway.domain.errors import CosAnswer
from gateway.domain.objects import Bucket, ObjectAddress
from gateway.telemetry import Metrics
from tests.cos.bodies import Once, Replayable
from tests.cos.raw_server import RawServer, Script, always, answer, in_turn, raw_server

AT = ObjectAddress(Bucket("b-125", "r"), "secret-key-name")
PUT = wire_requests.put_object(AT, {})
APPEND = wire_requests.append_object(AT, 0, {})
KEYS = Credentials("AKIDexample", "the-secret-key", "the-token")
OK = answer(200)
LIMITS = CosLimits(connect_seconds=0.5, stall_seconds=0.5, answer_seconds=0.5)


def error(status: int, code: str, *headers: str, message: str = "") -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), *headers)


def date(offset_seconds: float) -> str:
    return "Date: " + email.utils.formatdate(time.time() + offset_seconds, usegmt=True)


class Keys:
    """A source whose refresh gives other keys."""

    def __init__(self) -> None:
        self.refreshed: list[Credentials] = []

    async def current(self) -> Credentials:
        return Credentials("AKIDnew", "new", "new") if self.refreshed else KEYS

    async def refresh(self, stale: Credentials) -> Credentials:
        self.refreshed.append(stale)
        return await self.current()


@pytest.fixture
def keys() -> Keys:
    return Keys()


@asynccontextmanager
async def sending(
    transport: AiohttpTransport, keys: CredentialSource, script: Callable[[RawServer], Script]
) -> AsyncIterator[tuple[RawServer, Sender]]:
    async with raw_server(script) as server:
        exchange = Exchange(
            transport, endpoint=f"http://127.0.0.1:{server.port}", scheme="https", limits=LIMITS, observe=None
        )
        yield server, Sender(exchange, keys, time.time, Metrics())


def status_of(response: CosResponse) -> int:
    return response.status


@pytest.mark.parametrize(
    "said", [b"", answer(500), error(503, "SlowDown"), error(400, "RequestTimeout"), b"junk\r\n\r\n"]
)
async def test_a_failure_that_may_pass_is_tried_twice_again(
    transport: AiohttpTransport, keys: Keys, said: bytes
) -> None:
    body = Replayable(b"12345")
    async with sending(transport, keys, in_turn(said, said, OK)) as (server, sender):
        assert await sender.call(PUT, status_of, body) == 200

        assert server.bodies == [b"12345"] * 3


async def test_a_repetition_has_a_connection_alone(transport: AiohttpTransport, keys: Keys) -> None:
    async with sending(transport, keys, in_turn(OK, answer(500), answer(500), OK, OK)) as (server, sender):
        assert await sender.call(PUT, status_of, Replayable(b"first")) == 200
        assert await sender.call(PUT, status_of, Replayable(b"thrice")) == 200
        assert await sender.call(PUT, status_of, Replayable(b"last")) == 200

        assert server.bodies == [b"first", b"thrice", b"thrice", b"thrice", b"last"]
        assert not any(b"connection: close" in head.lower() for head in server.heads)
        assert server.connections == 3  # the last request is on the first one's again


@pytest.mark.parametrize(
    ("call", "body"),
    [(PUT, Once(b"12345")), (APPEND, Replayable(b"12345")), (APPEND, Once(b"12345"))],
    ids=["a body that comes once", "an append", "an append that comes once"],
)
async def test_f7_what_cannot_be_repeated_has_a_connection_that_nothing_was_sent_on(
    transport: AiohttpTransport, keys: Keys, call: CosRequest, body: Replayable
) -> None:
    """On the one that is there COS takes what comes for the middle of another request."""
    async with sending(transport, keys, left_over_after(OK)) as (server, sender):
        assert await sender.call(PUT, status_of, Replayable(b"first")) == 200
        assert await sender.call(call, status_of, body) == 200

        assert server.bodies == [b"first", b"12345"]
        assert server.connections == 2


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("read_bytes", [0, 65_536])
async def test_f7_a_refusal_that_comes_with_a_reset_keeps_its_cause(
    transport: AiohttpTransport, keys: Keys, read_bytes: int, warm: bool
) -> None:
    """COS refuses a body that comes once and closes while the rest of it is on its way, which resets the connection."""
    said = error(403, "AccessDenied")

    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while b"content-length: 5\r\n" in (await server.read_head(reader)).lower():
                await reader.readexactly(5)
                writer.write(OK)
            await reader.readexactly(read_bytes)
            writer.write(said)
            await writer.drain()

        return serve

    async with sending(transport, keys, script) as (_, sender):
        if warm:
            assert await sender.call(PUT, status_of, Replayable(b"first")) == 200
        for _ in range(5):
            with pytest.raises(errors.StorageDenied) as denied:
                await sender.call(PUT, status_of, Once(bytes(8 << 20)))
            assert denied.value.cos == CosAnswer(403, "AccessDenied", "")


async def test_f7_what_can_be_repeated_goes_over_the_connection_that_is_there(
    transport: AiohttpTransport, keys: Keys
) -> None:
    async with sending(transport, keys, always(OK)) as (server, sender):
        for body in (Replayable(b"1"), Replayable(b"2"), Once(b"3"), Replayable(b"4"), None):
            assert await sender.call(PUT, status_of, body) == 200

        assert server.connections == 2  # the second one, of the body that comes once, takes the place of the first


async def test_what_a_spoilt_request_leaves_behind_does_not_spoil_its_repetition(
    transport: AiohttpTransport, keys: Keys
) -> None:
    async with sending(transport, keys, left_over_after(error(400, "BadDigest"))) as (server, sender):
        assert await sender.call(PUT, status_of, Replayable(b"12345")) == 200

        assert server.bodies == [b"12345", b"12345"]


def left_over_after(said: bytes) -> Callable[[RawServer], Script]:
    """The first connection answers once and then takes what comes for the middle of a request; the others are well."""

    def script(server: RawServer) -> Script:
        spoilt = server.connections == 1

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_body(reader)
            writer.write(said if spoilt else OK)
            await server.read_head(reader)
            writer.write(answer(400))

        return serve

    return script


async def test_after_the_third_failure_the_call_fails_with_coss_answer(transport: AiohttpTransport, keys: Keys) -> None:
    said = error(503, "SlowDown", "x-cos-request-id: NjA=")
    async with sending(transport, keys, always(said)) as (server, sender):
        with pytest.raises(errors.StorageSlowDown) as failed:
            await sender.call(PUT, status_of, Replayable(b"1"))

        assert len(server.heads) == MAX_ATTEMPTS
    assert failed.value.cos == errors.CosAnswer(503, "SlowDown", "NjA=")


@pytest.mark.parametrize(
    "said", [error(403, "AccessDenied"), error(404, "NoSuchUpload"), error(400, "InvalidArgument")]
)
async def test_a_refusal_is_not_tried_again(transport: AiohttpTransport, keys: Keys, said: bytes) -> None:
    async with sending(transport, keys, always(said)) as (server, sender):
        with pytest.raises(errors.GatewayError):
            await sender.call(PUT, status_of, Replayable(b"1"))

        assert len(server.heads) == 1


async def test_a_body_that_comes_once_is_sent_once(transport: AiohttpTransport, keys: Keys) -> None:
    async with sending(transport, keys, always(answer(500))) as (server, sender):
        with pytest.raises(errors.StorageUnavailable):
            await sender.call(PUT, status_of, Once(b"1"))

        assert len(server.heads) == 1


@pytest.mark.parametrize(
    "request_",
    [wire_requests.append_object(AT, 0, {}), wire_requests.complete(AT, "u", [], {})],  # type: ignore[arg-type]
)
async def test_what_may_not_be_repeated_is_sent_once(
    transport: AiohttpTransport, keys: Keys, request_: wire_requests.CosRequest
) -> None:
    async with sending(transport, keys, in_turn(b"")) as (server, sender):
        body = Replayable(b"1") if request_.operation == "append_object" else None
        with pytest.raises(errors.StorageUnavailable):
            await sender.call(request_, status_of, body)

        assert len(server.heads) == 1


async def test_without_a_connection_everything_may_be_tried_again(transport: AiohttpTransport, keys: Keys) -> None:
    async with sending(transport, keys, always(OK)) as (_, sender):
        pass
    body = Once(b"1")
    started = time.monotonic()

    with pytest.raises(errors.StorageUnavailable):
        await sender.call(wire_requests.append_object(AT, 0, {}), status_of, body)

    assert time.monotonic() - started >= 0.2
    assert body.reads == 0


async def test_what_the_body_raises_is_never_tried_again(transport: AiohttpTransport, keys: Keys) -> None:
    class Broken(Once):
        replayable = True

    body = Broken(b"12345", then=errors.StorageUnavailable("the body's own"))
    async with sending(transport, keys, always(OK)) as (server, sender):
        with pytest.raises(errors.StorageUnavailable, match="the body's own"):
            await sender.call(PUT, status_of, body)

        assert body.reads == 1
        assert len(server.heads) <= 1


async def test_an_answer_that_cannot_be_read_is_a_failure_like_any_other(
    transport: AiohttpTransport, keys: Keys
) -> None:
    answers = iter([errors.StorageBadAnswer("odd"), errors.StorageIntegrity("wrong"), None])

    def read(response: CosResponse) -> str:
        problem = next(answers)
        if problem is not None:
            raise problem
        return "read"

    async with sending(transport, keys, always(OK)) as (server, sender):
        assert await sender.call(PUT, read, Replayable(b"1")) == "read"

        assert len(server.heads) == 3


async def test_a_brown_out_is_not_multiplied(transport: AiohttpTransport, keys: Keys) -> None:
    head = wire_requests.head_object(AT)
    async with sending(transport, keys, always(answer(503))) as (server, sender):
        while sender._budget.spend():
            pass
        for _ in range(9):  # one repetition for every five; the tenth call would earn the second
            with pytest.raises(errors.StorageSlowDown):
                await sender.call(head, status_of)

        assert len(server.heads) == 10


async def test_a_repetition_too_waits_until_cos_may_be_asked_again(transport: AiohttpTransport, keys: Keys) -> None:
    """While the first call waits to be repeated, another hears that COS wants to be left alone for ten seconds."""
    busy = error(503, "SlowDown", "Retry-After: 10")
    async with sending(transport, keys, in_turn(answer(500), busy, OK)) as (server, sender):
        sender._dice = lambda: 0.99
        first = asyncio.create_task(sender.call(PUT, status_of, Replayable(b"1")))
        await server.arrived.wait()
        for call in (sender.call(PUT, status_of, Replayable(b"2")), first):
            with pytest.raises(errors.StorageSlowDown):
                await call

        assert len(server.heads) == 2


@pytest.mark.parametrize("seconds", [-7200.0, 7200.0])
@pytest.mark.parametrize(
    "refused",
    [error(403, "RequestTimeTooSkewed"), error(403, "AccessDenied", message="Request has expired"), answer(403)],
    ids=["skewed", "expired", "head"],
)
async def test_a_wrong_clock_is_corrected_by_coss_date_and_stays_so(
    transport: AiohttpTransport, keys: Keys, refused: bytes, seconds: float
) -> None:
    refused = refused.replace(b"Said\r\n", f"Said\r\n{date(seconds)}\r\n".encode(), 1)
    async with sending(transport, keys, in_turn(refused, OK, OK)) as (server, sender):
        for _ in range(2):
            assert await sender.call(PUT, status_of, Replayable(b"1")) == 200

        starts = [start_of(head) - time.time() for head in server.heads]
    assert -125 <= starts[0] <= -55
    assert all(seconds - 130 <= start <= seconds - 50 for start in starts[1:])
    assert len(starts) == 3


def start_of(head: bytes) -> int:
    text = head.decode().partition("authorization: ")[2].partition("\r\n")[0]
    return int(signing.parse_authorization(text).sign_time.partition(";")[0])


async def test_a_clock_that_is_right_is_not_blamed(transport: AiohttpTransport, keys: Keys) -> None:
    for when in (date(5), "Date: nonsense", "Server: tencent-cos"):
        async with sending(transport, keys, always(error(403, "RequestTimeTooSkewed", when))) as (server, sender):
            with pytest.raises(errors.StorageDenied):
                await sender.call(PUT, status_of, Replayable(b"1"))

            assert len(server.heads) == 1


async def test_a_clock_is_corrected_once_for_each_call(transport: AiohttpTransport, keys: Keys) -> None:
    said = [error(403, "RequestTimeTooSkewed", date(seconds)) for seconds in (7200, -7200, 7200)]
    async with sending(transport, keys, in_turn(*said)) as (server, sender):
        with pytest.raises(errors.StorageDenied):
            await sender.call(PUT, status_of, Replayable(b"1"))

        assert len(server.heads) == 2


async def test_a_body_that_comes_once_is_asked_for_again_after_the_clock_is_corrected(
    transport: AiohttpTransport, keys: Keys
) -> None:
    said = error(403, "RequestTimeTooSkewed", date(7200))
    async with sending(transport, keys, in_turn(said, OK)) as (_, sender):
        with pytest.raises(errors.StorageUnavailable) as refused:
            await sender.call(PUT, status_of, Once(b"1"))

        assert refused.value.retryable
        assert await sender.call(PUT, status_of, Once(b"1")) == 200


async def test_keys_that_ran_out_are_refreshed_once(transport: AiohttpTransport, keys: Keys) -> None:
    expired = error(400, "ExpiredToken")
    async with sending(transport, keys, in_turn(expired, OK, expired, expired)) as (server, sender):
        assert await sender.call(PUT, status_of, Replayable(b"1")) == 200
        assert keys.refreshed == [KEYS]
        assert b"q-ak=AKIDexample&" in server.heads[0]
        assert b"q-ak=AKIDnew&" in server.heads[1]
        assert b"x-cos-security-token: new\r\n" in server.heads[1]

        with pytest.raises(errors.CredentialsUnavailable):
            await sender.call(PUT, status_of, Replayable(b"1"))
        assert len(server.heads) == 4


async def test_a_call_for_which_there_are_no_keys_is_counted(transport: AiohttpTransport, tmp_path: Path) -> None:
    metrics = Metrics()
    exchange = Exchange(transport, endpoint="http://127.0.0.1:9", scheme="https", limits=LIMITS, observe=None)
    sender = Sender(exchange, FileCredentials(tmp_path / "missing"), time.time, metrics)

    with pytest.raises(errors.CredentialsUnavailable):
        await sender.call(PUT, status_of, Replayable(b"1"))

    assert b'gateway_cos_errors_total{code="credentials_unavailable"} 1.0' in metrics.exposition()


@pytest.mark.parametrize(
    "refused",
    [error(403, "InvalidAccessKeyId"), error(403, "SignatureDoesNotMatch"), answer(400), answer(403)],
    ids=["id", "key", "head 400", "head 403"],
)
async def test_b67_keys_that_were_replaced_are_looked_for_once(
    transport: AiohttpTransport, keys: Keys, refused: bytes
) -> None:
    async with sending(transport, keys, in_turn(refused, OK, refused)) as (server, sender):
        assert await sender.call(PUT, status_of, Replayable(b"1")) == 200

        assert b"q-ak=AKIDnew&" in server.heads[1]


async def test_where_there_are_no_other_keys_coss_refusal_stands(transport: AiohttpTransport) -> None:
    fixed = FixedCredentials(KEYS)
    for said, kind in (
        ("SignatureDoesNotMatch", errors.StorageDenied),
        ("ExpiredToken", errors.CredentialsUnavailable),
    ):
        async with sending(transport, fixed, always(error(403, said))) as (server, sender):
            with pytest.raises(kind):
                await sender.call(PUT, status_of, Replayable(b"1"))

            assert len(server.heads) == 1


@pytest.mark.promise(23)
async def test_b58_after_a_slow_down_the_next_body_is_refused_before_a_byte_is_sent(
    transport: AiohttpTransport, keys: Keys
) -> None:
    async with sending(transport, keys, always(error(503, "SlowDown", "Retry-After: 5"))) as (server, sender):
        with pytest.raises(errors.StorageSlowDown):
            await sender.call(PUT, status_of, Once(b"1"))
        body = Once(b"1")
        with pytest.raises(errors.StorageSlowDown) as refused:
            await sender.call(PUT, status_of, body)

        assert (len(server.heads), body.reads) == (1, 0)
        assert 4 < (refused.value.retry_after_seconds or 0) <= 5


async def test_each_failed_attempt_leaves_one_line_without_secrets_or_queries(
    transport: AiohttpTransport, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = wire_requests.upload_part(AT, "upload-id", 3, {"x-cos-meta-a": "metadata"})  # type: ignore[arg-type]
    said = error(503, "SlowDown", "x-cos-request-id: NjA=")
    async with sending(transport, keys, in_turn(said, b"", error(404, "NoSuchUpload"))) as (_, sender):
        with pytest.raises(errors.UploadLost):
            await sender.call(request, status_of, Replayable(b"1"))

    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.cos"]
    assert lines == [
        "upload_part failed: storage_slow_down, status 503, code SlowDown, request NjA=",
        "upload_part failed: storage_unavailable, status 0, code -, request -",
        "upload_part failed: upload_lost, status 404, code NoSuchUpload, request -",
    ]
    for canary in ("the-secret-key", "the-token", "q-signature", "upload-id", "secret-key-name", "metadata"):
        assert canary not in caplog.text

"""One attempt: where it goes, what it is told, and that it ends."""

from collections.abc import Callable

import httpx
import pytest

from gateway.cos import wire_requests
from gateway.cos.exchange import AttemptFailed, CosLimits, Exchange
from gateway.cos.transport import AiohttpTransport
from gateway.cos.wire_requests import CosRequest
from gateway.domain import errors
from gateway.domain.objects import Bucket, ObjectAddress, UploadId
from gateway.tracing import TRACE, Trace
from tests.cos.bodies import Once, Replayable
from tests.cos.raw_server import RawServer, always, answer, raw_server

AT = ObjectAddress(Bucket("b-125", "r"), "k")
PUT = wire_requests.put_object(AT, {})
LIMITS = CosLimits(connect_seconds=0.5, stall_seconds=0.5, answer_seconds=0.3, complete_seconds=0.6)

Seen = list[tuple[str, int, int]]


@pytest.fixture
def seen() -> Seen:
    return []


@pytest.fixture
def exchange_with(transport: AiohttpTransport, seen: Seen) -> Callable[[RawServer], Exchange]:
    def make(server: RawServer) -> Exchange:
        def observe(operation: str, status: int, seconds: float, bytes_taken: int) -> None:
            assert 0 < seconds < 5
            seen.append((operation, status, bytes_taken))

        endpoint = f"http://127.0.0.1:{server.port}"
        return Exchange(transport, endpoint=endpoint, scheme="https", limits=LIMITS, observe=observe)

    return make


def put_headers(length: int) -> dict[str, str]:
    return {"host": AT.bucket.host, "content-length": str(length)}


async def test_the_endpoint_is_where_to_connect_and_the_host_stays_the_buckets(
    exchange_with: Callable[[RawServer], Exchange], seen: Seen
) -> None:
    async with raw_server(always(answer(200, b"body", "ETag: e", "X-Cos-Request-Id: r"))) as server:
        response = await exchange_with(server).once(PUT, put_headers(5), Replayable(b"12345"))

        assert server.heads[0].startswith(b"PUT /k HTTP/1.1\r\nhost: b-125.cos.r.myqcloud.com\r\n")
        assert server.bodies == [b"12345"]
    assert (response.status, response.body, response.headers["etag"]) == (200, b"body", "e")
    assert response.request_id == "r"
    assert seen == [("put_object", 200, 5)]


async def test_the_trace_of_the_moment_goes_on_to_cos(exchange_with: Callable[[RawServer], Exchange]) -> None:
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
    async with raw_server(always(answer(200, b""))) as server:
        exchange = exchange_with(server)
        token = TRACE.set(trace)
        await exchange.once(PUT, put_headers(1), Replayable(b"1"))
        TRACE.reset(token)
        await exchange.once(PUT, put_headers(1), Replayable(b"1"))

        assert f"traceparent: {trace.header}".encode() in server.heads[0]
        assert b"traceparent" not in server.heads[1]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (PUT, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * 0x100000 + b"\r\n"),
        (
            wire_requests.complete(AT, UploadId("u"), [], {}),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b" " * 0x8000 + b"\r\n" * 1,
        ),
    ],
    ids=["8 MiB", "64 KiB of white space"],
)
async def test_an_answer_without_end_is_cut(
    exchange_with: Callable[[RawServer], Exchange], request_: CosRequest, said: bytes
) -> None:
    head, _, chunk = said.partition(b"\r\n\r\n")
    async with raw_server(always(head + b"\r\n\r\n" + chunk * 12)) as server:
        headers = put_headers(len(request_.content))
        with pytest.raises(AttemptFailed) as failed:
            await exchange_with(server).once(request_, headers, None)

    assert type(failed.value.error) is errors.StorageBadAnswer


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"])
async def test_an_answer_that_does_not_come_or_end_fails_the_attempt(
    exchange_with: Callable[[RawServer], Exchange], seen: Seen, said: bytes
) -> None:
    async with raw_server(always(said)) as server:
        with pytest.raises(AttemptFailed) as failed:
            await exchange_with(server).once(PUT, put_headers(1), Replayable(b"x"))

    assert type(failed.value.error) is errors.StorageUnavailable
    assert not failed.value.nothing_sent
    assert seen == [("put_object", 0, 1)]


@pytest.mark.parametrize(
    "error", [KeyError("mine"), TimeoutError("mine"), httpx.ReadError("mine"), errors.BodyTimeout()]
)
async def test_what_the_body_raises_is_no_failed_attempt(
    exchange_with: Callable[[RawServer], Exchange], error: Exception
) -> None:
    async with raw_server(always(answer())) as server:
        with pytest.raises(type(error)) as raised:
            await exchange_with(server).once(PUT, put_headers(5), Once(b"12345", then=error))

        assert raised.value is error


@pytest.mark.parametrize(
    ("size", "kind"), [(6, errors.BodyIncomplete), (4, errors.BodyTooLarge)], ids=["too short", "too long"]
)
async def test_a_body_of_another_length_is_the_callers_fault(
    exchange_with: Callable[[RawServer], Exchange], size: int, kind: type[errors.GatewayError]
) -> None:
    async with raw_server(always(answer())) as server:
        with pytest.raises(AttemptFailed) as failed:
            await exchange_with(server).once(PUT, put_headers(size), Once(b"12345", size=size))

    assert type(failed.value.error) is kind


async def test_a_refused_connection_leaves_the_body_untouched(
    exchange_with: Callable[[RawServer], Exchange],
) -> None:
    async with raw_server(always(answer())) as server:
        exchange = exchange_with(server)
    body = Once(b"12345")

    with pytest.raises(AttemptFailed) as failed:
        await exchange.once(PUT, put_headers(5), body)

    assert failed.value.nothing_sent
    assert body.reads == 0

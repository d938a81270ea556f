"""What the client makes of answers that a faithful COS would not give."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.cos.client import CosClient
from gateway.cos.credentials import FixedCredentials
from gateway.cos.exchange import CosLimits
from gateway.cos.signing import Credentials
from gateway.domain import errors
from gateway.domain.checksums import crc64
from gateway.domain.objects import Bucket, ETag, ObjectAddress, StoredPart, UploadId
from tests.cos.bodies import Once, Replayable
from tests.cos.raw_server import RawServer, Script, always, answer, in_turn, raw_server

BUCKET = Bucket("b-125", "r")
AT = ObjectAddress(BUCKET, "k")
UPLOAD = UploadId("u")
DATA = random.Random(1).randbytes(100_000)
ETAG = '"ee8de918d05640145b18f70f4c3aa602"'


def stored(crc: int | None = None, etag: str | None = ETAG) -> bytes:
    headers = [] if etag is None else [f"ETag: {etag}"]
    if crc is not None:
        headers.append(f"x-cos-hash-crc64ecma: {crc}")
    return answer(200, b"", "x-cos-request-id: NjA=", *headers)


GOOD = stored(crc64(DATA))


@asynccontextmanager
async def client_of(script: Callable[[RawServer], Script]) -> AsyncIterator[tuple[RawServer, CosClient]]:
    async with raw_server(script) as server:
        client = CosClient(
            FixedCredentials(Credentials("id", "key")),
            endpoint=f"http://127.0.0.1:{server.port}",
            limits=CosLimits(answer_seconds=0.5, complete_seconds=0.5),
        )
        try:
            yield server, client
        finally:
            await client.aclose()


BAD = [
    pytest.param(stored(crc64(DATA) ^ 1), errors.StorageIntegrity, id="wrong CRC"),
    pytest.param(stored(crc64(DATA), None), errors.StorageIntegrity, id="no ETag"),
    pytest.param(stored(crc64(DATA), "odd"), errors.StorageIntegrity, id="odd ETag"),
    pytest.param(stored(None), errors.StorageBadAnswer, id="no CRC"),
]


@pytest.mark.parametrize(("bad", "kind"), BAD)
async def test_bytes_that_cos_did_not_acknowledge_are_sent_again(bad: bytes, kind: type[errors.Storage]) -> None:
    async with client_of(in_turn(bad, GOOD, bad, GOOD)) as (server, client):
        part = await client.upload_part(AT, UPLOAD, 1, Replayable(DATA), {})
        whole = await client.put_object(AT, Replayable(DATA), {})

        assert part == StoredPart(1, len(DATA), ETag(ETAG), crc64(DATA))
        assert whole.crc64 == crc64(DATA)
        assert server.bodies == [DATA] * 4


@pytest.mark.parametrize(("bad", "kind"), BAD)
async def test_bytes_that_cos_never_acknowledges_are_not_acknowledged(bad: bytes, kind: type[errors.Storage]) -> None:
    async with client_of(always(bad)) as (server, client):
        with pytest.raises(kind) as failed:
            await client.upload_part(AT, UPLOAD, 1, Replayable(DATA), {})
        assert len(server.bodies) == 3
        with pytest.raises(kind):
            await client.put_object(AT, Once(DATA), {})
        assert len(server.bodies) == 4

    assert failed.value.cos == errors.CosAnswer(200, "", "NjA=")
    assert failed.value.retryable


async def test_a_part_flipped_on_the_way_is_sent_again() -> None:
    refused = answer(400, b"<Error><Code>BadDigest</Code></Error>")
    async with client_of(in_turn(refused, GOOD)) as (server, client):
        await client.upload_part(AT, UPLOAD, 1, Replayable(DATA), {"content-md5": "bQ=="})

        assert server.bodies == [DATA] * 2


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"<CompleteMultipartUploadRes"),
        answer(200, b" " * 70_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n   ",
        b"",
        answer(500),
    ],
    ids=["cut XML", "only spaces", "stops", "reset", "500"],
)
async def test_a_complete_in_doubt_is_sent_once_and_unavailable(said: bytes) -> None:
    async with client_of(in_turn(said)) as (server, client):
        with pytest.raises(errors.StorageUnavailable):
            await client.complete(AT, UPLOAD, [(1, ETag(ETAG))], {})

        assert len(server.heads) == 1


async def test_a_complete_padded_with_spaces_is_read() -> None:
    result = f"<CompleteMultipartUploadResult><ETag>{ETAG}</ETag></CompleteMultipartUploadResult>".encode()
    async with client_of(always(answer(200, b" " * 10_000 + result))) as (_, client):
        assert (await client.complete(AT, UPLOAD, [(1, ETag(ETAG))], {})).etag == ETAG


async def test_an_append_whose_answer_is_lost_is_not_repeated() -> None:
    async with client_of(in_turn(b"")) as (server, client):
        with pytest.raises(errors.StorageUnavailable):
            await client.append_object(AT, 0, Replayable(DATA), {})

        assert server.bodies == [DATA]


async def test_a_listing_that_goes_in_circles_is_refused() -> None:
    part = b"<Part><PartNumber>5</PartNumber><Size>5</Size><ETag>&quot;e&quot;</ETag></Part>"
    page = part + b"<IsTruncated>true</IsTruncated><NextPartNumberMarker>5</NextPartNumberMarker>"
    page = b"<ListPartsResult>" + page + b"</ListPartsResult>"
    async with client_of(always(answer(200, page))) as (_, client):
        assert (await client.list_parts(AT, UPLOAD, marker=4)).next_marker == 5
        with pytest.raises(errors.StorageBadAnswer):
            await client.list_parts(AT, UPLOAD, marker=5)


async def test_what_the_body_raises_comes_out_and_nothing_whole_arrives() -> None:
    problem = errors.DigestMismatch("not what was announced")
    async with client_of(always(GOOD)) as (server, client):
        with pytest.raises(errors.DigestMismatch) as raised:
            await client.upload_part(AT, UPLOAD, 1, Once(DATA, then=problem), {})

        assert raised.value is problem
        await server.closed.wait()
        assert server.bodies == [DATA[:65_536]]

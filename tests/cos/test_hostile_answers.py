"""COS's XML is hostile, huge, or pads for ever: the call ends in time, in little memory, and without a false yes."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from gateway.cos.client import CosClient
from gateway.cos.credentials import FixedCredentials
from gateway.cos.exchange import CosLimits
from gateway.cos.signing import Credentials
from gateway.domain import errors
from gateway.domain.objects import Bucket, ETag, ObjectAddress, UploadId
from tests.cos.raw_server import RawServer, Script, answer, raw_server

AT: Final = ObjectAddress(Bucket("b-125", "r"), "k")
UPLOAD: Final = UploadId("u")
MIB: Final = 2**20
PAGE: Final = (
    b"<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><Size>5</Size>"
    b'<ETag>"e"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Part></ListPartsResult>'
)
LAUGHS: Final = (
    b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>'
    b"<ListPartsResult>&c;</ListPartsResult>"
)


@asynccontextmanager
async def client_of(said: bytes, *, times: int = 1, complete_seconds: float = 1.0) -> AsyncIterator[CosClient]:
    """A client of a COS that says *said* over and over, *times* in all; then nothing more."""

    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.read_body(reader)
                for _ in range(times):
                    writer.write(said)
                    await writer.drain()

        return serve

    async with raw_server(script) as server:
        client = CosClient(
            FixedCredentials(Credentials("id", "key")),
            endpoint=f"http://127.0.0.1:{server.port}",
            limits=CosLimits(connect_seconds=1, stall_seconds=1, answer_seconds=2, complete_seconds=complete_seconds),
        )
        while client._sender._budget.spend():  # the answer is the same each time
            pass
        try:
            yield client
        finally:
            await client.aclose()


@pytest.mark.promise(13)
@pytest.mark.parametrize(
    "body",
    [
        LAUGHS,
        b'<!DOCTYPE r SYSTEM "http://169.254.169.254/">' + PAGE,
        PAGE.replace(b"5", b"5\x00", 1),
        PAGE[:-20],
        PAGE.replace(b"ListPartsResult", b"ListSomething"),
        b"<ListPartsResult>" + b"<a>" * 1000 + b"</a>" * 1000 + b"</ListPartsResult>",
        b"<ListPartsResult>" + b"<Part/>" * 60_000 + b"</ListPartsResult>",
        b"\xff\xfe" + PAGE.decode().encode("utf-16-le")[:-7],
        b"",
    ],
    ids=["entities", "external", "NUL", "cut", "other name", "deep", "many", "half a UTF-16", "nothing"],
)
async def test_b81_xml_that_cos_would_not_send_is_a_bad_answer(body: bytes) -> None:
    async with client_of(answer(200, body)) as client:
        with pytest.raises(errors.StorageBadAnswer):
            await client.list_parts(AT, UPLOAD)


@pytest.mark.parametrize(
    "body",
    [b"\xef\xbb\xbf" + PAGE, PAGE.replace(b"<ListPartsResult>", b'<ListPartsResult xmlns="urn:something-new">')],
    ids=["BOM", "unknown namespace"],
)
async def test_b81_xml_that_is_only_unusual_is_read(body: bytes) -> None:
    async with client_of(answer(200, body)) as client:
        assert [part.number for part in (await client.list_parts(AT, UPLOAD)).parts] == [1]


@pytest.mark.promise(13, 21)
async def test_b81_fifty_megabytes_of_xml_are_cut_at_eight() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (50 * MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with client_of(head + b" " * MIB, times=50) as client:
        with pytest.raises(errors.StorageBadAnswer):
            await client.list_parts(AT, UPLOAD)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024


@pytest.mark.promise(13, 20)
@pytest.mark.parametrize("rest", [b"", b" "], ids=["silence", "spaces"])
async def test_b73_complete_without_an_end_is_cut_at_its_one_deadline(rest: bytes) -> None:
    def script(server: RawServer) -> Script:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_body(reader)
            await asyncio.sleep(0.4)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n")
            while True:
                writer.write(b"1\r\n" + rest + b"\r\n" if rest else b"")
                await writer.drain()
                await asyncio.sleep(0.05)

        return serve

    async with raw_server(script) as server:
        client = CosClient(
            FixedCredentials(Credentials("id", "key")),
            endpoint=f"http://127.0.0.1:{server.port}",
            limits=CosLimits(complete_seconds=0.8),
        )
        began = time.monotonic()
        try:
            with pytest.raises(errors.StorageUnavailable):
                await client.complete(AT, UPLOAD, [(1, ETag('"e"'))], {})
        finally:
            await client.aclose()

        assert 0.7 < time.monotonic() - began < 1.1
        assert len(server.heads) == 1


@pytest.mark.promise(13, 21)
async def test_b73_complete_is_cut_after_64_kib_of_spaces() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    more = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    async with client_of(said + more * 4, complete_seconds=30) as client, asyncio.timeout(5):
        with pytest.raises(errors.StorageUnavailable):
            await client.complete(AT, UPLOAD, [(1, ETag('"e"'))], {})

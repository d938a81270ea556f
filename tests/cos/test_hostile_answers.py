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


def parts_page(*numbers: int, marker: int | None = None, size: int = MIB) -> bytes:
    """A page of List Parts; *marker*: where it says that the next one begins."""
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{size}</Size><ETag>&quot;e&quot;</ETag></Part>"
        for number in numbers
    )
    more = "" if marker is None else f"<NextPartNumberMarker>{marker}</NextPartNumberMarker>"
    truncated = f"<IsTruncated>{'false' if marker is None else 'true'}</IsTruncated>"
    return f"<ListPartsResult>{rows}{truncated}{more}</ListPartsResult>".encode()


def uploads_page(*rows: tuple[str, str], marker: tuple[str, str] | None = None) -> bytes:
    """A page of List Multipart Uploads: keys and upload ids."""
    shown = "".join(f"<Upload><Key>{key}</Key><UploadId>{upload}</UploadId></Upload>" for key, upload in rows)
    more = ""
    if marker is not None:
        more = f"<NextKeyMarker>{marker[0]}</NextKeyMarker><NextUploadIdMarker>{marker[1]}</NextUploadIdMarker>"
    truncated = f"<IsTruncated>{'false' if marker is None else 'true'}</IsTruncated>"
    return f"<ListMultipartUploadsResult>{shown}{truncated}{more}</ListMultipartUploadsResult>".encode()


@pytest.mark.promise(13, 20, 21)
@pytest.mark.parametrize(
    ("page", "after"),
    [
        (parts_page(0), 0),
        (parts_page(10_001), 9_999),
        (parts_page(1, 3, 2), 0),
        (parts_page(1, 1), 0),
        (parts_page(4, 5), 4),
        (parts_page(1, 2, marker=7), 4),
        (parts_page(marker=5), 4),
        (parts_page(5, 6, marker=5), 4),
        (parts_page(5, 6, marker=7), 4),
        (parts_page(5, 6, marker=4), 4),
        (parts_page(10_001, marker=10_001), 10_000),
        (parts_page(*range(1, 1002)), 0),
        (parts_page(1, size=5 * 2**30 + 1), 0),
    ],
    ids=[
        *("number 0", "number 10,001", "out of order", "twice", "listed before", "again behind a right marker"),
        *("no rows", "marker before its rows end", "marker behind its rows", "marker stands still"),
        *("beyond 10,000", "more than asked for", "part too large"),
    ],
)
async def test_f4_f9_a_page_of_parts_that_does_not_follow_is_a_bad_answer(page: bytes, after: int) -> None:
    async with client_of(answer(200, page)) as client:
        with pytest.raises(errors.StorageBadAnswer):
            await client.list_parts(AT, UPLOAD, marker=after)


async def test_f4_pages_that_follow_are_read_up_to_part_10_000() -> None:
    for numbers, after in ((range(1, 1001), 0), ([10_000], 9_999), ([], 10_000), ([], 10**6)):
        marker = numbers[-1] if len(numbers) == 1000 else None
        async with client_of(answer(200, parts_page(*numbers, marker=marker))) as client:
            page = await client.list_parts(AT, UPLOAD, marker=after)
        assert ([part.number for part in page.parts], page.next_marker) == ([*numbers], marker)


@pytest.mark.promise(13, 20)
@pytest.mark.parametrize(
    "page",
    [
        uploads_page(("in/k", "2"), marker=("in/k", "2")),
        uploads_page(("in/l", "1"), ("in/k", "3")),
        uploads_page(("in/l", "1"), ("in/l", "1")),
        uploads_page(("in/a", "1")),
        uploads_page(("out/l", "1")),
        uploads_page(marker=("in/z", "1")),
        uploads_page(("in/l", "1"), marker=("in/k", "9")),
        uploads_page(("in/k", "3"), marker=("in/k", "1")),
        uploads_page(*((f"in/l{number:03}", "1") for number in range(3))),
    ],
    ids=[
        *("the marker's own row", "out of order", "twice", "listed before", "outside of the prefix", "no rows"),
        *("marker before its rows end", "marker goes back", "more than asked for"),
    ],
)
async def test_f4_a_page_of_uploads_that_does_not_follow_is_a_bad_answer(page: bytes) -> None:
    """The sweeper aborts what it finds listed: no upload outside of its prefix may come in."""
    async with client_of(answer(200, page)) as client:
        with pytest.raises(errors.StorageBadAnswer):
            await client.list_uploads(AT.bucket, prefix="in/", key_marker="in/k", upload_id_marker="2", limit=2)


async def test_f4_uploads_of_one_key_may_come_in_any_order() -> None:
    page = uploads_page(("in/k", "9"), ("in/k", "3"), ("in/é", "1"), marker=("in/é", "1"))
    async with client_of(answer(200, page)) as client:
        listed = await client.list_uploads(AT.bucket, prefix="in/", key_marker="in/k", upload_id_marker="2")

    assert [upload.upload_id for upload in listed.uploads] == ["9", "3", "1"]
    assert (listed.next_key_marker, listed.next_upload_id_marker) == ("in/é", "1")

"""Multipart uploads at the local COS: its limits, its refusals, its pages, and who wins when several come at once."""

import asyncio
import base64
import random
from collections.abc import Sequence

import pytest

from gateway.domain.checksums import crc64
from tests.fakes.cos_caller import CallerAnswer, CosCaller, etag_of, md5
from tests.fakes.local_cos import BUCKET, RunningCos

MIB = 1 << 20
PIECES = [random.Random(n).randbytes(size) for n, size in enumerate((MIB, MIB + 7, 99))]


def initiate(caller: CosCaller, key: str = "k", **headers: str) -> str:
    return caller.call("POST", key, {"uploads": ""}, headers=headers).text("UploadId") or ""


def put_part(caller: CosCaller, upload_id: str, number: object, body: bytes, **headers: str) -> CallerAnswer:
    return caller.call("PUT", "k", {"partNumber": str(number), "uploadId": upload_id}, headers=headers, body=body)


def put_pieces(caller: CosCaller, upload_id: str, pieces: Sequence[bytes] = PIECES) -> list[tuple[int, str]]:
    """Each piece's number and ETag."""
    numbered = list(enumerate(pieces, start=1))
    return [(number, put_part(caller, upload_id, number, piece).headers["etag"]) for number, piece in numbered]


def complete(caller: CosCaller, upload_id: str, parts: Sequence[tuple[object, str]], **headers: str) -> CallerAnswer:
    rows = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    return caller.call("POST", "k", {"uploadId": upload_id}, headers=headers, body=body)


def test_the_object_is_the_parts_in_order_with_what_initiate_said(caller: CosCaller, cos: RunningCos) -> None:
    headers = {"Content-Type": "video/mp4", "x-cos-meta-a": "b", "x-cos-storage-class": "STANDARD_IA"}
    upload_id = initiate(caller, **headers)
    done = complete(caller, upload_id, put_pieces(caller, upload_id))
    head = caller.call("HEAD", "k").headers

    whole = b"".join(PIECES)
    assert cos.read(BUCKET, "k") == whole
    assert (done.status, done.headers["x-cos-hash-crc64ecma"]) == (200, str(crc64(whole)))
    assert (done.text("Bucket"), done.text("Key")) == (BUCKET.name, "k")
    assert done.text("Location") == f"http://{BUCKET.host}/k"
    assert head["etag"] == done.text("ETag")
    assert {name.lower(): head[name.lower()] for name in headers} == {n.lower(): v for n, v in headers.items()}


def test_the_etag_of_a_multipart_object_cannot_be_computed_as_s3_s(caller: CosCaller) -> None:
    upload_id = initiate(caller)
    done = complete(caller, upload_id, put_pieces(caller, upload_id))

    s3 = md5(b"".join(md5(piece) for piece in PIECES)).hex()
    etag = done.text("ETag") or ""
    assert etag.endswith('-3"')
    assert s3 not in etag


def test_a_part_again_replaces_the_earlier_one_whole(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller)
    put_part(caller, upload_id, 1, b"a long first try")
    again = put_part(caller, upload_id, 1, b"second")
    same = put_part(caller, upload_id, 1, b"second")

    folder = cos.data / "cos" / ".uploads" / BUCKET.name / upload_id
    assert sorted(path.stat().st_size for path in folder.glob("00001-*")) == [len(b"second")]
    assert same.headers["etag"] == again.headers["etag"]
    assert complete(caller, upload_id, [(1, again.headers["etag"])]).status == 200
    assert cos.read(BUCKET, "k") == b"second"


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x", ""])
def test_a_part_number_is_one_to_ten_thousand(caller: CosCaller, number: str) -> None:
    answer = put_part(caller, initiate(caller), number, b"x")

    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_the_highest_part_number_is_taken(caller: CosCaller) -> None:
    assert put_part(caller, initiate(caller), 10_000, b"x").status == 200


def test_a_part_is_checked_as_an_object_is(caller: CosCaller) -> None:
    upload_id = initiate(caller)
    wrong = base64.b64encode(md5(b"other")).decode()

    assert put_part(caller, upload_id, 1, b"x", **{"Content-MD5": wrong}).code == "BadDigest"
    assert put_part(caller, upload_id, 1, b"x", **{"x-cos-traffic-limit": "1"}).code == "InvalidArgument"
    assert caller.call("GET", "k", {"uploadId": upload_id}).texts("PartNumber") == []


def test_an_unknown_upload_is_unknown_to_every_operation(caller: CosCaller) -> None:
    initiate(caller, "another-key")
    query = {"uploadId": "1700000000abc"}
    answers = [
        put_part(caller, "1700000000abc", 1, b"x"),
        caller.call("GET", "k", query),
        complete(caller, "1700000000abc", [(1, etag_of(b"x"))]),
        caller.call("DELETE", "k", query),
    ]

    assert [(answer.status, answer.code) for answer in answers] == [(404, "NoSuchUpload")] * 4


def test_an_upload_belongs_to_its_key(caller: CosCaller) -> None:
    upload_id = initiate(caller, "another-key")

    assert put_part(caller, upload_id, 1, b"x").code == "NoSuchUpload"


def test_complete_again_after_success_is_no_such_upload(caller: CosCaller) -> None:
    upload_id = initiate(caller)
    parts = put_pieces(caller, upload_id)

    assert complete(caller, upload_id, parts).status == 200
    assert complete(caller, upload_id, parts).code == "NoSuchUpload"


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([2, 1, 3], "InvalidPartOrder"),
        ([1, 1, 2], "InvalidPartOrder"),
        ([1, 3], "InvalidPart"),
        ([2, 3], "InvalidPart"),
        ([1, 2, 3, 4], "InvalidPart"),
        ([], "MalformedXML"),
    ],
)
def test_a_list_of_parts_that_cos_would_refuse_is_refused(
    caller: CosCaller, cos: RunningCos, numbers: list[int], code: str
) -> None:
    upload_id = initiate(caller)
    etags = {**dict(put_pieces(caller, upload_id)), 4: etag_of(b"never sent")}

    answer = complete(caller, upload_id, [(number, etags[number]) for number in numbers])

    assert (answer.status, answer.code) == (400, code)
    assert (cos.keys(BUCKET), cos.open_uploads(BUCKET)) == ([], ["k"])


def test_a_part_listed_with_another_etag_is_invalid(caller: CosCaller) -> None:
    upload_id = initiate(caller)
    parts = put_pieces(caller, upload_id)

    assert complete(caller, upload_id, [*parts[:2], (3, etag_of(b"other"))]).code == "InvalidPart"


def test_only_the_last_part_may_be_under_a_mebibyte(caller: CosCaller) -> None:
    upload_id = initiate(caller)
    parts = put_pieces(caller, upload_id, [PIECES[0], PIECES[0][1:], b"x"])

    assert complete(caller, upload_id, parts).code == "EntityTooSmall"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><CompleteMultipartUpload>&b;</CompleteMultipartUpload>',
    ],
)
def test_a_list_that_is_not_its_xml_is_malformed(caller: CosCaller, body: bytes) -> None:
    upload_id = initiate(caller)

    assert caller.call("POST", "k", {"uploadId": upload_id}, body=body).code == "MalformedXML"


def test_the_list_of_parts_has_a_digest_too(caller: CosCaller) -> None:
    upload_id = initiate(caller)
    wrong = base64.b64encode(md5(b"other")).decode()

    assert complete(caller, upload_id, put_pieces(caller, upload_id), **{"Content-MD5": wrong}).code == "BadDigest"


@pytest.mark.parametrize("where", ["initiate", "complete"])
def test_a_forbidden_overwrite_is_found_at_complete(caller: CosCaller, cos: RunningCos, where: str) -> None:
    forbid = {"x-cos-forbid-overwrite": "true"}
    upload_id = initiate(caller, **(forbid if where == "initiate" else {}))
    parts = put_pieces(caller, upload_id)
    caller.call("PUT", "k", body=b"came first")

    answer = complete(caller, upload_id, parts, **(forbid if where == "complete" else {}))

    assert (answer.status, answer.code) == (409, "FileAlreadyExists")
    assert cos.read(BUCKET, "k") == b"came first"


@pytest.mark.parametrize(("piece", "after_bytes"), [(PIECES[0], MIB // 2), (b"", 0)], ids=["midway", "empty"])
async def test_an_abort_fails_the_parts_in_flight(
    caller: CosCaller, cos: RunningCos, piece: bytes, after_bytes: int
) -> None:
    upload_id = initiate(caller)
    cos.fault("stall", operation="UploadPart", after_bytes=after_bytes)
    sending = asyncio.create_task(asyncio.to_thread(put_part, caller, upload_id, 1, piece))
    await cos.until(lambda entries: entries[-1]["fault"] == "stall" and entries[-1]["received_bytes"] >= after_bytes)

    aborted = await asyncio.to_thread(caller.call, "DELETE", "k", {"uploadId": upload_id})
    cos.clear_faults()
    part = await sending

    assert aborted.status == 204
    assert (part.status, part.code) == (404, "NoSuchUpload")
    assert list((cos.data / "cos" / ".uploads" / BUCKET.name).iterdir()) == []


async def test_of_two_bodies_for_one_part_the_one_that_ends_last_wins_whole(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller)
    slow, quick = PIECES[0], PIECES[1]
    cos.fault("stall", operation="UploadPart", after_bytes=MIB // 2)
    sending = asyncio.create_task(asyncio.to_thread(put_part, caller, upload_id, 1, slow))
    await cos.until(lambda entries: entries[-1]["received_bytes"] > MIB // 2)
    await asyncio.to_thread(put_part, caller, upload_id, 1, quick)
    cos.clear_faults()
    last = await sending

    listed = await asyncio.to_thread(caller.call, "GET", "k", {"uploadId": upload_id})
    assert (listed.texts("ETag"), listed.texts("Size")) == ([last.headers["etag"]], [str(MIB)])
    await asyncio.to_thread(complete, caller, upload_id, [(1, last.headers["etag"])])
    assert cos.read(BUCKET, "k") == slow


def test_parts_are_listed_in_pages(caller: CosCaller) -> None:
    upload_id = initiate(caller)
    for number in (9, 2, 5, 10_000):
        put_part(caller, upload_id, number, b"x" * number)

    query = {"uploadId": upload_id, "max-parts": "3"}
    first = caller.call("GET", "k", query)
    second = caller.call("GET", "k", {**query, "part-number-marker": first.text("NextPartNumberMarker") or ""})

    assert (first.texts("PartNumber"), first.text("IsTruncated")) == (["2", "5", "9"], "true")
    assert (second.texts("PartNumber"), second.texts("Size")) == (["10000"], ["10000"])
    assert (second.text("IsTruncated"), second.text("NextPartNumberMarker")) == ("false", None)


def test_uploads_are_listed_by_key_then_id_in_pages(caller: CosCaller) -> None:
    ids = sorted(initiate(caller, "b") for _ in range(3))
    other = initiate(caller, "a")
    rows: list[tuple[str, str]] = []
    markers: dict[str, str] = {}
    while True:
        page = caller.call("GET", "", {"uploads": "", "max-uploads": "2", **markers})
        rows += zip(page.texts("Key"), page.texts("UploadId"), strict=True)
        if page.text("IsTruncated") == "false":
            break
        markers = {
            "key-marker": page.text("NextKeyMarker") or "",
            "upload-id-marker": page.text("NextUploadIdMarker") or "",
        }

    assert rows == [("a", other), *(("b", upload_id) for upload_id in ids)]
    ignored = caller.call("GET", "", {"uploads": "", "upload-id-marker": ids[-1]})
    assert len(ignored.texts("Key")) == 4


def test_uploads_are_listed_by_prefix_and_folder(caller: CosCaller) -> None:
    for key in ("x/1 中", "x/2", "y"):
        initiate(caller, key)

    folders = caller.call("GET", "", {"uploads": "", "delimiter": "/"})
    encoded = caller.call("GET", "", {"uploads": "", "prefix": "x/1", "encoding-type": "url"})

    assert folders.texts("Key") == ["y"]
    assert [element.findtext("Prefix") for element in folders.xml.iter("CommonPrefixes")] == ["x/"]
    assert (encoded.texts("Key"), encoded.text("Prefix")) == (["x%2F1%20%E4%B8%AD"], "x%2F1")


@pytest.mark.parametrize("query", [{"max-uploads": "0"}, {"max-uploads": "1001"}, {"encoding-type": "utf8"}])
def test_a_listing_of_uploads_that_cos_would_refuse_is_refused(caller: CosCaller, query: dict[str, str]) -> None:
    assert caller.call("GET", "", {"uploads": "", **query}).code == "InvalidArgument"


def test_a_listing_of_parts_that_cos_would_refuse_is_refused(caller: CosCaller) -> None:
    upload_id = initiate(caller)

    assert caller.call("GET", "k", {"uploadId": upload_id, "max-parts": "1001"}).code == "InvalidArgument"
    assert caller.call("GET", "k", {"uploadId": upload_id, "part-number-marker": "x"}).code == "InvalidArgument"
    assert caller.call("GET", "k", {"uploadId": ""}).code == "ListPartUploadIdIsEmpty"

"""COS's successes as values, and answers that only look like successes."""

import pytest

from gateway.cos import wire_answers
from gateway.cos.wire_answers import CosResponse
from gateway.domain import errors
from gateway.domain.objects import OpenUpload, Person, StoredPart

CRC = "16749565679157681890"
ETAG = '"ee8de918d05640145b18f70f4c3aa602"'
HEADERS = {"etag": ETAG, "x-cos-hash-crc64ecma": CRC, "x-cos-request-id": "NjA=", "server": "tencent-cos"}

PARTS = b"""<?xml version="1.0" encoding="utf-8" ?>
<ListPartsResult>
  <Bucket>examplebucket-1250000000</Bucket><Encoding-type/><Key>exampleobject</Key>
  <UploadId>1585130821cbb7df1d11846c073ad648e8f33b087cec2381df437acdc833cf654b9ecc6361</UploadId>
  <Owner><ID>1250000000</ID><DisplayName>100000000001</DisplayName></Owner>
  <Initiator><ID>qcs::cam::uin/1:uin/2</ID><DisplayName>two</DisplayName></Initiator>
  <PartNumberMarker>0</PartNumberMarker><NextPartNumberMarker>2</NextPartNumberMarker>
  <StorageClass>STANDARD</StorageClass><MaxParts>2</MaxParts><IsTruncated>true</IsTruncated>
  <Part><PartNumber>1</PartNumber><LastModified>2020-03-25T10:07:10.000Z</LastModified>
    <ETag>&quot;39270a968a357d24207e9911162507eb&quot;</ETag><Size>1048576</Size></Part>
  <Part><PartNumber>2</PartNumber><LastModified>2020-03-25T10:07:12.000Z</LastModified>
    <ETag>&quot;d899fbd1e06109ea2e4550f5751c88d6&quot;</ETag><Size>1048570</Size></Part>
</ListPartsResult>"""

UPLOADS = b"""<?xml version="1.0" encoding="utf-8" ?>
<ListMultipartUploadsResult>
  <Bucket>examplebucket-1250000000</Bucket><Encoding-Type>url</Encoding-Type><Prefix/><Delimiter>/</Delimiter>
  <KeyMarker/><UploadIdMarker/><MaxUploads>1</MaxUploads><IsTruncated>true</IsTruncated>
  <NextKeyMarker>a%20%2B%25/f</NextKeyMarker><NextUploadIdMarker>id-1</NextUploadIdMarker>
  <Upload><Key>a%20%2B%25/f</Key><UploadID>id-1</UploadID><StorageClass>STANDARD</StorageClass>
    <Initiator><ID>i</ID><DisplayName>in</DisplayName></Initiator>
    <Owner><ID>o</ID><DisplayName>on</DisplayName></Owner><Initiated>2020-03-25T09:51:10.000Z</Initiated></Upload>
  <CommonPrefixes><Prefix>%E4%B8%AD/</Prefix></CommonPrefixes>
</ListMultipartUploadsResult>"""

COMPLETED = b"""<CompleteMultipartUploadResult xmlns="http://www.qcloud.com/document/product/436/7751">
<Location>http://h/k</Location><Bucket>b</Bucket><Key>k</Key><ETag>&quot;aa259a62513358f69e98e72e59856d88-3&quot;</ETag>
</CompleteMultipartUploadResult>"""


def test_put_tells_etag_crc64_and_version() -> None:
    stored = wire_answers.read_stored_object(CosResponse(200, {**HEADERS, "x-cos-version-id": "v1"}))

    assert (stored.etag, stored.crc64, stored.version_id, stored.size) == (ETAG, int(CRC), "v1", None)
    assert "server" not in stored.headers
    assert stored.headers["x-cos-request-id"] == "NjA="


@pytest.mark.parametrize(
    "etag",
    ["", "no-quotes", '""', '"a"b"', 'W/"a"', '"a b"', '"' + "a" * 129 + '"', '"aa259a62513358f69e98e72e59856d88-3"'],
)
@pytest.mark.promise(7)
def test_b69_bytes_without_a_proper_etag_are_not_acknowledged(etag: str) -> None:
    for read in (wire_answers.read_stored_object, lambda r: wire_answers.read_stored_part(r, 1, 5)):
        with pytest.raises(errors.StorageIntegrity):
            read(CosResponse(200, {**HEADERS, "etag": etag}))


@pytest.mark.parametrize("crc", [None, "", "-1", "0x5", "18446744073709551616", "1" * 30, "１"])
def test_a_crc64_that_is_missing_or_no_number_of_64_bits_is_a_bad_answer(crc: str | None) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != "x-cos-hash-crc64ecma"}
    if crc is not None:
        headers["x-cos-hash-crc64ecma"] = crc

    with pytest.raises(errors.StorageBadAnswer) as bad:
        wire_answers.read_stored_part(CosResponse(200, headers), 1, 5)

    assert bad.value.cos == errors.CosAnswer(200, "", "NjA=")


def test_a_part_is_the_number_and_size_that_were_sent() -> None:
    assert wire_answers.read_stored_part(CosResponse(200, HEADERS), 7, 5) == StoredPart(7, 5, ETAG, int(CRC))  # type: ignore[arg-type]


def test_head_tells_the_size_and_does_without_a_crc64() -> None:
    head = wire_answers.read_head(
        CosResponse(200, {"etag": ETAG, "content-length": "16", "x-cos-object-type": "appendable", "date": "now"})
    )

    assert (head.size, head.crc64) == (16, None)
    assert head.headers == {"etag": ETAG, "content-length": "16", "x-cos-object-type": "appendable"}
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_head(CosResponse(200, {"etag": ETAG}))


def test_an_append_needs_its_next_position_only() -> None:
    appended = wire_answers.read_appended(CosResponse(200, {"etag": "x", "x-cos-next-append-position": "11"}))

    assert (appended.next_position, appended.etag, appended.crc64) == (11, "x", None)
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_appended(CosResponse(200, {"etag": "x"}))


def test_initiate_tells_the_upload_id() -> None:
    xml = "<InitiateMultipartUploadResult><Bucket>b</Bucket><UploadId>{}</UploadId></InitiateMultipartUploadResult>"

    assert wire_answers.read_upload_id(CosResponse(200, {}, xml.format("15851abc").encode())) == "15851abc"
    for wrong in ("", "a b", "é"):
        with pytest.raises(errors.StorageBadAnswer):
            wire_answers.read_upload_id(CosResponse(200, {}, xml.format(wrong).encode()))


def test_a_page_of_parts() -> None:
    page = wire_answers.read_parts_page(CosResponse(200, {}, PARTS), after=0, limit=2)

    assert [(part.number, part.size, part.etag, part.crc64) for part in page.parts] == [
        (1, 1048576, '"39270a968a357d24207e9911162507eb"', None),
        (2, 1048570, '"d899fbd1e06109ea2e4550f5751c88d6"', None),
    ]
    assert (page.next_marker, page.storage_class) == (2, "STANDARD")
    assert page.initiator == Person("qcs::cam::uin/1:uin/2", "two")
    assert page.last_modified == ("2020-03-25T10:07:10.000Z", "2020-03-25T10:07:12.000Z")


def test_a_page_of_uploads_is_decoded() -> None:
    page = wire_answers.read_uploads_page(CosResponse(200, {}, UPLOADS), after=("", ""), limit=2)

    assert page.uploads == (
        OpenUpload(
            "a +%/f",
            "id-1",  # type: ignore[arg-type]
            "STANDARD",
            Person("i", "in"),
            Person("o", "on"),
            "2020-03-25T09:51:10.000Z",
        ),
    )
    assert page.common_prefixes == ("中/",)
    assert (page.next_key_marker, page.next_upload_id_marker) == ("a +%/f", "id-1")


def test_keys_are_taken_literally_where_cos_did_not_encode_them() -> None:
    plain = UPLOADS.replace(b"<Encoding-Type>url</Encoding-Type>", b"")

    page = wire_answers.read_uploads_page(CosResponse(200, {}, plain), after=("", ""), limit=2)

    assert page.uploads[0].key == "a%20%2B%25/f"


def test_the_last_page_has_no_marker() -> None:
    last_parts = PARTS.replace(b">true<", b">false<")
    last_uploads = UPLOADS.replace(b">true<", b">false<")

    assert wire_answers.read_parts_page(CosResponse(200, {}, last_parts), after=0, limit=2).next_marker is None
    page = wire_answers.read_uploads_page(CosResponse(200, {}, last_uploads), after=("", ""), limit=2)
    assert (page.next_key_marker, page.next_upload_id_marker) == (None, None)


def test_a_listing_that_would_never_end_is_a_bad_answer() -> None:
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_parts_page(CosResponse(200, {}, PARTS), after=2, limit=2)
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_uploads_page(CosResponse(200, {}, UPLOADS), after=("a +%/f", "id-1"), limit=2)
    without = UPLOADS.replace(b"<NextKeyMarker>a%20%2B%25/f</NextKeyMarker>", b"<NextKeyMarker/>")
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_uploads_page(CosResponse(200, {}, without), after=("", ""), limit=2)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"<Size>1048576</Size>", b""), (b"<PartNumber>1<", b"<PartNumber>one<"), (b"&quot;", b""), (b"</Part>", b"")],
)
def test_a_page_of_parts_that_lacks_something_is_a_bad_answer(old: bytes, new: bytes) -> None:
    assert old in PARTS
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_parts_page(CosResponse(200, {}, PARTS.replace(old, new)), after=0, limit=2)


@pytest.mark.parametrize(("old", "new"), [(b"<Key>a%20%2B%25/f</Key>", b""), (b"<Key>a%20", b"<Key>%ff")])
def test_a_page_of_uploads_with_a_broken_key_is_a_bad_answer(old: bytes, new: bytes) -> None:
    assert old in UPLOADS
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_uploads_page(CosResponse(200, {}, UPLOADS.replace(old, new)), after=("", ""), limit=2)


def test_complete_is_believed_once_the_body_holds_an_etag() -> None:
    padded = b"<?xml version='1.0'?>" + b" " * 5000 + COMPLETED

    for body in (COMPLETED, b" \n" * 5000 + COMPLETED, padded):
        done = wire_answers.read_completed(CosResponse(200, {"x-cos-hash-crc64ecma": CRC}, body))

        assert (done.etag, done.crc64) == ('"aa259a62513358f69e98e72e59856d88-3"', int(CRC))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InternalError", errors.StorageUnavailable),
        ("NoSuchUpload", errors.UploadLost),
        ("New", errors.StorageUnavailable),
    ],
)
def test_an_error_inside_completes_200_is_that_error(code: str, kind: type[errors.GatewayError]) -> None:
    body = f"   <Error><Code>{code}</Code><RequestId>x</RequestId></Error>".encode()

    with pytest.raises(kind) as raised:
        wire_answers.read_completed(CosResponse(200, HEADERS, body))

    assert raised.value.cos == errors.CosAnswer(200, code, "NjA=")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        COMPLETED[:-20],
        b"<html/>",
        COMPLETED.replace(b"ETag", b"Etag"),
        COMPLETED.replace(b"88-3&quot;", b""),
    ],
)
def test_a_complete_that_says_neither_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(errors.StorageBadAnswer):
        wire_answers.read_completed(CosResponse(200, HEADERS, body))


@pytest.mark.parametrize(("status", "refused"), [(200, False), (204, False), (302, True), (404, True), (503, True)])
def test_everything_but_2xx_is_a_refusal(status: int, refused: bool) -> None:
    assert (CosResponse(status, {}).refusal() is not None) is refused

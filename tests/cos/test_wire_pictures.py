"""COS's UploadResult, read from the answers to PUT and Complete."""

import pytest

from gateway.cos.wire_pictures import read_upload_result

RESULTS = (
    "<ProcessResults><Object><Key>a/b.png</Key><Location>h/a/b.png</Location><Format>png</Format><Width>12</Width>"
    "<Height>x</Height><Size>345</Size><Quality>90</Quality><ETag>&quot;e&quot;</ETag><New>1</New></Object></ProcessResults>"
)
INFO = "<ImageInfo><Format>JPEG</Format><Width>640</Width><Height>480</Height><Ave>0xa1</Ave></ImageInfo>"
READ = {
    "original": {"key": "a/b.jpg", "etag": '"o"', "format": "JPEG", "width": 640, "height": 480, "ave": "0xa1"},
    "results": [
        {
            "key": "a/b.png",
            "location": "h/a/b.png",
            "format": "png",
            "width": 12,
            "size": 345,
            "quality": 90,
            "etag": '"e"',
        }
    ],
}


def test_s1_both_forms_are_read_alike() -> None:
    original = f"<Key>a/b.jpg</Key><ETag>&quot;o&quot;</ETag>{INFO}"
    of_put = f"<UploadResult><OriginalInfo>{original}</OriginalInfo>{RESULTS}</UploadResult>"
    of_complete = f"<CompleteMultipartUploadResult>{original}{RESULTS}</CompleteMultipartUploadResult>"

    assert read_upload_result(of_put.encode()) == READ
    assert read_upload_result(of_complete.encode()) == READ


@pytest.mark.parametrize("body", [b"", b" ", b"ok", b"<a/>", b"<UploadResult/>", b"<!DOCTYPE a><a/>", b"\xff"])
def test_s1_an_answer_that_tells_of_no_results_is_none(body: bytes) -> None:
    assert read_upload_result(body) is None


def test_s1_no_more_is_kept_than_five_results_and_a_kilobyte_each() -> None:
    rows = f"<Object><Key>{'k' * 2000}</Key><Size>{'9' * 40}</Size><Format>png</Format></Object>" * 7

    read = read_upload_result(f"<UploadResult><ProcessResults>{rows}</ProcessResults></UploadResult>".encode())

    assert read == {"original": {}, "results": [{"format": "png"}] * 5}

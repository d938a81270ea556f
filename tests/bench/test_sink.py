"""The sink must count and CRC every byte, or the bench's proof that the bytes arrived is none."""

import http.client
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from gateway.domain.checksums import crc64
from tests.bench.processes import free_port, running

_BODY = Random(5).randbytes(700_001)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    port = free_port()
    with running([sys.executable, "-m", "tests.bench.sink", "--port", str(port)], tmp_path, port=port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        yield connection
        connection.close()


def _ask(connection: http.client.HTTPConnection, method: str, target: str, body: bytes = b"") -> tuple[int, str, str]:
    """Status, CRC header and body of the answer."""
    connection.request(method, target, body)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("x-cos-hash-crc64ecma", ""), answer.read().decode()


def _uploaded(connection: http.client.HTTPConnection, key: str, cuts: list[int]) -> str:
    """Open an upload under *key*, send the body in parts cut at *cuts*, last part first, and return its id."""
    _, _, opened = _ask(connection, "POST", f"{key}?uploads")
    upload_id = re.findall("<UploadId>(.*)</UploadId>", opened)[0]
    for number, (start, end) in reversed(list(enumerate(pairwise(cuts), 1))):
        status, crc, _ = _ask(connection, "PUT", f"{key}?partNumber={number}&uploadId={upload_id}", _BODY[start:end])
        assert (status, crc) == (200, str(crc64(_BODY[start:end])))
    return str(upload_id)


def test_a_completed_upload_answers_the_crc_of_all_its_parts_end_to_end(
    connection: http.client.HTTPConnection,
) -> None:
    upload_id = _uploaded(connection, "/a/key", [0, 1, 65_537, 400_000, len(_BODY)])
    asked = "".join(f"<Part><PartNumber>{number}</PartNumber></Part>" for number in (1, 2, 3, 4))

    status, crc, _ = _ask(connection, "POST", f"/a/key?uploadId={upload_id}", asked.encode())

    assert (status, crc) == (200, str(crc64(_BODY)))
    assert _ask(connection, "HEAD", "/a/key")[:2] == (200, str(crc64(_BODY)))


def test_an_upload_with_a_part_missing_is_not_completed(connection: http.client.HTTPConnection) -> None:
    upload_id = _uploaded(connection, "/key", [0, 5])

    status, _, answer = _ask(connection, "POST", f"/key?uploadId={upload_id}", b"<PartNumber>2</PartNumber>")

    assert (status, "InvalidPart" in answer) == (400, True)


def test_parts_are_listed_in_pages(connection: http.client.HTTPConnection) -> None:
    upload_id = _uploaded(connection, "/key", [0, 5, 11, 400])

    _, _, first = _ask(connection, "GET", f"/key?uploadId={upload_id}&max-parts=2")
    _, _, second = _ask(connection, "GET", f"/key?uploadId={upload_id}&max-parts=2&part-number-marker=2")

    assert re.findall("<Size>(.*?)</Size>", first) == ["5", "6"]
    assert "<IsTruncated>true</IsTruncated>" in first
    assert re.findall("<Size>(.*?)</Size>", second) == ["389"]
    assert "<IsTruncated>false</IsTruncated>" in second


def test_a_chunked_body_counts_without_its_framing(connection: http.client.HTTPConnection) -> None:
    pieces = [_BODY[start:end] for start, end in pairwise([0, 1, 90_000, 600_000, len(_BODY)])]

    connection.request("PUT", "/key", iter(pieces), encode_chunked=True)
    answer = connection.getresponse()

    assert answer.headers["x-cos-hash-crc64ecma"] == str(crc64(_BODY))
    answer.read()
    assert f'"body_bytes": {len(_BODY)}' in _ask(connection, "GET", "/-/stats")[2]

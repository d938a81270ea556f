import h11
import pytest

from gateway.domain.errors import BadFraming
from gateway.web.raw_head import body_length, is_utf8

HOST = b"Host: a\r\n"


def read(raw: bytes) -> tuple[h11.Request, list[tuple[bytes, bytes]]]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    return request, list(request.headers)


def length_of(*lines: bytes, first: bytes = b"POST / HTTP/1.1") -> int | None:
    raw = first + b"\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return body_length(raw, *read(raw))


def test_a_plain_head_tells_how_its_body_ends() -> None:
    assert length_of() == 0
    assert length_of(b"Content-Length: 5") == length_of(b"CONTENT-length:\t 5 ") == 5
    assert length_of(b"Content-Length: 0005") == 5
    assert length_of(b"Content-Length: " + b"9" * 16) == 10**16 - 1
    assert length_of(b"Transfer-Encoding: Chunked") is None


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: " + b"9" * 17],
        [b"Content-Length: 18446744073709551616"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: 5", b"content-length: 5"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"X: 1", b" Content-Length: 5"],
        [b"X: 1", b"\tfolded"],
        [b"X: 1\nY: 2"],
    ],
)
def test_a_head_of_two_meanings_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(BadFraming):
        length_of(*lines)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.9", b"GET / HTTP/1.2"])
def test_a_version_that_is_none_is_refused(first: bytes) -> None:
    with pytest.raises(BadFraming):
        length_of(first=first)


def test_chunks_are_not_of_http_1_0() -> None:
    assert length_of(b"Content-Length: 5", first=b"POST / HTTP/1.0") == 5
    with pytest.raises(BadFraming):
        length_of(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0")


def test_bare_line_feeds_are_refused() -> None:
    raw = b"GET / HTTP/1.1\nHost: a\n\n"
    with pytest.raises(BadFraming):
        body_length(raw, *read(raw))


def test_text_is_utf_8() -> None:
    assert is_utf8("画".encode())
    assert not is_utf8("画".encode()[:2])
    assert not is_utf8(b"\xed\xa0\x80")

import random

import pytest

from gateway.domain.errors import BadFraming, BodyTooLarge, GatewayError, HeaderTooLarge
from gateway.web.chunked_body import MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES, ChunkedBody


def read(raw: bytes, cuts: list[int] | None = None) -> tuple[bytes, ChunkedBody]:
    """The body in *raw*, given cut at *cuts*."""
    body, reader = b"", ChunkedBody()
    for begin, end in zip([0, *(cuts or [])], [*(cuts or []), len(raw)], strict=True):
        reader.receive(raw[begin:end])
        while (piece := reader.next_piece()) is not None:
            assert piece
            body += piece
    return body, reader


WHOLE = (
    b"5\r\nhello\r\n"
    b'1;a=b;c="d e"\r\n \r\n'
    b"00000A \t;ext\r\n0123456789\r\n"
    b"0;last\r\nX-Trailer: 1\r\nAnother:\r\n\r\n"
    b"GET /next"
)


def test_a_body_is_read_and_what_follows_it_is_left() -> None:
    body, reader = read(WHOLE)

    assert body == b"hello 0123456789"
    assert reader.ended
    assert reader.rest == b"GET /next"


def test_a_body_cut_anywhere_is_the_same_body() -> None:
    end = WHOLE.index(b"GET")
    for cut in range(1, end):
        body, reader = read(WHOLE, [cut])
        assert (body, reader.ended, reader.rest) == (b"hello 0123456789", True, b"GET /next"), cut
    assert read(WHOLE, list(range(1, end)))[0] == b"hello 0123456789"


@pytest.mark.parametrize("seed", range(20))
def test_random_bodies_cut_at_random_come_out_whole(seed: int) -> None:
    rng = random.Random(seed)
    chunks = [rng.randbytes(rng.randint(1, 3000)) for _ in range(rng.randint(0, 20))]
    raw = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = sorted(rng.sample(range(1, len(raw)), min(len(raw) - 1, rng.randint(0, 40))))

    body, reader = read(raw, cuts)

    assert body == b"".join(chunks)
    assert reader.ended


def test_a_piece_within_one_large_chunk_is_the_very_bytes_that_arrived() -> None:
    reader = ChunkedBody()
    reader.receive(b"100000\r\n")
    assert reader.next_piece() is None
    arrived = bytes(65536)
    reader.receive(arrived)

    assert reader.next_piece() is arrived


BROKEN: dict[str, tuple[bytes, type[GatewayError]]] = {
    "no number": (b"zz\r\nhello\r\n", BadFraming),
    "empty line": (b"\r\n", BadFraming),
    "negative": (b"-1\r\n", BadFraming),
    "plus": (b"+5\r\nhello\r\n", BadFraming),
    "prefix": (b"0x5\r\nhello\r\n", BadFraming),
    "underscore": (b"1_0\r\n", BadFraming),
    "space before": (b" 5\r\nhello\r\n", BadFraming),
    "other digits": ("\u0665\r\n".encode(), BadFraming),
    "line feed alone": (b"5\nhello\r\n", BadFraming),
    "line feed in an extension": (b"5;a=\nb\r\nhello\r\n", BadFraming),
    "carriage return in an extension": (b"5;a=\rb\r\nhello\r\n", BadFraming),
    "NUL in an extension": (b"5;a=\0\r\nhello\r\n", BadFraming),
    "no semicolon": (b"5 a=b\r\nhello\r\n", BadFraming),
    "bytes after the data": (b"5\r\nhelloXX\r\n", BadFraming),
    "line feed after the data": (b"5\r\nhello\n", BadFraming),
    "long extension": (b"5;" + b"a" * (MAX_EXTENSION_BYTES + 1) + b"\r\n", BadFraming),
    "extension without an end": (b"5;" + b"a" * 20_000, BadFraming),
    "17 digits": (b"F" * 17 + b"\r\n", BodyTooLarge),
    "14 digits": (b"1" + b"0" * 13 + b"\r\n", BodyTooLarge),
    "folded trailer": (b"0\r\nA: 1\r\n b\r\n\r\n", BadFraming),
    "trailer that is none": (b"0\r\nhello\r\n\r\n", BadFraming),
    "trailer without an end": (b"0\r\n" + b"A: 1\r\n" * MAX_TRAILER_BYTES, HeaderTooLarge),
}


@pytest.mark.parametrize("row", list(BROKEN))
def test_what_is_no_chunked_body_is_refused_however_it_arrives(row: str) -> None:
    raw, expected = BROKEN[row]

    with pytest.raises(expected):
        read(raw)
    with pytest.raises(expected):
        read(raw, list(range(1, min(len(raw), 5000))))


def test_a_line_that_does_not_end_is_not_kept() -> None:
    reader = ChunkedBody()
    for _ in range(2):
        reader.receive(b"0" * 500)
        assert reader.next_piece() is None
    reader.receive(b"0" * 500)

    with pytest.raises(BadFraming):
        reader.next_piece()


def test_s6_small_chunks_that_are_here_come_as_few_pieces() -> None:
    reader = ChunkedBody()
    reader.receive(b"2\r\nab\r\n" * 5000)
    pieces = []
    while (piece := reader.next_piece()) is not None:
        pieces.append(piece)

    assert b"".join(pieces) == b"ab" * 5000
    assert len(pieces) <= 3

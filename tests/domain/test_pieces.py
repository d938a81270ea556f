"""Tiny pieces do not cost more than they hold, large ones are never copied, and every byte stays where it was."""

import random
import tracemalloc

from gateway.domain.pieces import Pieces


def test_a_large_piece_is_kept_as_it_came() -> None:
    pieces, large = Pieces(), bytes(100_000)
    for _ in range(200):
        pieces.add(large)

    assert all(piece is large for piece in pieces)
    assert pieces.at(100_000) is large


def test_f1_tiny_pieces_take_little_more_memory_than_their_bytes() -> None:
    pieces = Pieces()
    tracemalloc.start()
    for number in range(100_000):
        pieces.add(bytes((number % 251, number % 241)))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert pieces.size == 200_000
    assert taken < 2 * pieces.size, "one by one they took 40 bytes each"


def test_what_is_read_by_offset_is_what_was_added_whatever_was_joined_meanwhile() -> None:
    dice = random.Random(11)
    pieces, whole, read = Pieces(), bytearray(), bytearray()
    for _ in range(3000):
        piece = dice.randbytes(dice.choice((1, 2, 7, 3000, 70_000)) if dice.random() < 0.1 else dice.randint(1, 9))
        pieces.add(piece)
        whole += piece
        if dice.random() < 0.5 and len(read) < pieces.size:
            read += pieces.at(len(read))
    while len(read) < pieces.size:
        read += pieces.at(len(read))

    assert b"".join(pieces) == whole == read


def test_cleared_it_holds_nothing() -> None:
    pieces = Pieces()
    pieces.add(b"some")
    pieces.clear()

    assert (len(pieces), pieces.size, list(pieces)) == (0, 0, [])

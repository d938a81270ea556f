import pytest

from gateway.commands.wording import bytes_in_words, seconds_in_words, visible


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (50_000 << 30, "48.8 TiB")],
)
def test_bytes_are_told_in_the_largest_unit_of_which_there_is_one(count: int, words: str) -> None:
    assert bytes_in_words(count) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.9, "0:00"), (75, "1:15"), (3700, "1 h 01")])
def test_times_are_told_as_people_read_them(seconds: float, words: str) -> None:
    assert seconds_in_words(seconds) == words


@pytest.mark.parametrize("sign", ["\u202e", "\u2066", "\u200f", "\u061c", "\x1b", "\r", "\x9b"])
def test_s22_a_name_shows_what_would_change_how_it_reads(sign: str) -> None:
    assert visible(f"evil{sign}gpj.exe") == "evil�gpj.exe"
    assert visible("中文 é.txt") == "中文 é.txt"

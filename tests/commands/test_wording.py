import pytest

from gateway.commands.wording import bytes_in_words, seconds_in_words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (50_000 << 30, "48.8 TiB")],
)
def test_bytes_are_told_in_the_largest_unit_of_which_there_is_one(count: int, words: str) -> None:
    assert bytes_in_words(count) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.9, "0:00"), (75, "1:15"), (3700, "1 h 01")])
def test_times_are_told_as_people_read_them(seconds: float, words: str) -> None:
    assert seconds_in_words(seconds) == words

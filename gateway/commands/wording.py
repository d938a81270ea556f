"""Sizes, times and names as people read them."""

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def bytes_in_words(count: float) -> str:
    """*count* bytes in the largest unit of which there is one: 1536 is 1.5 KiB."""
    power = 0
    while count >= 1024 and power < len(_UNITS) - 1:
        count /= 1024
        power += 1
    return f"{count:.0f} B" if power == 0 else f"{count:.1f} {_UNITS[power]}"


def seconds_in_words(seconds: float) -> str:
    """*seconds* as minutes and seconds, or hours and minutes: 75 is 1:15, 3700 is 1 h 01."""
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes}:{left:02}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02}"


def visible(name: object) -> str:
    """*name* with a � for each character that would move the cursor, turn the direction of writing or not be seen."""
    return "".join(letter if letter.isprintable() else "�" for letter in str(name))

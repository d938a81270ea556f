"""How far an upload is: a bar that moves on a terminal, a plain line now and then anywhere else."""

import time
from collections.abc import Callable
from typing import Final, TextIO

from gateway.commands.wording import bytes_in_words, seconds_in_words

_BAR_EVERY_SECONDS: Final = 0.1
_LINE_EVERY_SECONDS: Final = 10.0
_BAR_WIDTH: Final = 24
_ERASE: Final = "\r\x1b[K"


class ProgressLine:
    """Shows how much of the file *name* has gone; the speed is that since it began.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, stream: TextIO, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._name = name
        self._clock = clock
        self._moves = stream.isatty()
        self._doing = ""
        self._began_at = self._shown_at = clock()
        self._began_with = 0

    def show(self, doing: str, loaded: int, size: int) -> None:
        """Say what it is doing, and with *loaded* of *size* bytes done so, unless that was said a moment ago."""
        now = self._clock()
        if doing != self._doing:
            self._doing, self._began_with, self._began_at = doing, loaded, now
        if now - self._shown_at < (_BAR_EVERY_SECONDS if self._moves else _LINE_EVERY_SECONDS):
            return
        self._shown_at = now
        self._write(self._bar(loaded, size, now) if self._moves else f"{self._text(loaded, size, now)}\n")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._write(f"{_ERASE if self._moves else ''}{self._name}: {text}\n")

    def close(self) -> None:
        """Leave nothing half written."""
        if self._moves:
            self._write(_ERASE)

    def _bar(self, loaded: int, size: int, now: float) -> str:
        filled = _BAR_WIDTH * loaded // max(1, size)
        return f"{_ERASE}[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {self._text(loaded, size, now)}"

    def _text(self, loaded: int, size: int, now: float) -> str:
        speed = (loaded - self._began_with) / max(0.001, now - self._began_at)
        left = f", {seconds_in_words((size - loaded) / speed)} left" if speed > 0 else ""
        percent = 100 * loaded // max(1, size)
        return f"{self._name}: {self._doing}, {percent} % of {bytes_in_words(size)}, {bytes_in_words(speed)}/s{left}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

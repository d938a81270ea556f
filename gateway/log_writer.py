"""Lines to a stream that may be slow, or block for ever: a thread writes them, and what it cannot keep up with is
dropped and counted."""

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TextIO

MOST_WAITING_CHARACTERS: Final = 1 << 18
CLOSE_SECONDS: Final = 1.0
_LINES_AT_ONCE: Final = 500
_GATHER_SECONDS: Final = 0.005
"""After lines were written, others gather so long: waking the thread for each costs the event loop 3 % of its time."""
_MANY_LINES: Final = 8
_MANY_GATHER_SECONDS: Final = 0.05
"""After so many. Whenever the thread is awake it contends for the interpreter with the event loop, which is interrupted
some ten times until it gets it: 8 % of a small upload at 5 ms, 1 % at 50."""


class LogWriter(logging.Handler):
    """A handler that never waits for *stream*.

    ``observe_dropped`` is called for each line that is dropped, in whichever thread logged it.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._taken = 0  # characters, only by those who log, one at a time
        self._written = 0  # characters, only by the thread
        self._dropped = 0
        self._hurry = threading.Event()
        self.observe_dropped: Callable[[], None] = lambda: None
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have the line written soon, unless too much waits already."""
        waiting = self._taken - self._written
        if waiting > MOST_WAITING_CHARACTERS // 2:
            self._hurry.set()
        if waiting > MOST_WAITING_CHARACTERS:
            self._dropped += 1
            self.observe_dropped()
            return
        line = self.format(record)
        self._taken += len(line)
        self._lines.put(line)

    def flush(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait until all that was logged so far is written, or *seconds* have passed."""
        written = threading.Event()
        self._lines.put(written)
        self._hurry.set()
        written.wait(seconds)

    def _run(self) -> None:
        told = 0
        while True:
            items = self._next()
            was_written = self._write(items)
            dropped = self._dropped
            if dropped > told and was_written:  # else telling would fail too, and have to be told
                logging.getLogger(__name__).warning("log lines were dropped", extra={"lines": dropped - told})
                told = dropped
            self._hurry.wait(_GATHER_SECONDS if len(items) < _MANY_LINES else _MANY_GATHER_SECONDS)
            self._hurry.clear()

    def _next(self) -> list[str | threading.Event]:
        """What waits, once something does."""
        items = [self._lines.get()]
        try:
            while len(items) < _LINES_AT_ONCE:
                items.append(self._lines.get_nowait())
        except Empty:
            pass
        return items

    def _write(self, items: list[str | threading.Event]) -> bool:
        """Write the lines among *items*; whether there were any, and the stream took them."""
        lines = [item for item in items if isinstance(item, str)]
        try:
            if lines:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            return bool(lines)
        except (OSError, ValueError):  # the reader is gone, or the stream was closed
            self._dropped += len(lines)
            return False
        finally:
            self._written += sum(map(len, lines))
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()

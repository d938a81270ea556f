import io
import logging
import threading
from collections.abc import Iterator

import pytest

from gateway import log_writer
from gateway.log_writer import MOST_WAITING_CHARACTERS, LogWriter


class Pipe(io.StringIO):
    """A stream that nobody reads until ``reader`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.full = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.full.set()
        self.reader.wait(10)
        return super().write(text)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("of this test")
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def test_lines_come_in_order_and_whole(logger: logging.Logger) -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    logger.addHandler(writer)
    for number in range(2000):
        logger.warning("line %d", number)
    writer.flush(5)

    assert stream.getvalue() == "".join(f"line {number}\n" for number in range(2000))


@pytest.mark.timeout(10)
def test_whoever_logs_never_waits_and_what_does_not_fit_is_counted(logger: logging.Logger) -> None:
    pipe = Pipe()
    writer = LogWriter(pipe)
    dropped: list[None] = []
    writer.observe_dropped = lambda: dropped.append(None)
    logger.addHandler(writer)
    line = "x" * 1000
    for _ in range(2 * MOST_WAITING_CHARACTERS // len(line)):
        logger.warning(line)

    assert pipe.full.wait(5)
    assert len(dropped) >= 200
    pipe.reader.set()
    writer.flush(5)
    logger.warning("after")
    writer.flush(5)
    written = pipe.getvalue().splitlines()
    assert len(written) + len(dropped) == 2 * MOST_WAITING_CHARACTERS // len(line) + 1
    assert written[-1] == "after"


class Counting(io.StringIO):
    """A stream whose length can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = threading.Condition()

    def write(self, text: str) -> int:
        with self._grown:
            size = super().write(text)
            self._grown.notify_all()
        return size

    def reaches(self, characters: int) -> bool:
        with self._grown:
            return self._grown.wait_for(lambda: self.tell() >= characters, 5)


@pytest.mark.timeout(20)
def test_what_gathers_is_written_before_it_is_too_much(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_GATHER_SECONDS", "_MANY_GATHER_SECONDS"):
        monkeypatch.setattr(log_writer, name, 60)
    stream = Counting()
    writer = LogWriter(stream)
    logger.addHandler(writer)
    logger.warning("first")
    writer.flush(5)
    logger.warning("second")
    assert stream.reaches(len("first\nsecond\n"))  # from here on lines gather

    line = "x" * 999
    for _ in range(MOST_WAITING_CHARACTERS // 2 // len(line) + 3):
        logger.warning(line)
    assert stream.reaches(MOST_WAITING_CHARACTERS // 2)


class BrokenPipe(io.StringIO):
    """A stream whose reader has gone."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        raise BrokenPipeError(text)


def test_nobody_is_told_again_and_again_that_nobody_can_be_told() -> None:
    stream, logger = BrokenPipe(), logging.getLogger("gateway.log_writer")
    writer = LogWriter(stream)
    logger.addHandler(writer)
    logger.warning("to nobody")
    for _ in range(3):
        writer.flush(5)
    logger.removeHandler(writer)

    assert stream.writes == 1


def test_a_stream_that_is_closed_harms_nobody(logger: logging.Logger) -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    logger.addHandler(writer)
    stream.close()

    logger.warning("to nobody")
    writer.flush(5)

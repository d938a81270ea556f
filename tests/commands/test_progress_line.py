import io

from gateway.commands.progress_line import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_terminal_has_one_bar_that_moves_and_goes() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(stream, "a.bin", clock)

    line.show("sending", 0, 4 << 20)
    clock.now += 1
    line.show("sending", 1 << 20, 4 << 20)
    line.close()

    bar = "[######..................] a.bin: sending, 25 % of 4.0 MiB, 1.0 MiB/s, 0:03 left"
    assert stream.getvalue() == f"\r\x1b[K{bar}\r\x1b[K"


def test_elsewhere_plain_lines_come_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(stream, "a.bin", clock)

    for second in range(25):
        clock.now = 100.0 + second
        line.show("sending", second << 20, 100 << 20)
    line.close()

    lines = stream.getvalue().splitlines()
    assert [text.partition(" %")[0] for text in lines] == ["a.bin: sending, 10", "a.bin: sending, 20"]
    assert "\r" not in stream.getvalue()


def test_the_speed_is_that_of_what_is_done_now() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(stream, "a.bin", clock)
    line.show("reading", 0, 100)
    clock.now += 50
    line.show("reading", 100, 100)
    line.show("sending", 40, 100)  # an earlier run stored them
    clock.now += 1

    line.show("sending", 60, 100)

    assert stream.getvalue().endswith("a.bin: sending, 60 % of 100 B, 20 B/s, 0:02 left")


def test_an_empty_file_is_no_division_by_zero() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(stream, "empty", clock)
    clock.now += 1

    line.show("reading", 0, 0)

    assert "0 % of 0 B" in stream.getvalue()

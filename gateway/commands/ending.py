"""How commands end: exit codes, and a failure in lines for a person."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Final

OK: Final = 0
FAILED: Final = 1
BAD_SETTINGS: Final = 2
INTERRUPTED: Final = 130
"""128 and SIGINT's number, as shells count."""


class CommandFailed(Exception):
    """The command cannot go on. Each sentence names what is wrong, and what to do where that is known."""

    def __init__(self, *sentences: str, code: int = FAILED) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences
        self.code = code


class OutputFailed(Exception):
    """Standard output takes no more: what was done stays done."""


def spell_out_what_cannot_be_shown() -> None:
    """Have standard output and error write what their encoding has no letter for as ``\\u8bd5``, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print *line*. Raises OutputFailed where it cannot be written."""
    try:
        print(line, flush=True)
    except OSError as error:
        raise OutputFailed(error.strerror or "it is gone") from None


def complain(sentences: Sequence[str]) -> None:
    """Say each of *sentences* on a line of its own on stderr."""
    for sentence in sentences:
        print(sentence, file=sys.stderr, flush=True)

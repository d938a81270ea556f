"""How commands end: exit codes, and a failure in lines for a person."""

import sys
from collections.abc import Sequence
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


def complain(sentences: Sequence[str]) -> None:
    """Say each of *sentences* on a line of its own on stderr."""
    for sentence in sentences:
        print(sentence, file=sys.stderr, flush=True)

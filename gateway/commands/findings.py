"""What a look at Redis, COS, the clock or a disk found, in one line each."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LOOK_SECONDS: Final = 10.0
"""How long one look may take."""


class Level(StrEnum):
    """How bad a finding is; the values are what is printed."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "PROBLEM"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for a person. A problem names the setting and the mend.

    Args:
        about: what was looked at, such as ``redis``.
        passing: it may be over by itself soon, since nobody answered.
    """

    about: str
    text: str
    level: Level = Level.OK
    passing: bool = False

    def __str__(self) -> str:
        return f"{self.level:8}{self.about}: {self.text}"

    @property
    def is_problem(self) -> bool:
        """Whether the gateway cannot work like this."""
        return self.level is Level.PROBLEM


def problem(about: str, text: str, *, passing: bool = False) -> Finding:
    """A finding with which the gateway cannot work."""
    return Finding(about, text, Level.PROBLEM, passing)


def warning(about: str, text: str) -> Finding:
    """A finding with which it works, but not as it should."""
    return Finding(about, text, Level.WARNING)

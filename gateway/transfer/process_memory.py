"""The memory of one process for all that it keeps of callers but the bytes of their files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.transfer.memory_budget import MemoryBudget

USUAL_BYTES: Final = 32 << 20
WAIT_SECONDS: Final = 2.0
"""How long a request waits for memory before it is refused."""
_MOST_WAITING: Final = 256
_STRANGERS_SHARE: Final = 4
"""Strangers get one quarter."""


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """``callers``: what is kept for known subjects, who are its owners. ``strangers``: what is kept before anybody is
    known, such as heads and the fields of unproved forms; its owners are addresses.
    """

    callers: MemoryBudget
    strangers: MemoryBudget

    @classmethod
    def of(cls, limit_bytes: int, on_short: Callable[[str], None] = lambda of: None) -> "ProcessMemory":
        """Both budgets, *limit_bytes* together. *on_short* is told which one had too little."""
        strangers = limit_bytes // _STRANGERS_SHARE
        return cls(
            MemoryBudget(limit_bytes - strangers, lambda: on_short("callers"), most_waiting=_MOST_WAITING),
            MemoryBudget(strangers, lambda: on_short("strangers"), most_waiting=_MOST_WAITING),
        )

    def budgets(self) -> Iterator[tuple[str, MemoryBudget]]:
        """Each budget with the name that metrics have for it."""
        yield "callers", self.callers
        yield "strangers", self.strangers

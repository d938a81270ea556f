"""How long a connection may take over what it does, and whether a body keeps pace: pure, asked now and then."""

from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import BodyTimeout, BodyTooSlow, GatewayError

LOOKS_PER_IDLE: Final = 8
WINDOWS_PER_IDLE: Final = 2
"""The average is taken over twice the time that a body may be silent."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds, and bytes a second.

    ``head``: from a head's first byte, or the connection's begin, to the head's end. ``body_idle``: without a byte of
    a body. ``body_rate``: what a body must bring on average, 0 for none. ``answer``: in which a client that has a full
    buffer before it must take some of it, at ``body_rate`` at least.
    """

    head: float = 10.0
    body_idle: float = 30.0
    body_rate: int = 4096
    answer: float = 30.0

    @property
    def look(self) -> float:
        """How often to look at a body."""
        return self.body_idle / LOOKS_PER_IDLE

    @property
    def answer_bytes(self) -> int:
        """What a client takes of an answer within ``answer``, or more."""
        return max(1, int(self.body_rate * self.answer))


class BodyPace:
    """One body's pace. Nothing is done for a chunk: ``look`` compares what had come the last time. Times only grow."""

    __slots__ = ("_deadlines", "_looked_at", "_moved_at", "_seconds", "_seen", "_window_from")

    def __init__(self, deadlines: Deadlines, now: float, received: int) -> None:
        self._deadlines = deadlines
        self._looked_at = now
        self._moved_at = now
        self._seen = received
        self._window_from = received
        self._seconds = 0.0

    def look(self, now: float, received: int, *, held_back: bool) -> GatewayError | None:
        """What the body deserves, of which *received* bytes came; None while it keeps pace.

        *held_back*: since the last look we did not read all that came; then neither silence nor pace is the client's.
        The same holds when we have not looked for long: this process was stopped, not the client.
        """
        allowed, elapsed = self._deadlines, now - self._looked_at
        self._looked_at = now
        moved, self._seen = received != self._seen, received
        if moved or held_back or elapsed > 2 * allowed.look + 1:
            self._moved_at = now
        if now - self._moved_at >= allowed.body_idle:
            return BodyTimeout(f"No byte of the body came for {allowed.body_idle:g} seconds.")
        if not held_back and elapsed <= 2 * allowed.look + 1:
            self._seconds += elapsed
        if self._seconds < WINDOWS_PER_IDLE * allowed.body_idle:
            return None
        if received - self._window_from < allowed.body_rate * self._seconds:
            return BodyTooSlow(f"The body came at less than {allowed.body_rate} bytes a second.")
        self._window_from, self._seconds = received, 0.0
        return None

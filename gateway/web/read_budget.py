"""How many bytes of bodies one turn of the event loop reads, and how many may lie between sockets and application.

A few connections read large pieces, which is cheapest. When hundreds of sockets are ready at once the pieces shrink and
the sockets take turns, so that neither memory nor the length of a turn grows with the number of clients.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

TURN_BYTES: Final = 4 << 20
"""About 2 ms of reading; what the application does with them takes about as long again."""
SHARED_BYTES: Final = 32 << 20
LARGEST_PIECE_BYTES: Final = 2 << 20
SMALLEST_PIECE_BYTES: Final = 16 * 1024
"""What a body may read whatever the others hold, so that a store that is slow for some never stops the rest."""
_SHARE: Final = 8
"""A piece takes at most this fraction of what is free."""


class Reader(Protocol):
    """A socket that waits for its turn."""

    def read_in_turn(self) -> None:
        """The turn has come: read what ``ReadBudget.piece_bytes`` allows, or nothing."""


class ReadBudget:
    """The bytes that the bodies of one process read ahead of the application.

    Args:
        turn_bytes: read from all sockets in one turn of the loop, and at most a piece more.
        shared_bytes: what pieces larger than the smallest may hold together.
    """

    def __init__(self, turn_bytes: int = TURN_BYTES, shared_bytes: int = SHARED_BYTES) -> None:
        self._turn_bytes = turn_bytes
        self._shared_bytes = shared_bytes
        self._left_in_turn = turn_bytes
        self._turn_is_open = False
        self._waiting: deque[Reader] = deque()
        self.held_bytes = 0

    def hold(self, by: int) -> None:
        """*by* more bytes lie between sockets and application, or, where negative, fewer."""
        self.held_bytes += by

    @property
    def piece_bytes(self) -> int:
        """How much one read may take now."""
        share = (self._shared_bytes - self.held_bytes) // _SHARE
        return max(SMALLEST_PIECE_BYTES, min(share, LARGEST_PIECE_BYTES))

    def may_read(self, reader: Reader) -> bool:
        """Whether *reader* may read in this turn; if not, ``read_in_turn`` is called once it may."""
        if self._left_in_turn > 0 and not self._waiting:
            return True
        self._waiting.append(reader)
        return False

    def spend(self, size: int) -> None:
        """*size* bytes were read in this turn."""
        self._left_in_turn -= size
        if not self._turn_is_open:
            self._turn_is_open = True
            # The loop calls it behind what this turn still has to do, and looks at the sockets in between.
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_is_open = False
        self._left_in_turn = self._turn_bytes
        while self._waiting and self._left_in_turn > 0:
            self._waiting.popleft().read_in_turn()

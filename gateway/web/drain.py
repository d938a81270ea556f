"""How far this process is on its way out; whoever answers requests looks here."""

import time

from gateway.domain.errors import Draining


class Drain:
    """Flags that the server raises, each once and in this order, and never lowers.

    ``is_unready``: load balancers are to stop sending requests.
    ``closes``: every answer is its connection's last.
    ``refuses``: new requests are refused, those under way go on.
    ``ends``: those under way are ended.
    """

    def __init__(self) -> None:
        self.is_unready = False
        self.closes = False
        self.refuses = False
        self.ends = False
        self._until: float | None = None

    def set_limit(self, seconds: float) -> None:
        """From now on the process has *seconds* to live."""
        self._until = time.monotonic() + seconds

    def seconds_left(self, most: float) -> float:
        """What is left of the limit, or *most* where that is less, or where no limit is set."""
        return most if self._until is None else max(0.0, min(most, self._until - time.monotonic()))

    def require_open(self) -> None:
        """Raise Draining for a request that comes too late."""
        if self.refuses:
            raise Draining("This process takes no new requests: send it again, over a new connection.")

    @staticmethod
    def ended() -> Draining:
        """What a request is told that could not end in time."""
        return Draining("This process has to end: send it again, over a new connection.")

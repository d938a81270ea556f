"""Tokens and signatures that prove nothing, by address: after too many of them only known ones are heard."""

from typing import Final

from gateway.domain.errors import RateLimited
from gateway.transfer.ports import Clock
from gateway.web.rate_table import RateTable

_MINUTE: Final = 60.0


class BadProofs:
    """Counts those of both doors.

    Args:
        most_per_minute: from one address; 0 bounds nothing.
        clock: seconds that never go back.
    """

    def __init__(self, most_per_minute: float, clock: Clock) -> None:
        self._table = RateTable(most_per_minute / _MINUTE, most_per_minute, clock)

    def __len__(self) -> int:
        return len(self._table)

    def note(self, address: str) -> None:
        """One more came from *address*."""
        self._table.spend(address)

    def require_heard(self, address: str, *, is_known: bool) -> None:
        """Refuse a proof from *address* where too many bad ones came from, unless it *is_known* to be good.

        Raises:
            RateLimited
        """
        wait = self._table.wait_seconds(address)
        if wait and not is_known:
            detail = "Too many bad tokens or signatures came from this address."
            raise RateLimited(detail, retry_after_seconds=wait)

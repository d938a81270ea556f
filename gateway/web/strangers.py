"""Bodies that are read before it is known who sends them: the fields of forms whose signature is among them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.domain.errors import Overloaded
from gateway.transfer.memory_budget import Lease, MemoryBudget

MOST: Final = 128
MOST_PER_ADDRESS: Final = 32
RETRY_SECONDS: Final = 1.0


class Strangers:
    """Counts those bodies and what they hold, by the addresses that they come from. Nothing queues.

    Args:
        memory: its owners are addresses.
    """

    def __init__(self, memory: MemoryBudget) -> None:
        self._memory = memory
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of_address.total()

    @contextmanager
    def receiving(self, address: str) -> Iterator[Lease]:
        """Receive a body from *address* while the block runs; what is kept of it is to be held by the lease.

        Raises:
            Overloaded: the address, or this process, receives as many as it may.
        """
        if self._of_address.get(address, 0) >= MOST_PER_ADDRESS:
            raise _too_many(f"Your address has {MOST_PER_ADDRESS} forms under way whose fields have not come.")
        if len(self) >= MOST:
            raise _too_many(f"This server has {MOST} forms under way whose fields have not come.")
        self._of_address[address] += 1
        try:
            with self._memory.open(address) as lease:
                yield lease
        finally:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]


def _too_many(detail: str) -> Overloaded:
    return Overloaded(detail, retry_after_seconds=RETRY_SECONDS)

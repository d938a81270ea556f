"""Gives the heap back to the kernel when a burst is over: malloc keeps it, which is right only as long as it lasts."""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.malloc import give_back_free_memory

EVERY_SECONDS: Final = 1.0
QUIET_LOOKS: Final = 5
"""So often in a row little must be in use before a burst is over."""
LITTLE_BYTES: Final = 4 << 20
WORTH_BYTES: Final = 32 << 20
"""What the process must have grown by since the last time."""
_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = resource.getpagesize()


class HeapWatch:
    """Looks each second at how much is in use; ``run`` runs as long as the process serves.

    Args:
        used_bytes: what bodies and all else that is counted hold now.
    """

    def __init__(self, used_bytes: Callable[[], int]) -> None:
        self._used_bytes = used_bytes
        self._quiet_looks = 0
        self._at_rest_bytes = _resident_bytes()

    async def run(self) -> None:
        """Look each second until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Give memory back if a burst is over. Beside the loop: freeing hundreds of megabytes takes its time."""
        self._quiet_looks = self._quiet_looks + 1 if self._used_bytes() <= LITTLE_BYTES else 0
        if self._quiet_looks < QUIET_LOOKS or _resident_bytes() - self._at_rest_bytes < WORTH_BYTES:
            return
        await asyncio.to_thread(give_back_free_memory)
        self._at_rest_bytes = _resident_bytes()
        self._quiet_looks = 0


def _resident_bytes() -> int:
    """0 where there is no /proc: then nothing ever grows."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0

"""Python's cyclic garbage collector, told once at start that what is there stays.

Without this a full collection looks at every object of every module each time, 72 ms in which the event loop serves
nobody, and collections take 6 % of the CPU of small uploads; with it 2 ms and 0.5 %.
"""

import gc
from typing import Final

_NEW_OBJECTS: Final = 5_000
"""So many more than were freed make a collection of the youngest; bodies are never in cycles and do not wait for it."""


def leave_what_stays() -> None:
    """Keep the collector from looking again at anything that exists now, and make it look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
